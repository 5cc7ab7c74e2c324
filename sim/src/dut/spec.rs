//! The parameters that a backend is started with, and the features of the devices in this
//! repository.

use std::fmt;
use std::str::FromStr;

use crate::guest::wire::{feature, memory};
use crate::host::disk::DiskShape;

/// Rules that a device is known to break, so that its runs neither provoke nor judge them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waived(u8);

impl Waived {
    /// The guest puts no descriptor before one that refers to a table (2.7.5.3.2).
    pub const MIXED_INDIRECT: Waived = Waived(1);
    /// The guest uses no buffer of zero bytes.
    pub const EMPTY_BUFFERS: Waived = Waived(2);
    /// A used length may be larger than what was written (2.7.8.2, AMB-23).
    pub const USED_LENGTH: Waived = Waived(4);

    /// The guest breaks no ring and sends no malformed chain: a device that cannot say that it
    /// needs a reset (2.1.2) has no right answer.
    pub const BROKEN_RINGS: Waived = Waived(8);

    /// The answer to GET_ID is not compared, because it is not known.
    pub const IDENTITY: Waived = Waived(16);

    const NAMES: [(Waived, &'static str); 5] = [
        (Waived::MIXED_INDIRECT, "mixed-indirect"),
        (Waived::EMPTY_BUFFERS, "empty-buffers"),
        (Waived::USED_LENGTH, "used-length"),
        (Waived::BROKEN_RINGS, "broken-rings"),
        (Waived::IDENTITY, "identity"),
    ];

    /// These and `others`.
    #[must_use]
    pub const fn and(self, others: Waived) -> Waived {
        Waived(self.0 | others.0)
    }

    /// Whether all of `others` are waived.
    #[must_use]
    pub const fn contains(self, others: Waived) -> bool {
        self.0 & others.0 == others.0
    }
}

/// `none`, or names such as `mixed-indirect,empty-buffers`.
impl fmt::Display for Waived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Waived::NAMES.iter().filter(|(waived, _)| self.contains(*waived));
        let names: Vec<&str> = named.map(|(_, name)| *name).collect();
        if names.is_empty() {
            return f.write_str("none");
        }
        f.write_str(&names.join(","))
    }
}

impl FromStr for Waived {
    type Err = String;

    fn from_str(text: &str) -> Result<Waived, String> {
        text.split(',').filter(|_| text != "none").try_fold(Waived::default(), |all, word| {
            let named = Waived::NAMES.iter().find(|(_, name)| *name == word);
            let known = || Waived::NAMES.map(|(_, name)| name).join(", ");
            let (waived, _) =
                named.ok_or_else(|| format!("`{word}` cannot be waived; there are {}", known()))?;
            Ok(all.and(*waived))
        })
    }
}

/// The most queues of one device.
pub const MAX_QUEUES: usize = 8;

/// The parameters of a device: everything a backend needs to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Number of request queues.
    pub queues: u16,
    /// Descriptors in each ring.
    pub ring_size: u16,
    /// The features to offer, if the device can.
    pub offer: u64,
    /// The cache mode at the start: true is write-back.
    pub writeback: bool,
    /// The serial number.
    pub serial: [u8; 20],
    /// The largest segment of a DISCARD or WRITE_ZEROES, in sectors.
    pub max_segment_sectors: u32,
    /// The most segments of a DISCARD or WRITE_ZEROES.
    pub max_segments: u32,
    /// Whether the backend keeps a record of what is in flight, for who comes after it.
    pub record: bool,
    /// The rules that are not tested.
    pub waive: Waived,
    /// The disk below.
    pub disk: DiskShape,
}

/// Everything our device can offer by itself.
pub const ALL_FEATURES: u64 = feature::VERSION_1
    | feature::INDIRECT_DESC
    | feature::EVENT_IDX
    | feature::FLUSH
    | feature::CONFIG_WCE
    | feature::DISCARD
    | feature::WRITE_ZEROES
    | feature::MQ
    | feature::BLK_SIZE
    | feature::SEG_MAX
    | feature::SIZE_MAX
    | feature::TOPOLOGY;

/// Everything our persistent memory can offer.
pub const MEMORY_FEATURES: u64 =
    feature::VERSION_1 | feature::INDIRECT_DESC | feature::EVENT_IDX | memory::SHMEM_REGION;
