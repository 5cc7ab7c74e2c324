//! Single things in words: a status, a spoiled request, the features of a life.

use powerfail_model::Rule;

use crate::dut::Spec;
use crate::guest::Kind;
use crate::guest::Mischief;
use crate::guest::wire::feature::{CONFIG_WCE, FLUSH};
use crate::guest::wire::memory::SHMEM_REGION;

/// A status in the specification's words.
pub(super) fn status_name(status: u8) -> String {
    match status {
        0 => "ok".to_owned(),
        1 => "IOERR".to_owned(),
        2 => "UNSUPP".to_owned(),
        other => format!("status {other:#x}"),
    }
}

/// How a request is spoiled, as it goes on behind it.
pub(super) fn spoiled(mischief: Mischief) -> String {
    match mischief {
        Mischief::None => String::new(),
        Mischief::Ragged(bytes) => format!(", {bytes} bytes short"),
        Mischief::ShortHeader => ", short header".to_owned(),
        Mischief::NoStatus => ", no status byte".to_owned(),
        Mischief::StatusFirst => ", status before data".to_owned(),
        Mischief::Loop => ", in a circle".to_owned(),
        Mischief::Dangling => ", end missing".to_owned(),
    }
}

/// The features that decide what a completion promises, as far as they are accepted, and the cache
/// mode where that is not write-back, each with a space before it.
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

/// Whether a rule is about a write that was stable and is not there.
pub(super) fn is_loss(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::StableWriteLost
            | Rule::WriteThroughLost
            | Rule::FlushlessWriteLost
            | Rule::FlushedStoreLost
    )
}

/// What the atoms of a device are called.
pub(super) fn unit_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Disk => "sector",
        Kind::Memory => "word",
    }
}
