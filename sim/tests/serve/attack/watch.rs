//! A server under attack, and what must hold throughout: it lives, the next right client is served,
//! and nothing of the host's is kept.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::right;
use crate::daemon::{Footprint, Place};
use crate::judged::times;

/// Bytes of the disk.
const DISK: u64 = 64 << 20;

/// The ways it is served, one after the other; each has at least two queues.
const WAYS: [&[&str]; 4] = [
    &["--queues", "2"],
    &["--queues", "2", "--direct"],
    &["--queues", "4", "--cache", "writethrough"],
    &["--queues", "3"],
];

/// How many seeds belong to one life of a server: the bits below say which attack of that life it
/// is.
const ATTACKS: u32 = 20;

/// Memory in KiB that a server may have gained late in its life: our own, and one that was built
/// otherwise, whose sanitizer remembers much.
const MORE_KIB: usize = 8 << 10;
const MORE_KIB_ELSEWHERE: usize = 64 << 10;

/// Seconds that an attack lasts, and the seed it begins with.
pub(crate) struct Campaign {
    seconds: u64,
    begun: Instant,
    seed: u64,
}

impl Campaign {
    /// As the environment says, or a short one.
    pub(crate) fn new() -> Campaign {
        let seconds = times("POWERFAIL_ATTACK_SECONDS", 20).into();
        let seed = times("POWERFAIL_ATTACK_SEED", 0).into();
        Campaign { seconds, begun: Instant::now(), seed }
    }

    /// Attacks servers until time is up: `attack` is called with a seed again and again, and is to
    /// leave a server that serves.
    pub(crate) fn run(&mut self, name: &str, mut attack: impl FnMut(&Watch, u64)) {
        let lives = WAYS.len() as u64;
        let mut counted = Counted::default();
        for life in 1..=lives {
            let until = Duration::from_secs(self.seconds * life / lives);
            let mut watch = Watch::begin(name, WAYS[(self.seed >> ATTACKS) as usize % WAYS.len()]);
            while self.begun.elapsed() < until {
                watch.seed = self.seed;
                let named = Named(&watch);
                attack(named.0, self.seed);
                drop(named);
                watch.check();
                self.seed += 1;
            }
            counted.add(&watch);
            watch.end();
            self.seed = ((self.seed >> ATTACKS) + 1) << ATTACKS;
        }
        println!("{name}: {counted:?}");
    }
}

/// Names the seed of an attack that finds something wrong by itself.
struct Named<'a>(&'a Watch);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.0.named("said above"));
        }
    }
}

/// What all lives came to.
#[derive(Debug, Default)]
struct Counted {
    attacks: usize,
    slowest_right_client: Duration,
    memory_kib: Vec<(usize, usize)>,
}

impl Counted {
    fn add(&mut self, watch: &Watch) {
        self.attacks += watch.resident.len();
        self.slowest_right_client = self.slowest_right_client.max(watch.slowest);
        self.memory_kib.extend(watch.resident.first().copied().zip(watch.resident.last().copied()));
    }
}

/// A server, from its first client to its last.
pub(crate) struct Watch {
    name: String,
    way: &'static [&'static str],
    pub(crate) place: Place,
    child: Child,
    /// What it has of the host's when nobody is connected.
    level: Footprint,
    slowest: Duration,
    /// Memory after each attack, in KiB.
    resident: Vec<usize>,
    seed: u64,
}

