//! `powerfail serve`: a file as a disk for a guest in another process, over vhost-user.
//!
//! Everything that can be refused is refused before anything is changed: a socket somebody listens
//! on, a file somebody serves, a size that makes no sense.
//!
//! Whatever happens to its log, the server goes on and ends as it should: see `log`.

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

/// How long a file may be locked before it counts as somebody else's.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// The socket to listen on. One that nobody listens on any more is replaced. Whoever may
    /// connect to it has the disk, one front-end at a time and for as long as it stays connected.
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// The file or block device that is the disk; its size is a multiple of 512 bytes. It is
    /// locked, also as QEMU's programs do, and a block device must not be mounted.
    #[arg(long, value_name = "PATH")]
    file: PathBuf,
    /// How many request queues, each with a thread of its own.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_QUEUES)))]
    queues: u16,
    /// Take no writes. The file may have other readers, but no writer.
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
    /// Make the file first, with holes only, of this size: 64M, 1G or a number of bytes. It must
    /// not exist, and is stable with its name before the socket is there.
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

/// Serves until a signal comes, and has told what there was to tell.
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
    // A file that may not grow is an errno of the host's then, and not the end of the server.
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

/// Opens a file that a server may have left a moment ago. What a killed server gave the host goes
/// on after its death, and the host keeps the file locked for so long; a server that is started at
/// once waits for that.
fn patiently<D>(open: impl Fn() -> Result<D, OpenError>) -> Result<D, OpenError> {
    let begun = Instant::now();
    loop {
        match open() {
            Err(OpenError::InUse(_) | OpenError::Locked(_) | OpenError::Busy(_))
                if begun.elapsed() < PATIENCE =>
            {
                std::thread::park_timeout(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

/// Serves until a signal comes. Nothing was changed before this but what was `created`.
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
        // The largest there is: a front-end chooses the size, and only what is used takes memory.
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
    // A thread that finds one of our own mistakes must not leave a guest waiting for ever.
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

/// Ends the server at SIGINT, SIGTERM and SIGHUP. At SIGUSR1 it looks whether the file has grown.
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
                log.mention(Topic::Rest, format_args!("{file}{}", style(&growth, &grower)));
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
fn style(growth: &Growth, grower: &Grower) -> String {
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
