//! Every disk of a Linux host does what the seam says, and what only hosts do: bounds, opening,
//! locking, going away.
#![cfg(target_os = "linux")]
#![allow(unreachable_pub, reason = "a test program exports nothing")]

mod body;
mod claiming;
mod hosts;
mod opening;
mod rings;

use body::conforms;
use hosts::{KINDS, OnHost, scratch};

#[test]
fn disks_of_the_host_conform() {
    for kind in KINDS {
        println!("{kind:?}");
        let place = scratch();
        let path = place.path().join("disk");
        // A subject goes before the next one opens the file.
        let mut subjects = 0..;
        conforms(|| {
            let path = path.with_extension(subjects.next().expect("endless").to_string());
            OnHost::new(kind, &path, 64 * 4096)
        });
    }
}
