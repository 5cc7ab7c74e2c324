//! Registers of an idle disk as its driver sees them: a second implementation, from virtio 1.4,
//! 2.1, 2.2, 2.5, 2.6.1 and 5.2.3 to 5.2.5.

use powerfail_device::{Config, Limits, QueueError, QueueLayout, ResizeError};

const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
/// The device needs a reset.
pub(super) const NEEDS_RESET: u8 = 64;
const FAILED: u8 = 128;

const RO: u64 = 1 << 5;
const FLUSH: u64 = 1 << 9;
const CONFIG_WCE: u64 = 1 << 11;
const MQ: u64 = 1 << 12;
const VERSION_1: u64 = 1 << 32;
const RING_RESET: u64 = 1 << 40;

/// The features that a device may omit: SIZE_MAX, SEG_MAX, BLK_SIZE, FLUSH, TOPOLOGY, CONFIG_WCE,
/// MQ, DISCARD, WRITE_ZEROES, INDIRECT_DESC, EVENT_IDX, RING_RESET, and VERSION_1, without which
/// the configuration is invalid.
pub(super) const OPTIONAL: [u64; 13] = [
    1 << 1,
    1 << 2,
    1 << 6,
    FLUSH,
    1 << 10,
    CONFIG_WCE,
    MQ,
    1 << 13,
    1 << 14,
    1 << 28,
    1 << 29,
    RING_RESET,
    VERSION_1,
];

/// Bytes that are compared: the configuration space, and a few behind its end.
pub(super) const SPACE: usize = 104;

/// The registers.
pub(super) struct Registers {
    config: Config,
    limits: Limits,
    offered: u64,
    accepted: u64,
    negotiated: u64,
    status: u8,
    writeback: bool,
    capacity: u64,
    signal: bool,
    paused: bool,
    moved: bool,
    /// By queue, whether it is placed, and whether validly.
    placed: Vec<Option<bool>>,
    may_break: bool,
    /// The generation and the space at the last access.
    seen: Option<(u32, [u8; SPACE])>,
}

impl Registers {
    pub(super) fn new(config: &Config, limits: &Limits) -> Registers {
        Registers {
            offered: config.features & !RO | if limits.read_only { RO } else { 0 },
            accepted: 0,
            negotiated: 0,
            status: 0,
            writeback: config.writeback,
            capacity: limits.capacity,
            signal: false,
            paused: false,
            moved: false,
            placed: vec![None; config.queues.into()],
            may_break: false,
            seen: None,
            config: config.clone(),
            limits: *limits,
        }
    }

    /// Whether the configuration is valid.
    pub(super) fn is_possible(&self) -> bool {
        let Config { queues, queue_size, .. } = self.config;
        let one_or_many = queues == 1 || queues > 1 && self.offered & MQ != 0;
        // BLK-D-02: "CONFIG_WCE ... MUST also offer" FLUSH. FB-04: VERSION_1. VS-20: a power of
        // two.
        (self.offered & CONFIG_WCE == 0 || self.offered & FLUSH != 0)
            && self.offered & VERSION_1 != 0
            && one_or_many
            && queue_size.is_power_of_two()
            && queue_size >= 2
    }

    pub(super) fn offered(&self) -> u64 {
        self.offered
    }

    pub(super) fn negotiated(&self) -> u64 {
        self.negotiated
    }

    pub(super) fn status_now(&self) -> u8 {
        self.status
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Writes the device status (2.1, ST-02, ST-04, FB-02, FB-05).
    pub(super) fn status(&mut self, value: u8) {
        if value == 0 {
            (self.status, self.accepted, self.negotiated) = (0, 0, 0);
            (self.signal, self.may_break, self.moved) = (false, false, false);
            self.placed.fill(None);
            // `writeback` starts as the device chooses (BLK-D-42); this device starts with the
            // configured value.
            self.writeback = self.config.writeback;
            return;
        }
        self.status |= value & (ACKNOWLEDGE | DRIVER | FAILED);
        let has = |status: u8, bit: u8| status & bit != 0;
        let acceptable = self.accepted & !self.offered == 0 && self.accepted & VERSION_1 != 0;
        if has(value, FEATURES_OK)
            && !has(self.status, FEATURES_OK)
            && has(self.status, DRIVER)
            && acceptable
        {
            self.status |= FEATURES_OK;
            self.negotiated = self.accepted;
            // BLK-D-03: "If CONFIG_WCE is negotiated but FLUSH is not, the device MUST initialize
            // writeback to 0".
            let pinned = self.negotiated & (CONFIG_WCE | FLUSH) == CONFIG_WCE;
            self.writeback = self.config.writeback && !pinned;
        }
        if has(value, DRIVER_OK) && has(self.status, FEATURES_OK) {
            self.status |= DRIVER_OK;
        }
    }

    pub(super) fn accept(&mut self, features: u64) {
        if self.status & FEATURES_OK == 0 {
            self.accepted = features;
        }
    }

    /// The configuration space: the table of 5.2.4, and zero everywhere else (BLK-D-04). It reads
    /// the same at any time (CF-01).
    pub(super) fn space(&self) -> [u8; SPACE] {
        let Config { queues, queue_size, seg_max, size_max, .. } = self.config;
        let blocks = self.limits.granule / 512;
        // Two of the descriptors hold the header and the status.
        let seg_max = seg_max.min(u32::from(queue_size) - 2).max(1);
        let mut space = [0; SPACE];
        for (offset, bytes, value) in [
            (0, 8, self.capacity / 512),
            (8, 4, size_max.into()),
            (12, 4, seg_max.into()),
            (20, 4, 512),
            (24, 1, blocks.ilog2().into()),
            (26, 2, blocks.into()),
            (28, 4, blocks.into()),
            (32, 1, self.writeback.into()),
            (34, 2, queues.into()),
            (36, 4, self.config.max_discard_sectors.into()),
            (40, 4, self.config.max_discard_seg.into()),
            (44, 4, (self.limits.discard_granularity / 512).into()),
            (48, 4, self.config.max_write_zeroes_sectors.into()),
            (52, 4, self.config.max_write_zeroes_seg.into()),
            (56, 1, self.limits.can_discard.into()),
        ] {
            space[offset..offset + bytes].copy_from_slice(&u64::to_le_bytes(value)[..bytes]);
        }
        space
    }

    /// Writes the configuration space. BLK-R-17: the driver may write the cache mode as one byte if
    /// CONFIG_WCE was negotiated, and no other field ever (5.2.4).
    pub(super) fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        if let (32, [value], true) = (offset, bytes, self.negotiated & CONFIG_WCE != 0) {
            // AMB-20.
            self.writeback = *value != 0;
        }
    }

