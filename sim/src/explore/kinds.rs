//! What a guest may ask for within a scope.

use std::fmt;
use std::str::FromStr;

use powerfail_model::Segment;

use crate::guest::Kind;
use crate::guest::wire::request;
use crate::guest::{GuestRequest, Segments};

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKind {
    /// Write, or store to words.
    Out,
    /// Make completed writes stable.
    Flush,
    /// Zero a range.
    WriteZeroes,
    /// Give a range up.
    Discard,
    /// Zero a range and allow the device to give it up.
    Unmap,
    /// Read, or load words, among the others. What is left in the end is read in any case.
    In,
    /// Ask for the serial number.
    Id,
}

impl RequestKind {
    /// All of them with their names.
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
    /// Whether a persistent memory knows it.
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

/// A request of a kind, about a range of sectors or words. Nothing if the device knows no such
/// kind.
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
        (Kind::Disk, RequestKind::WriteZeroes) => GuestRequest::WriteZeroes(segments(0)),
        (Kind::Disk, RequestKind::Unmap) => GuestRequest::WriteZeroes(segments(request::UNMAP)),
        (Kind::Disk, RequestKind::Discard) => GuestRequest::Discard(segments(0)),
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
