//! Files that may be anything, and files that are there whole or not at all.
//!
//! What is read was named by a person, and may be a device without an end, a pipe without a writer or
//! a folder. It is opened without waiting, looked at, and read up to a limit.
//!
//! What is written is written under a name of its own that nobody else has, made stable, and then
//! moved to where it belongs. A process that ends at any moment leaves what was there before or the
//! new file, and two processes that write in one folder do not meet. A link that lies at the temporary
//! name is not followed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::leftovers::{self, Listed};

/// Opens a regular file without waiting for anybody. `flags` are further ones of the host.
///
/// # Errors
/// It cannot be opened, or is something else.
pub(crate) fn open_regular(path: &Path, options: &mut OpenOptions, flags: i32) -> io::Result<File> {
    // A pipe without a writer would keep `open` waiting, and a terminal would become ours.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | flags;
    let file = options.custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// Reads a whole regular file of at most so many bytes.
///
/// # Errors
/// One line with its name, that calls it no `kind` if it is too large.
pub(crate) fn read(path: &Path, most: u64, kind: &str) -> Result<Vec<u8>, String> {
    let file = open_regular(path, OpenOptions::new().read(true), 0);
    let file = file.map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    read_open(&file, path, most, kind)
}

/// The same, of a file that is open and at its beginning.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_open(
    file: &File,
    path: &Path,
    most: u64,
    kind: &str,
) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let read = file.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|e| format!("cannot read {shown}: {e}"))?;
    if bytes.len() as u64 > most {
        return Err(format!("{shown} is no {kind}: it is larger than {most} bytes"));
    }
    Ok(bytes)
}

/// As [`read`], of a file that is text.
///
/// # Errors
/// As [`read`]; or the first byte that is no text.
pub(crate) fn read_text(path: &Path, most: u64, kind: &str) -> Result<String, String> {
    String::from_utf8(read(path, most, kind)?).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        format!("{} is no {kind}: byte {at} is not text", path.display())
    })
}

/// A file under a name of its own. It is removed when dropped, unless it was moved to its place.
#[derive(Debug)]
pub(crate) struct Part {
    path: PathBuf,
    file: File,
    placed: bool,
    _listed: Listed,
}

impl Part {
    /// Makes an empty one in the folder of `place`.
    ///
    /// # Errors
    /// What the host says.
    pub(crate) fn beside(place: &Path) -> io::Result<Part> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let process = std::process::id();
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = place.with_file_name(format!(".powerfail-{process}-{number}.part"));
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            match leftovers::file(&path, || options.open(&path)) {
                Ok((file, listed)) => {
                    return Ok(Part { path, file, placed: false, _listed: listed });
                }
                // Of a process that was killed, or of one that is called the same elsewhere.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes what belongs into it and makes that stable.
    ///
    /// # Errors
    /// What the host says.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_all()
    }

    /// Moves it to its place, over what is there.
    ///
    /// # Errors
    /// What the host says.
    pub(crate) fn replace(mut self, place: &Path) -> io::Result<()> {
        if let Ok(found) = place.metadata() {
            // Whoever may read the old one may read the new one; where that cannot be kept, so be it.
            let _ = self.file.set_permissions(found.permissions());
        }
        fs::rename(&self.path, place)?;
        self.placed = true;
        settle(place);
        Ok(())
    }

    /// Moves it to its place, or from there to another one, if nothing is there.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`], and then it can be tried elsewhere; or what the host says.
    pub(crate) fn place(&mut self, place: &Path) -> io::Result<()> {
        match renameat_with(CWD, &self.path, CWD, place, RenameFlags::NOREPLACE) {
            // Not every file system can do that; a second name does not replace either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                fs::hard_link(&self.path, place)?;
                fs::remove_file(&self.path)?;
            }
            moved => moved?,
        }
        place.clone_into(&mut self.path);
        self.placed = true;
        settle(place);
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.placed {
            // It is only litter.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the name of a file stable. A folder that cannot be synced has no better to offer.
pub(crate) fn settle(place: &Path) {
    let folder = place.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Ok(folder) = File::open(folder.unwrap_or(Path::new("."))) {
        let _ = folder.sync_all();
    }
}

/// Writes a file, whole or not at all, over what is there.
///
/// # Errors
/// One line.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let write = || {
        let mut part = Part::beside(path)?;
        part.fill(bytes)?;
        part.replace(path)
    };
    write().map_err(|e| format!("cannot write {}: {e}", path.display()))
}

/// Writes a file where there is none, whole or not at all.
///
/// # Errors
/// One line; nothing that was there is touched.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let shown = path.display();
    let exists = || format!("{shown} exists, and writing it would overwrite it: name another file");
    if path.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let write = || {
        let mut part = Part::beside(path)?;
        part.fill(bytes)?;
        part.place(path)
    };
    write().map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => exists(),
        _ => format!("cannot write {shown}: {e}"),
    })
}

/// A checksum of bytes behind others that had the checksum `before`: FNV-1a, of 64 bits.
pub(crate) fn checksum(before: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(before, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// The checksum of nothing.
pub(crate) const CHECKSUM: u64 = 0xcbf2_9ce4_8422_2325;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_replaces_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a");
        write_new(&path, b"one").expect("nothing is there");
        let said = write_new(&path, b"two").expect_err("something is there");
        assert!(said.contains("a exists") && said.contains("name another file"), "{said}");
        let mut part = Part::beside(&path).expect("a name of its own");
        part.fill(b"three").expect("there is room");
        let taken = part.place(&path).expect_err("it was taken meanwhile");
        assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
        part.place(&dir.path().join("b")).expect("nothing is there");
        drop(part);
        assert_eq!(fs::read(&path).expect("it is there"), b"one");
        assert_eq!(fs::read(dir.path().join("b")).expect("it is there"), b"three");
        write_whole(&path, b"four").expect("it is replaced");
        assert_eq!(fs::read(&path).expect("it is there"), b"four");
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 2, "no litter");
    }

    #[test]
    fn the_checksum_is_the_one_that_others_have() {
        assert_eq!(checksum(CHECKSUM, b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(checksum(checksum(CHECKSUM, b"foo"), b"bar"), checksum(CHECKSUM, b"foobar"));
    }

    #[test]
    fn what_has_no_end_is_not_read() {
        let said = |path: &str| read(Path::new(path), 10, "poem").expect_err("not a file");
        assert!(said("/dev/zero").ends_with("it is not a regular file"));
        assert!(said("/").ends_with("it is not a regular file"));
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a");
        fs::write(&path, [7; 11]).expect("a file");
        let said = read(&path, 10, "poem").expect_err("too large");
        assert!(said.ends_with("is no poem: it is larger than 10 bytes"), "{said}");
        assert_eq!(read(&path, 11, "poem").expect("small enough").len(), 11);
    }
}
