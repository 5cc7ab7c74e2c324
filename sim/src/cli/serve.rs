//! `powerfail serve`: a file as a disk for a guest in another process, over vhost-user.
//!
//! Everything that can be refused is refused before anything is changed: a socket somebody listens on, a file somebody serves, a size that
//! makes no sense.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use powerfail_device::host::vhost_user::{
    Grower, MOST_QUEUES, QueueDisk, ServeError, Server, Stopper,
};
use powerfail_device::host::{Access, FileDisk, Growth, OpenError, UringDisk};
use powerfail_device::{Config, wire};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use super::{PASSED, VIOLATED};

/// How long a file may be locked before it counts as somebody else's.
const PATIENCE: Duration = Duration::from_secs(2);

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
    /// Around the host's page cache.
    #[arg(long)]
    direct: bool,
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
    let stale = is_stale(&args.socket)?;
    let mut created = create(args)?;
    let access = Access { read_only: args.readonly, direct: args.direct };
    let queues = 0..args.queues;
    match patiently(|| UringDisk::open(&args.file, access)) {
        Ok(disk) => {
            let lanes: Result<_, _> = queues.map(|_| disk.lane()).collect();
            let lanes = lanes.map_err(|e| e.to_string())?;
            serve(args, stale, &mut created, lanes, disk.growth())
        }
        Err(OpenError::Uring(_, error)) if !args.direct => {
            eprintln!("powerfail: no io_uring ({error}): one request of a queue at a time");
            let disk = patiently(|| FileDisk::open(&args.file, args.readonly));
            let disk = disk.map_err(|e| e.to_string())?;
            let lanes: Result<_, _> = queues.map(|_| disk.lane()).collect();
            let lanes = lanes.map_err(|e| e.to_string())?;
            serve(args, stale, &mut created, lanes, disk.growth())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Opens a file that a server may have left a moment ago. What a killed server gave the host goes on after its death, and the host keeps the
/// file locked for so long; a server that is started at once waits for that.
fn patiently<D>(open: impl Fn() -> Result<D, OpenError>) -> Result<D, OpenError> {
    let begun = Instant::now();
    loop {
        match open() {
            Err(OpenError::InUse(_)) if begun.elapsed() < PATIENCE => {
                std::thread::park_timeout(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

/// Serves until a signal comes. Nothing was changed before this but what was `created`.
fn serve<D: QueueDisk>(
    args: &ServeArgs,
    stale: bool,
    created: &mut Created,
    lanes: Vec<D>,
    growth: Growth,
) -> Result<u8, String> {
    let (file, socket) = (args.file.display(), args.socket.display());
    let config = Config {
        writeback: matches!(args.cache, Cache::Writeback),
        serial: args.serial.unwrap_or(Config::default().serial),
        // The largest there is: a front-end chooses the size, and only what is used takes memory.
        queue_size: 1 << 15,
        ..Config::default()
    };
    let sectors = lanes[0].limits().capacity / wire::SECTOR;
    let report = Box::new(|event| eprintln!("powerfail: {event}"));
    let mut server = Server::new(config, lanes, report).map_err(|e| e.to_string())?;

    heed_signals(server.stopper(), server.grower(), growth, file.to_string())?;
    if stale {
        fs::remove_file(&args.socket).map_err(|e| format!("{socket}: {e}"))?;
    }
    let listener = UnixListener::bind(&args.socket).map_err(|e| format!("{socket}: {e}"))?;
    created.keep();
    // A thread that finds one of our own mistakes must not leave a guest waiting for ever.
    std::panic::set_hook(Box::new(|info| {
        eprintln!("powerfail: {info}");
        std::process::abort();
    }));
    eprintln!("powerfail: {file} ({sectors} sectors) is served on {socket}");
    let ended = server.run(listener);
    // Somebody else may have tidied up already.
    let _ = fs::remove_file(&args.socket);
    match ended {
        Ok(()) => Ok(PASSED),
        Err(error @ (ServeError::Sync(_) | ServeError::SyncFailed)) => {
            eprintln!("powerfail: {file}: {error}");
            Ok(VIOLATED)
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Ends the server at SIGINT, SIGTERM and SIGHUP. At SIGUSR1 it looks whether the file has grown.
fn heed_signals(
    stopper: Stopper,
    grower: Grower,
    growth: Growth,
    file: String,
) -> Result<(), String> {
    let heeded = [SIGINT, SIGTERM, SIGHUP, SIGUSR1];
    let mut signals = Signals::new(heeded).map_err(|e| format!("signals: {e}"))?;
    let heed = move || {
        for signal in signals.forever() {
            if signal == SIGUSR1 {
                eprintln!("powerfail: {file}{}", look(&growth, &grower));
            } else {
                stopper.stop();
            }
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(heed).map_err(|e| format!("signals: {e}"))?;
    Ok(())
}

/// Looks whether the file has grown, and says what came of it.
fn look(growth: &Growth, grower: &Grower) -> String {
    let capacity = match growth.look() {
        Ok(capacity) => capacity,
        Err(error) => return format!(": {error}"),
    };
    match grower.grow(capacity) {
        Ok(true) => format!(" has {} sectors now", capacity / wire::SECTOR),
        Ok(false) => " is as large as it was".to_owned(),
        Err(error) => format!(" has {} sectors now: {error}", capacity / wire::SECTOR),
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

/// Makes the file, if that was asked for.
fn create(args: &ServeArgs) -> Result<Created, String> {
    let shown = args.file.display();
    let Some(size) = args.create else {
        return match fs::metadata(&args.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("{shown} does not exist: --create SIZE makes it"))
            }
            _ => Ok(Created(None)),
        };
    };
    let made = File::create_new(&args.file);
    let file = made.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => format!("{shown} exists already: leave out --create"),
        _ => format!("{shown}: {error}"),
    })?;
    let created = Created(Some(args.file.clone()));
    file.set_len(size).map_err(|error| format!("{shown}: {error}"))?;
    file.sync_all().map_err(|error| format!("{shown}: {error}"))?;
    Ok(created)
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