impl Watch {
    fn begin(name: &str, way: &'static [&'static str]) -> Watch {
        let place = Place::new(DISK);
        let log = fs::File::create(place.path().join("log")).unwrap();
        let mut child = place.command(way).stderr(Stdio::from(log)).spawn().unwrap();
        let begun = Instant::now();
        while UnixStream::connect(place.socket()).is_err() {
            assert!(begun.elapsed() < right::PATIENCE, "{name}: {way:?} is not served");
            assert_eq!(child.try_wait().unwrap(), None, "{name}: {way:?} is not served");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let level = Footprint::of(child.id());
        let (slowest, resident) = (Duration::ZERO, Vec::new());
        let mut watch =
            Watch { name: name.to_owned(), way, place, child, level, slowest, resident, seed: 0 };
        watch.serve_right_client();
        // All threads run by now, but the connection of the right client may be there still.
        watch.level = Footprint::of(watch.child.id());
        for _ in 0..50 {
            std::thread::park_timeout(Duration::from_millis(1));
            let now = Footprint::of(watch.child.id());
            watch.level.descriptors = watch.level.descriptors.min(now.descriptors);
        }
        watch
    }

    pub(crate) fn connect(&self) -> UnixStream {
        UnixStream::connect(self.place.socket())
            .unwrap_or_else(|error| self.fail(&error.to_string()))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // One that has died is found by the next check.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Looks whether everything is as it should be after an attack.
    fn check(&mut self) {
        self.serve_right_client();
        let level = self.level;
        let settled =
            self.until("it keeps descriptors or threads of clients that are gone", |watch| {
                let now = Footprint::of(watch.child.id());
                let level = now.descriptors <= level.descriptors && now.threads <= level.threads;
                level.then_some(now)
            });
        self.resident.push(settled.resident);
        let size = fs::metadata(self.place.disk()).unwrap().len();
        assert_eq!(size, DISK, "{}", self.named("the disk has changed its size"));
    }

    fn serve_right_client(&mut self) {
        let begun = Instant::now();
        if let Err(error) = right::client(self.connect(), self.seed + 1) {
            self.fail(&format!("a right client is not served: {error}"));
        }
        self.slowest = self.slowest.max(begun.elapsed());
    }

    /// Waits for something to be so.
    fn until<T>(&self, what: &str, is_so: impl Fn(&Watch) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = is_so(self) {
                return found;
            }
            if begun.elapsed() > right::PATIENCE {
                let (level, now) = (self.level, Footprint::of(self.child.id()));
                self.fail(&format!("{what}: {now:?} after {level:?}, {}", self.descriptors()));
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Ends it by SIGTERM, in the middle of a conversation.
    fn end(mut self) {
        let _connected = self.connect();
        self.signal(Signal::TERM);
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > right::PATIENCE {
                self.fail("SIGTERM does not end it");
            }
            std::thread::park_timeout(Duration::from_millis(1));
        };
        assert_eq!(status.code(), Some(0), "{}", self.named(&ended(status)));
        let (early, late) = self.resident.split_at(self.resident.len().div_ceil(4));
        let largest = |part: &[usize]| part.iter().copied().max().unwrap_or(0);
        let (early, late) = (largest(early), largest(late));
        let elsewhere = std::env::var_os("POWERFAIL_SERVER").is_some();
        let more = if elsewhere { MORE_KIB_ELSEWHERE } else { MORE_KIB };
        assert!(late <= early + more, "{}", self.named(&format!("{late} KiB after {early}")));
    }

    /// What its descriptors are.
    fn descriptors(&self) -> String {
        let open = fs::read_dir(format!("/proc/{}/fd", self.child.id())).into_iter().flatten();
        let mut names: Vec<String> = open
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok())
            .map(|path| path.display().to_string())
            .collect();
        names.sort();
        names.join(", ")
    }

    fn named(&self, what: &str) -> String {
        let log = fs::read(self.place.path().join("log")).unwrap_or_default();
        let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(3000)..]).into_owned();
        let Watch { name, way, seed, .. } = self;
        format!("{name} {way:?}, POWERFAIL_ATTACK_SEED={seed}: {what}; it said last:\n{tail}")
    }

    fn fail(&self, what: &str) -> ! {
        panic!("{}", self.named(what))
    }
}

fn ended(status: ExitStatus) -> String {
    format!("SIGTERM ends it with {status}")
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
