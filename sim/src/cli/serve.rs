//! `powerfail serve`: a file as a disk for a guest in another process, over vhost-user.
//!
//! Invalid input is refused before anything is changed: a socket with a listener, a file that is
//! being served, an invalid size.
//!
//! A broken log neither stops the server nor changes how it ends: see `log`.

mod log;
mod place;
mod socket;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use powerfail_device::host::vhost_user::{
    Event, Grower, MOST_QUEUES, QueueDisk, ServeError, Server, Stopper,
};
use powerfail_device::host::{Access, FileDisk, Growth, OpenError, Shown, UringDisk};
use powerfail_device::{Config, wire};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook::iterator::Signals;

use super::{PASSED, USAGE, VIOLATED};
use log::{Log, Topic};
use place::Created;
use socket::Bound;

/// The wait for a locked file before it counts as in use.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// The socket to listen on. A stale socket, without a listener, is replaced. Every process that
    /// may connect gets the disk, one front-end at a time, each for as long as it stays connected.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The file or block device to serve; its size is a multiple of 512 bytes. It is locked, with
    /// QEMU's locks as well, and a block device must not be mounted.
    #[arg(long, value_name = "PATH")]
    file: PathBuf,
    /// Number of request queues, each with its own thread.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_QUEUES)))]
    queues: u16,
    /// Refuse writes. The file may have other readers, but no writer.
    #[arg(long, conflicts_with = "create")]
    readonly: bool,
    /// Bypass the host's page cache.
    #[arg(long)]
    direct: bool,
    /// The cache mode at the start of a guest.
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    cache: Cache,
    /// The disk's serial number, at most 20 bytes.
    #[arg(long, value_name = "ID", value_parser = serial)]
    serial: Option<Serial>,
    /// Create the file first, sparse, of this size: 64M, 1G or a number of bytes. It must not
    /// exist. The file and its name are stable before the socket exists.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    create: Option<u64>,
}

/// When a write is stable.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Cache {
    /// A write is stable once it was flushed.
    #[default]
    Writeback,
    /// A write is stable when it completes.
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

/// Serves until a signal arrives, then waits for the log.
///
/// # Errors
/// One line: the log has no thread. Other errors are logged, with exit code 2.
pub(super) fn run(args: &ServeArgs) -> Result<u8, String> {
    let log = Log::start().map_err(|e| format!("no thread for the log: {e}"))?;
    let code = open_and_serve(args, &log).unwrap_or_else(|why| {
        log.say(why);
        USAGE
    });
    log.finish();
    Ok(code)
}

fn open_and_serve(args: &ServeArgs, log: &Log) -> Result<u8, String> {
    // Ignored, so that a file size limit is an errno of the write instead of the end of the
    // server.
    let beyond_a_limit = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGXFSZ, beyond_a_limit).map_err(|e| format!("signals: {e}"))?;
    let stale = socket::is_stale(&args.socket)?;
    let mut created = place::prepare(&args.file, args.create)?;
    let access = Access { read_only: args.readonly, direct: args.direct };
    let queues = 0..args.queues;
    match patiently(|| UringDisk::open(&args.file, access)) {
        Ok(disk) => {
            let lanes: Result<_, _> = queues.map(|_| disk.lane()).collect();
            let lanes = lanes.map_err(|e| e.to_string())?;
            serve(args, log, stale, &mut created, lanes, disk.growth())
        }
        Err(OpenError::Uring(_, error)) if !args.direct => {
            log.say(format_args!("no io_uring ({error}): one request of a queue at a time"));
            let disk = patiently(|| FileDisk::open(&args.file, args.readonly));
            let disk = disk.map_err(|e| e.to_string())?;
            let lanes: Result<_, _> = queues.map(|_| disk.lane()).collect();
            let lanes = lanes.map_err(|e| e.to_string())?;
            serve(args, log, stale, &mut created, lanes, disk.growth())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Opens a file that another server may have held a moment ago. The host keeps the file of a killed
/// server locked until its submitted operations have ended; a server started right after it waits
/// for that.
fn patiently<D>(open: impl Fn() -> Result<D, OpenError>) -> Result<D, OpenError> {
    let begun = Instant::now();
    loop {
        match open() {
            Err(OpenError::InUse(_) | OpenError::Locked(_) | OpenError::Busy(_))
                if begun.elapsed() < LOCK_TIMEOUT =>
            {
                std::thread::park_timeout(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

/// Serves until a signal arrives. Only `created` was changed before this call.
fn serve<D: QueueDisk>(
    args: &ServeArgs,
    log: &Log,
    stale: bool,
    created: &mut Created,
    lanes: Vec<D>,
    growth: Growth,
) -> Result<u8, String> {
    let (file, socket) = (Shown(&args.file), Shown(&args.socket));
    let config = Config {
        writeback: matches!(args.cache, Cache::Writeback),
        serial: args.serial.unwrap_or(Config::default().serial),
        // The maximum: a front-end chooses the size, and only the used part takes memory.
        queue_size: 1 << 15,
        ..Config::default()
    };
    let sectors = lanes[0].limits().capacity / wire::SECTOR;
    let events = log.clone();
    let report = Box::new(move |event| events.mention(topic(&event), event));
    let mut server = Server::new(config, lanes, report).map_err(|e| e.to_string())?;

    heed_signals(server.stopper(), server.grower(), growth, file.to_string(), log.clone())?;
    let (listener, bound) = Bound::bind(&args.socket, stale)?;
    created.keep();
    // A panic in one thread must not leave a guest waiting without end.
    let panics = log.clone();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.to_string();
        panics.last_words(text.lines().collect::<Vec<_>>().join(" "));
        std::process::abort();
    }));
    log.say(format_args!("{file} ({sectors} sectors) is served on {socket}"));
    let ended = server.run(listener);
    drop(bound);
    match ended {
        Ok(()) => Ok(PASSED),
        Err(error @ (ServeError::Sync(_) | ServeError::SyncFailed)) => {
            log.say(format_args!("{file}: {error}"));
            Ok(VIOLATED)
        }
        Err(error) => Err(error.to_string()),
    }
}

fn topic(event: &Event) -> Topic {
    match event {
        Event::Connected(_) | Event::Gone(_) => Topic::Connections,
        _ => Topic::Rest,
    }
}

/// Ends the server at SIGINT, SIGTERM and SIGHUP. At SIGUSR1 checks whether the file has grown.
fn heed_signals(
    stopper: Stopper,
    grower: Grower,
    growth: Growth,
    file: String,
    log: Log,
) -> Result<(), String> {
    let heeded = [SIGINT, SIGTERM, SIGHUP, SIGUSR1];
    let mut signals = Signals::new(heeded).map_err(|e| format!("signals: {e}"))?;
    let heed = move || {
        for signal in signals.forever() {
            if signal == SIGUSR1 {
                log.mention(
                    Topic::Rest,
                    format_args!("{file}{}", announce_growth(&growth, &grower)),
                );
            } else {
                stopper.stop();
            }
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(heed).map_err(|e| format!("signals: {e}"))?;
    Ok(())
}

/// Checks whether the file has grown, grows the disk, and returns the result as the end of a log
/// line.
fn announce_growth(growth: &Growth, grower: &Grower) -> String {
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
