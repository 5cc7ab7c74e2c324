//! Bounded reads of untrusted paths, and atomic writes.
//!
//! A path to read comes from a user, and may lead to an endless device, a pipe without a writer or
//! a folder. It is opened without blocking, its type is checked, and it is read up to a limit.
//!
//! A file is written without a name or under a unique one, synced, and then moved to its place. A
//! process that ends at any moment leaves either the old file or the new one, and two processes
//! that write in one folder do not collide. No link is followed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use powerfail_device::host::Shown;
use rustix::fs::{AtFlags, CWD, RenameFlags, linkat, renameat_with};
use rustix::io::Errno;

use crate::base::leftovers::{self, Listed};

/// Opens a regular file without blocking. `flags` are additional flags for `open`.
///
/// # Errors
/// It cannot be opened, or is not a regular file.
pub(crate) fn open_regular(path: &Path, options: &mut OpenOptions, flags: i32) -> io::Result<File> {
    // A pipe without a writer would block `open`, and a terminal could become the controlling one.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | flags;
    let file = options.custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// One line with its name: it cannot be read, or is too large for a `kind`.
pub(crate) fn read(path: &Path, most: u64, kind: &str) -> Result<Vec<u8>, String> {
    let file = open_regular(path, OpenOptions::new().read(true), 0);
    let file = file.map_err(|e| format!("cannot read {}: {e}", Shown(path)))?;
    read_open(&file, path, most, kind)
}

/// As [`read`], of a file that is open and positioned at its start.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_open(
    file: &File,
    path: &Path,
    most: u64,
    kind: &str,
) -> Result<Vec<u8>, String> {
    let shown = Shown(path);
    let mut bytes = Vec::new();
    let read = file.take(most + 1).read_to_end(&mut bytes);
    read.map_err(|e| format!("cannot read {shown}: {e}"))?;
    if bytes.len() as u64 > most {
        return Err(format!("{shown} is not a {kind}: it is larger than {most} bytes"));
    }
    Ok(bytes)
}

/// As [`read`], of a text file.
///
/// # Errors
/// As [`read`]; or the file is not UTF-8.
pub(crate) fn read_text(path: &Path, most: u64, kind: &str) -> Result<String, String> {
    String::from_utf8(read(path, most, kind)?).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        format!("{} is not a {kind}: byte {at} is not text", Shown(path))
    })
}

/// A file that is not yet in its place. It is removed on drop, unless it was moved there.
///
/// Until then it has no name if the file system supports that, so that even a killed process leaves
/// none. Otherwise it has a unique name.
#[derive(Debug)]
pub(crate) struct Part {
    file: File,
    name: Name,
}

#[derive(Debug)]
enum Name {
    None,
    /// A unique name, listed as a leftover.
    Own(PathBuf, #[expect(dead_code, reason = "it is held")] Listed),
    /// The file is in its place.
    Placed(PathBuf),
}

impl Part {
    /// Creates an empty file in the folder of `place`.
    ///
    /// # Errors
    /// The error of the host.
    pub(crate) fn beside(place: &Path) -> io::Result<Part> {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_TMPFILE).mode(0o666);
        if let Ok(file) = options.open(folder(place)) {
            return Ok(Part { file, name: Name::None });
        }
        Part::named(place)
    }