    /// Places a queue (VS-20; MQ, 5.2.2; 2.6.1 for a queue that was reset).
    pub(super) fn set_queue(
        &mut self,
        index: u16,
        layout: QueueLayout,
        by_the_book: bool,
    ) -> Result<(), QueueError> {
        if self.status & FEATURES_OK == 0 {
            return Err(QueueError::NotNow);
        }
        let many = self.negotiated & MQ != 0;
        let most = self.config.queue_size;
        if index > 0 && !many || index >= self.config.queues {
            return Err(QueueError::NoSuchQueue);
        }
        let placed = &mut self.placed[usize::from(index)];
        let again = self.negotiated & RING_RESET != 0 && placed.is_none();
        if self.status & DRIVER_OK != 0 && !again {
            return Err(QueueError::NotNow);
        }
        if layout.size.count_ones() != 1 || layout.size > most {
            return Err(QueueError::Size(layout.size));
        }
        for (at, align) in [(layout.descriptors, 16), (layout.available, 2), (layout.used, 4)] {
            if at % align != 0 {
                return Err(QueueError::Address(at));
            }
        }
        if layout.available == 0 {
            return Err(QueueError::Address(0));
        }
        *placed = Some(by_the_book && placed.is_none_or(|before| before));
        Ok(())
    }

    /// Resets a queue (2.6.1).
    pub(super) fn reset_queue(&mut self, index: u16) -> Result<(), QueueError> {
        if self.status & DRIVER_OK == 0 || self.negotiated & RING_RESET == 0 {
            return Err(QueueError::NotNow);
        }
        let placed = self.placed.get_mut(usize::from(index)).ok_or(QueueError::NoSuchQueue)?;
        if placed.take().is_none() {
            return Err(QueueError::NotNow);
        }
        Ok(())
    }

    /// Whether the driver has made this queue live.
    pub(super) fn is_live(&self, index: u16) -> bool {
        let placed = self.placed.get(usize::from(index)).is_some_and(Option::is_some);
        placed && self.status & DRIVER_OK != 0
    }

    /// Whether stepping the queue has an effect.
    pub(super) fn is_stepped(&self, index: u16) -> bool {
        self.is_live(index) || self.paused && index < self.config.queues
    }

    /// Records a step of a queue: an invalidly placed queue may break, or break its neighbours.
    pub(super) fn stepped(&mut self, index: u16) {
        self.may_break |= self.placed[usize::from(index)] == Some(false);
    }

    pub(super) fn may_break(&self) -> bool {
        self.may_break
    }

    /// Records that another process continues with the device: each queue signals its driver,
    /// because a signal may have been pending.
    pub(super) fn moved(&mut self) {
        (self.paused, self.moved) = (false, true);
    }

    /// Whether a queue may signal without a used buffer: never before DRIVER_OK (ST-01).
    pub(super) fn may_signal(&self, index: u16) -> bool {
        self.is_live(index) && (self.moved || self.may_break)
    }

    /// Resizes the disk (CF-02, CF-05).
    pub(super) fn resize(&mut self, capacity: u64) -> Result<(), ResizeError> {
        if !capacity.is_multiple_of(self.limits.granule.into()) {
            return Err(ResizeError::Unaligned(self.limits.granule));
        }
        if capacity < self.capacity {
            return Err(ResizeError::Shrinks(self.capacity));
        }
        self.signal |= capacity > self.capacity && self.status & DRIVER_OK != 0;
        self.capacity = capacity;
        Ok(())
    }

    pub(super) fn take_signal(&mut self) -> bool {
        std::mem::take(&mut self.signal)
    }

    pub(super) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Compares the generation with the last one. CF-03: a space that reads differently has another
    /// generation.
    pub(super) fn saw(&mut self, generation: u32, space: [u8; SPACE]) {
        assert_eq!(space, self.space(), "the configuration space");
        if let Some((before, old)) = self.seen.replace((generation, space))
            && old != space
        {
            assert_ne!(before, generation, "the space has changed and its generation has not");
        }
    }
}
