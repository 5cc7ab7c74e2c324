//! A server under attack, and its invariants: it lives, the next correct client is served, and it
//! keeps no additional host resources.

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

/// Configurations of the server, used in turn; each has at least two queues.
const WAYS: [&[&str]; 4] = [
    &["--queues", "2"],
    &["--queues", "2", "--direct"],
    &["--queues", "4", "--cache", "writethrough"],
    &["--queues", "3"],
];

/// Bits of a seed that number the attack within one life of a server; the bits above number the
/// life.
const ATTACKS: u32 = 20;

/// Growth in KiB that is allowed late in a server's life: for this build, and for another build,
/// whose sanitizer keeps freed memory.
const MORE_KIB: usize = 8 << 10;
const MORE_KIB_ELSEWHERE: usize = 64 << 10;

/// Seconds that an attack lasts, and the seed it begins with.
pub(crate) struct Campaign {
    seconds: u64,
    begun: Instant,
    seed: u64,
}

impl Campaign {
    /// The campaign of the environment variables, or a short one.
    pub(crate) fn new() -> Campaign {
        let seconds = times("POWERFAIL_ATTACK_SECONDS", 20).into();
        let seed = times("POWERFAIL_ATTACK_SEED", 0).into();
        Campaign { seconds, begun: Instant::now(), seed }
    }

    /// Attacks servers until time is up: calls `attack` with one seed after another. The server
    /// must still serve afterwards.
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

/// Prints the seed of an attack that panics.
struct Named<'a>(&'a Watch);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", self.0.named("said above"));
        }
    }
}

/// Counts of all lives.
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
    /// Its host resources without a connection.
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
            assert!(begun.elapsed() < right::TIMEOUT, "{name}: {way:?} is not served");
            assert_eq!(child.try_wait().unwrap(), None, "{name}: {way:?} is not served");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let level = Footprint::of(child.id());
        let (slowest, resident) = (Duration::ZERO, Vec::new());
        let mut watch =
            Watch { name: name.to_owned(), way, place, child, level, slowest, resident, seed: 0 };
        watch.serve_right_client();
        // All threads run by now, but the correct client's connection may still be closing.
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
        // The next check notices a dead server.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// Checks the invariants after an attack.
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
            self.fail(&format!("a correct client is not served: {error}"));
        }
        self.slowest = self.slowest.max(begun.elapsed());
    }

    /// Waits for a condition.
    fn until<T>(&self, what: &str, is_so: impl Fn(&Watch) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = is_so(self) {
                return found;
            }
            if begun.elapsed() > right::TIMEOUT {
                let (level, now) = (self.level, Footprint::of(self.child.id()));
                self.fail(&format!("{what}: {now:?} after {level:?}, {}", self.descriptors()));
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Ends the server by SIGTERM, in the middle of a conversation.
    fn end(mut self) {
        let _connected = self.connect();
        self.signal(Signal::TERM);
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > right::TIMEOUT {
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

    /// The open descriptors of the server.
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
        // The server may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
