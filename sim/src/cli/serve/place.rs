//! The served file: checks that it exists, and `--create`.
//!
//! A created file and its name are stable before the server starts. The file is removed again if
//! the server does not start.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use powerfail_device::host::Shown;

/// A created file, removed on drop unless it was kept.
#[derive(Debug)]
pub(super) struct Created(Option<(PathBuf, Id)>);

/// Device and inode.
type Id = (u64, u64);

fn id(found: &fs::Metadata) -> Id {
    (found.dev(), found.ino())
}

impl Created {
    /// Keeps the file.
    pub(super) fn keep(&mut self) {
        self.0 = None;
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        let Some((path, made)) = &self.0 else { return };
        if fs::symlink_metadata(path).is_ok_and(|found| id(&found) == *made) {
            // The error that led here is the one to report.
            let _ = fs::remove_file(path);
        }
    }
}

/// Checks that the file exists or, if a size is given, creates it as a sparse file.
///
/// # Errors
/// One line: the file does not exist, exists already, or cannot be created.
pub(super) fn prepare(path: &Path, size: Option<u64>) -> Result<Created, String> {
    let shown = Shown(path);
    let Some(size) = size else {
        return match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let why = dangling(path).map(|link| format!("{link}: name another file"));
                Err(why
                    .or_else(|| missing_folder(path))
                    .unwrap_or_else(|| format!("{shown} does not exist: --create SIZE creates it")))
            }
            // Opening it checks the rest.
            _ => Ok(Created(None)),
        };
    };
    let file = File::create_new(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => taken(path),
        io::ErrorKind::NotFound => {
            missing_folder(path).unwrap_or_else(|| format!("{shown}: {error}"))
        }
        _ => format!("{shown}: {error}"),
    })?;
    let made = file.metadata().map_err(|error| format!("{shown}: {error}"))?;
    let created = Created(Some((path.to_owned(), id(&made))));
    file.set_len(size).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => format!(
            "{shown}: cannot create a file of {size} bytes ({error}); see the limits of the file \
             system and of this process (`ulimit -f`)"
        ),
        _ => format!("{shown}: cannot create a file of {size} bytes ({error})"),
    })?;
    file.sync_all()
        .and_then(|()| sync_name(path, &file))
        .map_err(|error| format!("{shown}: cannot sync the new file ({error})"))?;
    Ok(created)
}

/// Makes the name of a new file stable, which a sync of the file alone does not.
fn sync_name(path: &Path, file: &File) -> io::Result<()> {
    let synced = File::open(folder(path)).and_then(|folder| folder.sync_all());
    match synced.map_err(|error| (error.kind(), error)) {
        // A folder that can be searched and written but not read, or a file system that cannot sync
        // folders.
        Err((io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput, _)) => {
            Ok(rustix::fs::syncfs(file)?)
        }
        Err((_, error)) => Err(error),
        Ok(()) => Ok(()),
    }
}

/// The folder that a path is in.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The error line if the folder of a path is missing.
pub(super) fn missing_folder(path: &Path) -> Option<String> {
    let folder = folder(path);
    let missing = fs::metadata(folder).is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
    missing.then(|| {
        format!("{}: the folder {} does not exist: create it first", Shown(path), Shown(folder))
    })
}

/// The error line for a dangling symbolic link.
fn dangling(path: &Path) -> Option<String> {
    let target = fs::read_link(path).ok()?;
    let missing = fs::metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
    missing.then(|| {
        format!("{} is a symbolic link to {}, which does not exist", Shown(path), Shown(&target))
    })
}

/// The error line for a file that exists and was to be created.
fn taken(path: &Path) -> String {
    let shown = Shown(path);
    if let Some(link) = dangling(path) {
        return format!("{link}, and --create follows no link: name the file itself");
    }
    match fs::metadata(path).map(|found| found.file_type()) {
        Ok(kind) if !kind.is_file() && !kind.is_block_device() => {
            format!("{shown} exists already, and is not a file: name another")
        }
        _ => format!("{shown} exists already: leave out --create"),
    }
}
