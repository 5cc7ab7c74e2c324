//! Conformance of every disk of a Linux host, and tests of properties that only hosts have: bounds,
//! opening, locking, disconnection.
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
        // A subject is dropped before the next one opens the file.
        let mut subjects = 0..;
        conforms(|| {
            let path = path.with_extension(subjects.next().expect("endless").to_string());
            OnHost::new(kind, &path, 64 * 4096)
        });
    }
}
