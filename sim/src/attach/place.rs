//! The folder of an attached backend: its sockets and its output.
//!
//! It is named after this process, so that the next one can remove what a killed one has left.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::leftovers::{self, Listed};

/// The beginning of a folder's name; the number of the process and a number of its own follow.
const NAMED: &str = "powerfail-attach-";

/// A folder that is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    _listed: Listed,
}

impl Place {
    /// Makes an empty folder.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn new() -> io::Result<Place> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        static CLEARED: Once = Once::new();
        let all = std::env::temp_dir();
        CLEARED.call_once(|| clear(&all));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = all.join(format!("{NAMED}{}-{number}", std::process::id()));
        let ((), listed) = leftovers::folder(&path, || fs::create_dir(&path))?;
        Ok(Place { path, _listed: listed })
    }

    /// The path of a file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the folders of processes that have ended.
fn clear(all: &Path) {
    let entries = fs::read_dir(all).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(NAMED)?.split('-').next());
        let owner = owner.and_then(|owner| owner.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            let _ = leftovers::unmount(&entry.path().join("disk"));
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
