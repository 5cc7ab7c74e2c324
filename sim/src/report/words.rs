//! Words for a status, a malformation, and the features of a life.

use powerfail_model::Rule;

use crate::dut::Spec;
use crate::guest::Kind;
use crate::guest::Malformation;
use crate::guest::wire::Status;
use crate::guest::wire::feature::{CONFIG_WCE, FLUSH};
use crate::guest::wire::memory::SHMEM_REGION;

/// A status in the specification's words.
pub(super) fn status_name(status: Status) -> String {
    match status {
        Status::OK => "ok".to_owned(),
        Status::IOERR => "IOERR".to_owned(),
        Status::UNSUPP => "UNSUPP".to_owned(),
        Status(other) => format!("status {other:#x}"),
    }
}

/// The malformation of a request, as a suffix of its name.
pub(super) fn malformed(malformation: Malformation) -> String {
    match malformation {
        Malformation::None => String::new(),
        Malformation::ShortData(bytes) => format!(", {bytes} bytes short"),
        Malformation::ExtraData(bytes) => format!(", with {bytes} bytes of data"),
        Malformation::SectorSet => ", with a sector".to_owned(),
        Malformation::ShortHeader => ", short header".to_owned(),
        Malformation::NoStatus => ", no status byte".to_owned(),
        Malformation::StatusFirst => ", status before data".to_owned(),
        Malformation::Loop => ", descriptors in a loop".to_owned(),
        Malformation::NextOutOfRange => ", next out of range".to_owned(),
        Malformation::BeyondLimits => ", beyond the device's limits".to_owned(),
    }
}

/// The accepted features that decide the promise of a completion, and the cache mode if it is not
/// write-back, each preceded by a space.
pub(super) fn features(accept: u64, spec: &Spec, kind: Kind) -> String {
    if kind == Kind::Memory {
        let shared = accept & SHMEM_REGION != 0;
        return if shared { " SHMEM_REGION".to_owned() } else { String::new() };
    }
    let mut words = Vec::new();
    for (bit, name) in [(FLUSH, "FLUSH"), (CONFIG_WCE, "CONFIG_WCE")] {
        if accept & bit != 0 {
            words.push(name.to_owned());
        } else if spec.offer & bit != 0 {
            words.push(format!("no {name}"));
        }
    }
    if accept & CONFIG_WCE != 0 && (accept & FLUSH == 0 || !spec.writeback) {
        words.push("writeback 0".to_owned());
    }
    if words.is_empty() {
        " (FLUSH not offered)".to_owned()
    } else {
        format!(" {}", words.join(", "))
    }
}

/// Whether a rule is about the loss of a stable write.
pub(super) fn is_loss(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::StableWriteLost
            | Rule::WriteThroughLost
            | Rule::FlushlessWriteLost
            | Rule::FlushedStoreLost
    )
}

/// The name of a device's atoms.
pub(super) fn unit_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Disk => "sector",
        Kind::Memory => "word",
    }
}
