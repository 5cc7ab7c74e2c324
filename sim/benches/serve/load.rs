//! Load on a daemon: requests of 4 KiB at random offsets, at a fixed depth, for a fixed time.

use std::time::{Duration, Instant};

use crate::BYTES;
use crate::daemon::Daemon;
use crate::guest::{EVENT_IDX, Guest, GuestRequest, PIECE};

/// FLUSH and CONFIG_WCE: a guest that accepts neither has its writes written through.
const CACHED: u64 = 1 << 9 | 1 << 11;

/// One kind of load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    writes: bool,
    /// A flush follows every this many requests; 0 means none.
    flush_every: u64,
    /// The guest does not accept FLUSH, so every write is stable when it is answered.
    through: bool,
    depth: usize,
}

impl Load {
    const READS: Load = Load { writes: false, flush_every: 0, through: false, depth: 1 };
    const WRITES: Load = Load { writes: true, ..Load::READS };

    pub(crate) const ALL: [Load; 8] = [
        Load::READS,
        Load { depth: 32, ..Load::READS },
        Load::WRITES,
        Load { depth: 32, ..Load::WRITES },
        Load { flush_every: 8, ..Load::WRITES },
        Load { flush_every: 8, depth: 32, ..Load::WRITES },
        Load { through: true, ..Load::WRITES },
        Load { through: true, depth: 32, ..Load::WRITES },
    ];

    /// Whether the peer supports the load: it writes through only with another option.
    pub(crate) fn has_peer(self) -> bool {
        !self.through
    }

    pub(crate) fn name(self) -> String {
        let what = if self.writes { "write" } else { "read" };
        let flushes = if self.flush_every > 0 { ", flush every 8" } else { "" };
        let through = if self.through { ", written through" } else { "" };
        format!("{what} 4 KiB{flushes}{through}, depth {}", self.depth)
    }
}

/// The result of one measurement.
pub(crate) struct Sample {
    requests: u64,
    time: Duration,
    cpu: Duration,
}

impl Sample {
    /// Requests per second.
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.time.as_secs_f64()
    }

    /// CPU time of the daemon per request, in microseconds.
    pub(crate) fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests as f64
    }
}

/// The requests of a load in order: a full period of a linear congruence, so no block repeats
/// before all were used.
struct Requests {
    load: Load,
    block: u64,
    count: u64,
}

impl Requests {
    fn following(&mut self) -> GuestRequest {
        self.count += 1;
        if self.load.flush_every > 0 && self.count.is_multiple_of(self.load.flush_every + 1) {
            return GuestRequest::Flush;
        }
        self.block = (self.block * 5 + 3) % (BYTES / PIECE as u64);
        let offset = self.block * PIECE as u64;
        if self.load.writes { GuestRequest::Write(offset) } else { GuestRequest::Read(offset) }
    }
}

/// Keeps `load` running for about `time`.
pub(crate) fn run(daemon: &Daemon, load: Load, time: Duration) -> Result<Sample, String> {
    let features = if load.through { EVENT_IDX & !CACHED } else { EVENT_IDX };
    let guest = Guest::connect(daemon.socket(), features, 1);
    let mut guest = guest.map_err(|error| format!("no connection: {error}"))?;
    let mut requests = Requests { load, block: 7, count: 0 };
    for slot in 0..load.depth {
        guest.submit(0, slot, requests.following());
    }
    guest.kick(0);
    let (begun, cpu) = (Instant::now(), daemon.cpu());
    let (mut done, mut out) = (0, load.depth);
    while out > 0 {
        let goes_on = begun.elapsed() < time;
        for (slot, status) in guest.wait(0).map_err(|error| format!("no answer: {error}"))? {
            if status != 0 {
                return Err(format!("a request failed with {status}"));
            }
            done += 1;
            out -= 1;
            if goes_on {
                guest.submit(0, slot, requests.following());
                out += 1;
            }
        }
        guest.kick(0);
    }
    Ok(Sample { requests: done, time: begun.elapsed(), cpu: daemon.cpu() - cpu })
}