    fn named(place: &Path) -> io::Result<Part> {
        loop {
            let path = own_name(place);
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            match leftovers::file(&path, || options.open(&path)) {
                Ok((file, listed)) => return Ok(Part { file, name: Name::Own(path, listed) }),
                // Left by a killed process, or made by a process with the same ID elsewhere.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes the content and syncs it.
    ///
    /// # Errors
    /// The error of the host.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_all()
    }

    /// Moves it to its place, replacing the file there.
    ///
    /// # Errors
    /// The error of the host.
    pub(crate) fn replace(mut self, place: &Path) -> io::Result<()> {
        if let Ok(found) = place.metadata() {
            // The new file gets the permissions of the old one, if that is possible.
            let _ = self.file.set_permissions(found.permissions());
        } else if matches!(self.name, Name::None) && self.place(place).is_ok() {
            return Ok(());
        }
        while matches!(self.name, Name::None) {
            // Only a named file can replace another.
            let path = own_name(place);
            match leftovers::file(&path, || self.link(&path)) {
                Ok(((), listed)) => self.name = Name::Own(path, listed),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        if let Name::Own(path, _) | Name::Placed(path) = &self.name {
            fs::rename(path, place)?;
        }
        self.settle(place);
        Ok(())
    }

    /// Moves it to `place`, or from an earlier place to this one, if nothing is there.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`], after which another place can be tried; or another error of
    /// the host.
    pub(crate) fn place(&mut self, place: &Path) -> io::Result<()> {
        match &self.name {
            Name::None => self.link(place)?,
            Name::Own(path, _) | Name::Placed(path) => move_new(path, place)?,
        }
        self.settle(place);
        Ok(())
    }

    /// Gives the file a new name.
    fn link(&self, path: &Path) -> io::Result<()> {
        let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
    }

    fn settle(&mut self, place: &Path) {
        self.name = Name::Placed(place.to_owned());
        settle(place);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Name::Own(path, _) = &self.name {
            // A failure leaves only an unused file.
            let _ = fs::remove_file(path);
        }
    }
}

/// Moves a file to a place where nothing is.
fn move_new(path: &Path, place: &Path) -> io::Result<()> {
    match renameat_with(CWD, path, CWD, place, RenameFlags::NOREPLACE) {
        // Not every file system supports that; a hard link does not replace a file either.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::hard_link(path, place)?;
            fs::remove_file(path)
        }
        moved => moved.map_err(io::Error::from),
    }
}

/// A name next to `place` that this process has not used before.
fn own_name(place: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    place.with_file_name(format!(".powerfail-{process}-{number}.part"))
}

fn folder(place: &Path) -> &Path {
    let folder = place.parent().filter(|parent| !parent.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// Makes the name of a file stable, as far as its folder can be synced.
pub(crate) fn settle(place: &Path) {
    if let Ok(folder) = File::open(folder(place)) {
        let _ = folder.sync_all();
    }
}

/// Writes a file atomically, replacing the one there.
///
/// # Errors
/// One line.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let write = || {
        let mut part = Part::beside(path)?;
        part.fill(bytes)?;
        part.replace(path)
    };
    write().map_err(|e| format!("cannot write {}: {e}", Shown(path)))
}

/// Writes a new file atomically.
///
/// # Errors
/// One line: it exists, and is left as it is, or it cannot be written.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let shown = Shown(path);
    let exists = || format!("{shown} exists and would be overwritten: give another file");
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

/// The FNV-1a checksum, 64 bits, of bytes that follow others with the checksum `before`.
pub(crate) fn checksum(before: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(before, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// The checksum of no bytes.
pub(crate) const CHECKSUM: u64 = 0xcbf2_9ce4_8422_2325;

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways to create a part.
    const WAYS: [fn(&Path) -> io::Result<Part>; 2] = [Part::beside, Part::named];

    #[test]
    fn place_replaces_nothing_and_replace_does() {
        for way in WAYS {
            let dir = tempfile::tempdir().expect("a folder");
            let path = |name| dir.path().join(name);
            let read = |name| fs::read(path(name)).expect("it is there");
            fs::write(path("a"), b"one").expect("a file");
            let mut part = way(&path("a")).expect("a folder to be in");
            part.fill(b"three").expect("there is room");
            for _ in 0..2 {
                let taken = part.place(&path("a")).expect_err("something is there");
                assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
            }
            part.place(&path("b")).expect("nothing is there");
            part.place(&path("c")).expect("nothing is there");
            drop(part);
            assert_eq!((read("a"), read("c")), (b"one".to_vec(), b"three".to_vec()));
            let mut part = way(&path("a")).expect("a folder to be in");
            part.fill(b"four").expect("there is room");
            part.replace(&path("a")).expect("it takes its place");
            let mut part = way(&path("d")).expect("a folder to be in");
            part.fill(b"five").expect("there is room");
            part.replace(&path("d")).expect("there is nothing to replace");
            drop(way(&path("e")).expect("a folder to be in"));
            assert_eq!((read("a"), read("d")), (b"four".to_vec(), b"five".to_vec()));
            assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 3, "no litter");
        }
    }

    #[test]
    fn no_link_is_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        let victim = dir.path().join("victim");
        fs::write(&victim, b"precious").expect("a file");
        let place = dir.path().join("a");
        // Links at the next names, with spare ones for tests that run at the same time.
        let next = own_name(&place).display().to_string();
        let (before, number) = next.trim_end_matches(".part").rsplit_once('-').expect("a number");
        let number: u64 = number.parse().expect("a number");
        for number in number..number + 100 {
            let link = format!("{before}-{number}.part");
            std::os::unix::fs::symlink(&victim, link).expect("a link");
        }
        for way in WAYS {
            let mut part = way(&place).expect("a folder to be in");
            part.fill(b"new").expect("there is room");
            part.replace(&place).expect("it takes its place");
            assert_eq!(fs::read(&place).expect("it is there"), b"new");
        }
        std::os::unix::fs::symlink(&victim, dir.path().join("b")).expect("a link");
        write_whole(&dir.path().join("b"), b"new").expect("the link is replaced");
        assert!(write_new(&dir.path().join("b"), b"new").is_err());
        assert_eq!(fs::read(&victim).expect("it is there"), b"precious");
    }

    #[test]
    fn the_checksum_is_fnv_1a() {
        assert_eq!(checksum(CHECKSUM, b"foobar"), 0x8594_4171_f739_67e8);
        assert_eq!(checksum(checksum(CHECKSUM, b"foo"), b"bar"), checksum(CHECKSUM, b"foobar"));
    }

    #[test]
    fn endless_and_large_files_are_not_read() {
        let said = |path: &str| read(Path::new(path), 10, "poem").expect_err("not a file");
        assert!(said("/dev/zero").ends_with("it is not a regular file"));
        assert!(said("/").ends_with("it is not a regular file"));
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a");
        fs::write(&path, [7; 11]).expect("a file");
        let said = read(&path, 10, "poem").expect_err("too large");
        assert!(said.ends_with("is not a poem: it is larger than 10 bytes"), "{said}");
        assert_eq!(read(&path, 11, "poem").expect("small enough").len(), 11);
    }
}
