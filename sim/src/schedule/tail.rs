//! The tails of the swarm: rare runs that are larger, longer or stranger than the usual ones.
//!
//! Most errors show in small worlds, which are fast. Some need more than a small world has: a
//! request of more than 64 KiB, a ring of 1,024, a sector beyond the first 4 GiB, the eighth power
//! loss, the thousandth request of a life. One run in nine is of such a kind. The costly
//! kinds are rarer than the cheap ones.

use super::parameters::{Options, Since};
use crate::base::choose::{Choose, Ratio, Site};
use crate::dut::MAX_QUEUES;
use crate::guest::wire::feature;

/// A kind of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Most runs: small and short.
    Usual,
    /// Thousands of requests in few lives.
    Ageing,
    /// Requests of more than 64 KiB, in up to 40 pieces.
    Large,
    /// Rings of 2 or of 64 to 1,024 descriptors, with up to 128 requests in flight.
    Deep,
    /// Eight queues.
    ManyQueues,
    /// A sparse disk whose sectors lie around a power of two.
    Sparse,
    /// Four to eight crashes.
    ManyCrashes,
    /// Frequent resets and lifecycle events.
    ManyResets,
    /// Write-back without FLUSH, and lives that end in every way.
    RowE,
    /// A host that cannot discard or write zeroes, always or from some time on.
    Unsupported,
    /// Steady streams of requests.
    Stream,
    /// A guest that changes requests after their publication.
    Altered,
}

/// The kinds but [`Tail::Usual`], each with its number of runs in [`RUNS`].
const TAILS: [(Tail, u32); 11] = [
    (Tail::Ageing, 2),
    (Tail::Large, 8),
    (Tail::Deep, 6),
    (Tail::ManyQueues, 32),
    (Tail::Sparse, 48),
    (Tail::ManyCrashes, 24),
    (Tail::ManyResets, 16),
    (Tail::RowE, 104),
    (Tail::Unsupported, 64),
    (Tail::Stream, 24),
    (Tail::Altered, 112),
];
const RUNS: u32 = 4096;

impl Tail {
    /// Draws the kind of a run.
    pub(super) fn draw<C: Choose>(choose: &mut C) -> Tail {
        // Low numbers are usual runs: a tape that has ended yields zeroes.
        let mut left = RUNS - 1 - choose.below(RUNS, Site::Option);
        for (tail, runs) in TAILS {
            if left < runs {
                return tail;
            }
            left -= runs;
        }
        Tail::Usual
    }

    /// Makes the options of a usual run those of a run of this kind.
    pub(super) fn apply<C: Choose>(self, options: &mut Options, choose: &mut C) {
        let mut draw = |n: u32| choose.below(n, Site::Option);
        let shape = &mut options.shape;
        let spec = &mut shape.spec;
        match self {
            Tail::Usual => {}
            Tail::Ageing => {
                options.requests = 1500 + draw(1000);
                // Versions of one sector in flight cost the oracle the square of their number.
                options.spread = spec.disk.capacity;
                options.chase = Ratio::NEVER;
                if options.lifecycle.possible() {
                    options.lifecycle = Ratio::new(1, 256);
                }
                options.crashes = 1;
                options.mix.flush = options.mix.flush.max(4);
            }
            Tail::Large => {
                one_device(options);
                let shape = &mut options.shape;
                let spec = &mut shape.spec;
                (shape.memory, shape.max_sectors) = (1 << 20, 160);
                (spec.disk.capacity, spec.disk.spare) = ([160, 240][draw(2) as usize], 0);
                spec.queues = 1;
                spec.ring_size = [64, 128][draw(2) as usize];
                spec.max_segment_sectors = [64, spec.disk.capacity][draw(2) as usize];
                spec.max_segments = [3, 33, 64][draw(3) as usize];
                options.spread = spec.disk.capacity;
                options.requests = 8 + draw(6);
                options.crashes = 1;
            }
            Tail::Deep => {
                one_device(options);
                let shape = &mut options.shape;
                let spec = &mut shape.spec;
                shape.memory = 1 << 20;
                shape.max_sectors = 1 + draw(2);
                spec.ring_size = [2, 64, 128, 256, 1024][draw(5) as usize];
                spec.queues = spec.queues.min(2);
                spec.disk.depth = [1, 4, 64, 128][draw(4) as usize];
                // Versions in flight on one sector cost the oracle the square of their number.
                (spec.disk.capacity, spec.disk.spare) = (120, 0);
                options.spread = spec.disk.capacity;
                options.requests = 150 + draw(150);
                options.crashes = 1;
                // The guest is faster than device and host together.
                options.haste = 40;
            }
            Tail::ManyQueues => {
                one_device(options);
                let shape = &mut options.shape;
                shape.spec.queues = MAX_QUEUES as u16;
                shape.spec.offer |= feature::MQ;
                shape.max_sectors = 1;
            }
            Tail::Sparse => {
                // 4 GiB and 2 TiB lie inside or next to the sectors in use; a host's offsets end at
                // 2 to the 63 bytes.
                let firsts = [(1 << 23) - 8, (1 << 32) - 8, (1 << 54) - 256];
                spec.disk.first = firsts[draw(3) as usize];
            }
            Tail::ManyCrashes => {
                options.crashes = 4 + draw(5);
                options.requests = options.crashes * (4 + draw(12));
            }
            Tail::ManyResets => {
                options.reset = Ratio::new(1, 6);
                if options.lifecycle.possible() {
                    options.lifecycle = Ratio::new(1, 6);
                }
                options.requests = 100;
            }
            Tail::RowE => {
                spec.offer |= feature::FLUSH | feature::CONFIG_WCE;
                spec.disk.read_only = false;
                options.flushless = true;
                options.toggle = Ratio::new(1, 6);
                options.kill = Ratio::new(3, 4);
                options.crashes = 2 + draw(2);
                // Row E is rare, and so are discards and zeroes in flight under it at any end.
                options.mix.discard += 4;
                options.mix.zeroes += 4;
                options.mix.id += 1;
                options.reset = Ratio::new(1, 24);
                options.lifecycle = Ratio::new(1, 20);
                spec.offer |= feature::DISCARD | feature::WRITE_ZEROES | feature::RING_RESET;
                spec.record = true;
                if spec.queues == 1 && draw(2) == 0 {
                    spec.queues = 2;
                    spec.offer |= feature::MQ;
                }
                shape.max_sectors = shape.max_sectors.min(2);
            }
            Tail::Unsupported => {
                let since = [Since::Never, Since::Always, Since::Later];
                options.no_discard = since[draw(3) as usize];
                options.no_zeroes = since[1 + draw(2) as usize];
                spec.offer |= feature::DISCARD | feature::WRITE_ZEROES;
                options.mix.zeroes += 3;
                options.mix.discard += 1;
                shape.host_may_fail = true;
            }
            Tail::Stream => options.stream = true,
            Tail::Altered => {
                options.alter = Ratio::new(1, 3);
                // A device in motion may read a request again, and so may a successor.
                options.lifecycle = Ratio::NEVER;
                options.malformation = Ratio::NEVER;
                spec.offer |= feature::DISCARD | feature::WRITE_ZEROES;
                options.mix.zeroes += 3;
                options.mix.discard += 1;
                options.mix.write += 4;
                options.crashes = options.crashes.min(2);
            }
        }
    }
}

/// A world of one device, which has the whole memory and medium.
fn one_device(options: &mut Options) {
    options.shape.devices = 1;
    options.shape.spec.disk.devices = 1;
}
