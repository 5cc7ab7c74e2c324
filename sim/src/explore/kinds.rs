//! What a guest may ask for within a scope.

use std::fmt;
use std::str::FromStr;

use powerfail_model::Segment;

use crate::guest::Kind;
use crate::guest::wire::request;
use crate::guest::{Ask, Segments};

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AskKind {
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

impl AskKind {
    /// All of them with their names.
    pub const ALL: [(AskKind, &'static str); 7] = [
        (AskKind::Out, "out"),
        (AskKind::Flush, "flush"),
        (AskKind::WriteZeroes, "write-zeroes"),
        (AskKind::Discard, "discard"),
        (AskKind::Unmap, "unmap"),
        (AskKind::In, "in"),
        (AskKind::Id, "id"),
    ];
}

impl AskKind {
    /// Whether a persistent memory knows it.
    pub(crate) fn is_of_memory(&self) -> bool {
        matches!(self, AskKind::Out | AskKind::Flush | AskKind::In)
    }
}

impl fmt::Display for AskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(AskKind::ALL.iter().find(|kind| kind.0 == *self).map_or("", |kind| kind.1))
    }
}

impl FromStr for AskKind {
    type Err = String;

    fn from_str(text: &str) -> Result<AskKind, String> {
        let found = AskKind::ALL.iter().find(|kind| kind.1 == text.replace('_', "-"));
        found.map(|kind| kind.0).ok_or_else(|| {
            let names: Vec<&str> = AskKind::ALL.iter().map(|kind| kind.1).collect();
            format!("there is no kind of request `{text}`; there are {}", names.join(", "))
        })
    }
}

/// A request of a kind, about a range of sectors or words. Nothing if the device knows no such kind.
pub(super) fn ask(kind: Kind, what: AskKind, first: u32, count: u32) -> Option<Ask> {
    let sector = u64::from(first);
    let segments = |flags: u32| {
        let mut segments = Segments::NONE;
        segments.push(Segment { sector, sectors: count, flags });
        segments
    };
    Some(match (kind, what) {
        (Kind::Disk, AskKind::Out) => Ask::Out { sector, sectors: count },
        (Kind::Disk, AskKind::In) => Ask::In { sector, sectors: count },
        (Kind::Disk, AskKind::WriteZeroes) => Ask::WriteZeroes(segments(0)),
        (Kind::Disk, AskKind::Unmap) => Ask::WriteZeroes(segments(request::UNMAP)),
        (Kind::Disk, AskKind::Discard) => Ask::Discard(segments(0)),
        (Kind::Disk, AskKind::Id) => Ask::GetId,
        (Kind::Memory, AskKind::Out) => Ask::Store { word: first, words: count },
        (Kind::Memory, AskKind::In) => Ask::Load { word: first, words: count },
        (Kind::Memory, AskKind::WriteZeroes | AskKind::Unmap | AskKind::Discard | AskKind::Id) => {
            return None;
        }
        (_, AskKind::Flush) => Ask::Flush,
    })
}
