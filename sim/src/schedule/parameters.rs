//! The parameters of a run: what is drawn, how often, and in which world.
//!
//! Not here: how they are drawn themselves ([`options`](super::options)).

use crate::base::choose::{Choose, Ratio, Site};
use crate::guest::Kind;
use crate::guest::wire::{feature, memory};
use crate::world::WorldShape;

/// The weights of the request types; at least one is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Reads.
    pub read: u32,
    /// Writes.
    pub write: u32,
    /// Flushes.
    pub flush: u32,
    /// Discards.
    pub discard: u32,
    /// Write-zeroes.
    pub zeroes: u32,
    /// Reads of the serial number.
    pub id: u32,
}

/// The options of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The world that the run is done in. Its host may fail iff `fail` or `fail_sync` is possible.
    pub shape: WorldShape,
    /// The guest uses the first `spread` sectors or words of each device.
    pub spread: u32,
    /// The number of requests in the workload, without recovery reads.
    pub requests: u32,
    /// The number of crashes during the workload.
    pub crashes: u32,
    /// How often a crash is a backend kill instead of a power loss. The last crash is a power loss
    /// if none was before.
    pub kill: Ratio,
    /// The mix of requests.
    pub mix: Mix,
    /// How often a read covers the range of a write in flight.
    pub chase: Ratio,
    /// How often a request is invalid or malformed on purpose.
    pub malformation: Ratio,
    /// How often a head is published twice.
    pub again: Ratio,
    /// How often the guest changes a request after its publication.
    pub alter: Ratio,
    /// How often the guest writes `writeback` instead of sending a request.
    pub toggle: Ratio,
    /// How often the guest resets a device instead of sending a request.
    pub reset: Ratio,
    /// How often a [`Lifecycle`](crate::dut::lifecycle::Lifecycle) event begins between two steps.
    pub lifecycle: Ratio,
    /// How often the driver refuses an offered feature, per feature bit.
    pub refuse: Ratio,
    /// Whether chains have every legal layout, or only a plain one.
    pub layouts: bool,
    /// How often a host operation lands in parts before it completes.
    pub parts: Ratio,
    /// How often a sync fails.
    pub fail_sync: Ratio,
    /// How often another operation fails.
    pub fail: Ratio,
    /// How often a transfer is short.
    pub short: Ratio,
    /// How often an operation is refused for now.
    pub transient: Ratio,
    /// How often the host writes back or evicts between two steps.
    pub write_back: Ratio,
    /// The most steps of a queue's thread at a time.
    pub burst: u32,
    /// The weight of the guest against 5 each of a thread and the host.
    pub haste: u32,
    /// Whether the driver refuses FLUSH and accepts CONFIG_WCE.
    pub flushless: bool,
    /// Since when the host does not support discards.
    pub no_discard: Since,
    /// Since when the host does not support writing zeroes.
    pub no_zeroes: Since,
    /// Whether the guest sometimes sends a steady stream of requests.
    pub stream: bool,
    /// Ring indices at the start of each life, if the device supports that: 0, or close to the
    /// wrap.
    pub base: u16,
}

/// The usual [`haste`](Options::haste) of a guest: slightly more than a thread and the host have.
pub(super) const HASTE: u32 = 6;

/// Since when a host does not support an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// It supports it.
    Never,
    /// From the start of the run.
    Always,
    /// From some operation on.
    Later,
}

impl Options {
    /// The options of a run in this world in which nothing unusual is drawn: no request, no crash,
    /// no fault, plain chains, one step of a queue's thread at a time.
    #[must_use]
    pub(crate) fn quiet(shape: WorldShape) -> Options {
        Options {
            shape: WorldShape { host_may_fail: false, ..shape },
            spread: shape.spec.disk.capacity,
            requests: 0,
            crashes: 0,
            kill: Ratio::NEVER,
            mix: Mix { read: 1, write: 0, flush: 0, discard: 0, zeroes: 0, id: 0 },
            chase: Ratio::NEVER,
            malformation: Ratio::NEVER,
            again: Ratio::NEVER,
            alter: Ratio::NEVER,
            toggle: Ratio::NEVER,
            reset: Ratio::NEVER,
            lifecycle: Ratio::NEVER,
            refuse: Ratio::NEVER,
            layouts: false,
            parts: Ratio::NEVER,
            fail_sync: Ratio::NEVER,
            fail: Ratio::NEVER,
            short: Ratio::NEVER,
            transient: Ratio::NEVER,
            write_back: Ratio::NEVER,
            burst: 1,
            haste: HASTE,
            flushless: false,
            no_discard: Since::Never,
            no_zeroes: Since::Never,
            stream: false,
            base: 0,
        }
    }

    /// The same options without host failures and without invalid or malformed requests.
    #[must_use]
    pub(super) fn without_trouble(self) -> Options {
        Options {
            shape: WorldShape { host_may_fail: false, ..self.shape },
            malformation: Ratio::NEVER,
            again: Ratio::NEVER,
            alter: Ratio::NEVER,
            fail_sync: Ratio::NEVER,
            fail: Ratio::NEVER,
            short: Ratio::NEVER,
            transient: Ratio::NEVER,
            no_discard: Since::Never,
            no_zeroes: Since::Never,
            ..self
        }
    }

    /// The options of a world with a persistent memory, without the options that a memory lacks.
    pub(super) fn with_memory<C: Choose>(mut self, kinds: [Kind; 2], choose: &mut C) -> Options {
        let spec = &mut self.shape.spec;
        let disk = &mut spec.disk;
        (disk.read_only, disk.spare) = (false, 0);
        self.mix.flush = self.mix.flush.max(1);
        if kinds == [Kind::Memory; 2] {
            (disk.granule, disk.tear) = (512, 1);
            (disk.discard_granularity, disk.zero_granularity) = (512, 512);
            disk.max_transfer = 1 << 20;
            spec.queues = 1;
            spec.record = false;
            spec.offer &= feature::VERSION_1 | feature::INDIRECT_DESC | feature::EVENT_IDX;
            if choose.below(2, Site::Option) == 0 {
                spec.offer |= memory::SHMEM_REGION;
            }
            (self.lifecycle, self.toggle) = (Ratio::NEVER, Ratio::NEVER);
            // The device serves only flushes.
            self.mix = Mix { discard: 0, zeroes: 0, id: 0, flush: self.mix.flush + 1, ..self.mix };
        } else {
            disk.devices = 2;
            // Two devices have half the memory each.
            let shares = 2 * u32::from(spec.queues);
            let most = [8, 8, 4, 2][shares.min(8) as usize / 2 - 1];
            self.shape.devices = 2;
            self.shape.max_sectors = self.shape.max_sectors.min(most);
        }
        self.shape = self.shape.of_kinds(kinds);
        self
    }
}
