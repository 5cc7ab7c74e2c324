//! Kinds of requests within a scope.

use std::fmt;
use std::str::FromStr;

use powerfail_model::Segment;

use crate::guest::Kind;
use crate::guest::wire::request;
use crate::guest::{GuestRequest, RangeKind, Segments};

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKind {
    /// Writes a range, or stores to words.
    Out,
    /// Makes completed writes stable.
    Flush,
    /// Zeroes a range.
    WriteZeroes,
    /// Discards a range.
    Discard,
    /// Zeroes a range and allows the device to unmap it.
    Unmap,
    /// Reads a range, or loads words. The final contents are read back in any case.
    In,
    /// Reads the serial number.
    Id,
}

impl RequestKind {
    /// All kinds with their names.
    pub const ALL: [(RequestKind, &'static str); 7] = [
        (RequestKind::Out, "out"),
        (RequestKind::Flush, "flush"),
        (RequestKind::WriteZeroes, "write-zeroes"),
        (RequestKind::Discard, "discard"),
        (RequestKind::Unmap, "unmap"),
        (RequestKind::In, "in"),
        (RequestKind::Id, "id"),
    ];
}

impl RequestKind {
    /// Whether a persistent memory has this kind.
    pub(crate) fn is_of_memory(&self) -> bool {
        matches!(self, RequestKind::Out | RequestKind::Flush | RequestKind::In)
    }
}

impl fmt::Display for RequestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(RequestKind::ALL.iter().find(|kind| kind.0 == *self).map_or("", |kind| kind.1))
    }
}

impl FromStr for RequestKind {
    type Err = String;

    fn from_str(text: &str) -> Result<RequestKind, String> {
        let found = RequestKind::ALL.iter().find(|kind| kind.1 == text.replace('_', "-"));
        found.map(|kind| kind.0).ok_or_else(|| {
            let names: Vec<&str> = RequestKind::ALL.iter().map(|kind| kind.1).collect();
            format!("there is no kind of request `{text}`; there are {}", names.join(", "))
        })
    }
}

/// A request of a kind for a range of sectors or words. `None` if the device has no such kind.
pub(super) fn ask(kind: Kind, what: RequestKind, first: u32, count: u32) -> Option<GuestRequest> {
    let sector = u64::from(first);
    let segments = |flags: u32| {
        let mut segments = Segments::NONE;
        segments.push(Segment { sector, sectors: count, flags });
        segments
    };
    Some(match (kind, what) {
        (Kind::Disk, RequestKind::Out) => GuestRequest::Out { sector, sectors: count },
        (Kind::Disk, RequestKind::In) => GuestRequest::In { sector, sectors: count },
        (Kind::Disk, RequestKind::WriteZeroes) => {
            GuestRequest::Ranges(RangeKind::WriteZeroes, segments(0))
        }
        (Kind::Disk, RequestKind::Unmap) => {
            GuestRequest::Ranges(RangeKind::WriteZeroes, segments(request::UNMAP))
        }
        (Kind::Disk, RequestKind::Discard) => GuestRequest::Ranges(RangeKind::Discard, segments(0)),
        (Kind::Disk, RequestKind::Id) => GuestRequest::GetId,
        (Kind::Memory, RequestKind::Out) => GuestRequest::Store { word: first, words: count },
        (Kind::Memory, RequestKind::In) => GuestRequest::Load { word: first, words: count },
        (
            Kind::Memory,
            RequestKind::WriteZeroes | RequestKind::Unmap | RequestKind::Discard | RequestKind::Id,
        ) => {
            return None;
        }
        (_, RequestKind::Flush) => GuestRequest::Flush,
    })
}
