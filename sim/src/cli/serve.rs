//! `powerfail serve`: a file as a disk for a guest in another process, over vhost-user.
//!
//! Everything that can be refused is refused before anything is changed: a socket somebody listens on, a file somebody serves, a size that
//! makes no sense.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use powerfail_device::host::FileDisk;
use powerfail_device::host::vhost_user::{MOST_QUEUES, Memory, ServeError, Server};
use powerfail_device::{Config, Disk, wire};
use rustix::fs::{FlockOperation, flock};

use super::{PASSED, VIOLATED};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// The socket to listen on. One that nobody listens on any more is replaced.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The file or block device that is the disk; its size is a multiple of 512 bytes.
    #[arg(long, value_name = "PATH")]
    file: PathBuf,
    /// How many request queues, each with a thread of its own.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_QUEUES)))]
    queues: u16,
    /// Take no writes.
    #[arg(long, conflicts_with = "create")]
    readonly: bool,
    /// The cache mode a guest starts with.
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    cache: Cache,
    /// What the guest sees as the disk's serial, at most 20 bytes.
    #[arg(long, value_name = "ID", value_parser = serial)]
    serial: Option<Serial>,
    /// Make the file first, with holes only, of this size: 64M, 1G or a number of bytes. It must not exist.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    create: Option<u64>,
}

/// When a write is stable.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Cache {
    /// When it was flushed.
    #[default]
    Writeback,
    /// When it completes.
    Writethrough,
}

type Serial = [u8; wire::ID_BYTES];

fn serial(text: &str) -> Result<Serial, String> {
    let mut serial = Serial::default();
    let place = serial.get_mut(..text.len());
    let place = place.ok_or(format!("{} bytes, but a serial has at most 20", text.len()))?;
    place.copy_from_slice(text.as_bytes());
    Ok(serial)
}

fn size(text: &str) -> Result<u64, String> {
    let unit = text.trim_end_matches(|c: char| c.is_ascii_digit()).chars().last();
    let shift = match unit.map(|unit| unit.to_ascii_uppercase()) {
        None => 0,
        Some('K') => 10,
        Some('M') => 20,
        Some('G') => 30,
        Some('T') => 40,
        Some(_) => return Err("a size is a number, and K, M, G or T".to_owned()),
    };
    let digits = text.strip_suffix(unit.map_or_else(String::new, String::from).as_str());
    let number: u64 = digits
        .unwrap_or(text)
        .parse()
        .map_err(|_| "a size is a number, and K, M, G or T".to_owned())?;
    let bytes = number.checked_mul(1 << shift).filter(|bytes| i64::try_from(*bytes).is_ok());
    match bytes {
        None => Err("no file is that large".to_owned()),
        Some(0) => Err("a disk has at least one sector".to_owned()),
        Some(bytes) if !bytes.is_multiple_of(wire::SECTOR) => {
            Err("a disk is a whole number of 512-byte sectors".to_owned())
        }
        Some(bytes) => Ok(bytes),
    }
}

pub(super) fn run(args: &ServeArgs) -> Result<u8, String> {
    let socket = &args.socket;
    let stale = is_stale(socket)?;
    let (mut created, file) = open(args)?;
    // Whoever has the lock has the file alone, or shares it with other readers.
    let _lock = lock(&args.file, file, args.readonly)?;
    let disk = FileDisk::open(&args.file, args.readonly).map_err(|e| e.to_string())?;
    let config = Config {
        writeback: matches!(args.cache, Cache::Writeback),
        serial: args.serial.unwrap_or(Config::default().serial),
        ..Config::default()
    };
    let sectors = Disk::<Memory>::limits(&disk).capacity / wire::SECTOR;
    let lanes = (0..args.queues).map(|_| disk.lane()).collect();
    let report = Box::new(|event| eprintln!("powerfail: {event}"));
    let mut server = Server::new(config, lanes, report).map_err(|e| e.to_string())?;

    let stopper = server.stopper();
    ctrlc::set_handler(move || stopper.stop()).map_err(|e| format!("signals: {e}"))?;
    if stale {
        fs::remove_file(socket).map_err(|e| format!("{}: {e}", socket.display()))?;
    }
    let listener = UnixListener::bind(socket).map_err(|e| format!("{}: {e}", socket.display()))?;
    created.keep();
    // A thread that finds one of our own mistakes must not leave a guest waiting for ever.
    std::panic::set_hook(Box::new(|info| {
        eprintln!("powerfail: {info}");
        std::process::abort();
    }));
    let (file, socket_name) = (args.file.display(), socket.display());
    eprintln!("powerfail: {file} ({sectors} sectors) is served on {socket_name}");
    let ended = server.run(listener);
    // Somebody else may have tidied up already.
    let _ = fs::remove_file(socket);
    match ended {
        Ok(()) => Ok(PASSED),
        Err(error @ ServeError::Sync(_)) => {
            eprintln!("powerfail: {file}: {error}");
            Ok(VIOLATED)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Whether a socket is there that nobody listens on.
fn is_stale(socket: &Path) -> Result<bool, String> {
    let shown = socket.display();
    match fs::symlink_metadata(socket) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(format!("{shown}: {error}")),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(format!("{shown} is not a socket: choose another path"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(socket) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(format!("{shown}: {error}"))
        }
        _ => Err(format!("{shown} is in use by another server")),
    }
}

/// A file that was made here, and is taken away again if nothing comes of it.
struct Created(Option<PathBuf>);

impl Created {
    fn keep(&mut self) {
        self.0 = None;
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // The error that led here is the one to tell.
            let _ = fs::remove_file(path);
        }
    }
}

/// Opens the file, which is made first if that was asked for.
fn open(args: &ServeArgs) -> Result<(Created, File), String> {
    let shown = args.file.display();
    let mut options = OpenOptions::new();
    options.read(true).write(!args.readonly);
    let Some(size) = args.create else {
        let file = options.open(&args.file).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("{shown} does not exist: --create SIZE makes it"),
            _ => format!("{shown}: {error}"),
        })?;
        return Ok((Created(None), file));
    };
    let file = options.create_new(true).open(&args.file).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => format!("{shown} exists already: leave out --create"),
        _ => format!("{shown}: {error}"),
    })?;
    let created = Created(Some(args.file.clone()));
    file.set_len(size).map_err(|error| format!("{shown}: {error}"))?;
    file.sync_all().map_err(|error| format!("{shown}: {error}"))?;
    Ok((created, file))
}

/// Locks the file for as long as what is returned is open.
fn lock(path: &Path, file: File, shared: bool) -> Result<File, String> {
    let how = if shared {
        FlockOperation::NonBlockingLockShared
    } else {
        FlockOperation::NonBlockingLockExclusive
    };
    match flock(&file, how) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(format!("{} is in use by another server", path.display()))
        }
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_with_a_unit() {
        assert_eq!(size("512"), Ok(512));
        assert_eq!(size("64M"), Ok(64 << 20));
        assert_eq!(size("1g"), Ok(1 << 30));
        for wrong in ["", "M", "513", "0", "0G", "1Q", "-1M", "1MM", "9000000T", "1.5G"] {
            assert!(size(wrong).is_err(), "{wrong} is no size");
        }
    }
}
