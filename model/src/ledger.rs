//! The state of every request: when it was published, when it ended, and whether it is stable.
//!
//! One line per request for the whole run. The versions in the atoms only refer to a line, so a
//! completion or a flush is one store instead of a walk: a write is stable iff it was stable when
//! it completed, or it completed before the publication of the latest-published flush that returned
//! `OK`. That one number is enough because a flush covers *every* write completed before it. It
//! stays valid across lives, because a completion in a later powered life follows every flush of an
//! earlier one.

use crate::names::{Content, Instant, RequestId};
use crate::request::Kind;
use crate::ruling::{Effect, Ruling};
use crate::terms::Row;

/// Index of a line: that of a request, of the content that precedes this powered life, or of the
/// effects of dead backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(pub(crate) u32);

impl Slot {
    /// The image at the start of this powered life: stable.
    pub(crate) const IMAGE: Self = Self(0);
    /// Content found by a restarted backend after a host failure: completed, and a flush makes it
    /// stable.
    pub(crate) const FOUND: Self = Self(1);
    /// The same, if the content may come from a request that never returned `OK`: no flush makes it
    /// stable.
    pub(crate) const FOUND_LOOSE: Self = Self(2);

    /// First line of the effects that dead backends left of their requests in flight while the
    /// driver stayed live; one line per death. Such an effect counts as a write ended by a kill.
    const DEAD: u32 = 3;
    /// Number of deaths with a line each; later deaths share the last line, which only weakens the
    /// verdict.
    const DEATHS: u32 = 5;
    /// The line of the first request.
    const REQUESTS: u32 = Self::DEAD + Self::DEATHS;

    /// Whether it is content found by a restarted backend.
    pub(crate) fn is_found(self) -> bool {
        matches!(self, Self::FOUND | Self::FOUND_LOOSE)
    }

    /// Whether it is the effect of a dead backend.
    pub(crate) fn is_dead(self) -> bool {
        (Self::DEAD..Self::REQUESTS).contains(&self.0)
    }

    #[inline]
    pub(crate) fn of(id: RequestId) -> Self {
        Self(id.0 + (Self::REQUESTS - 1))
    }

    /// The request of this line.
    #[inline]
    pub(crate) fn id(self) -> Option<RequestId> {
        (self.0 >= Self::REQUESTS).then(|| RequestId(self.0 - (Self::REQUESTS - 1)))
    }
}

/// The part of a line that every access to an atom needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    /// Moment of publication.
    pub(crate) sub: Instant,
    /// Moment of the end, by any cause; `NEVER` while in flight.
    pub(crate) end: Instant,
    /// `true` iff it completed with `OK` and had therefore taken effect.
    pub(crate) done: bool,
    /// It is stable iff a flush published after this moment has returned `OK`: its end; zero if it
    /// was stable at its end; `NEVER` if no flush makes it stable.
    pub(crate) stable_after: Instant,
}

/// Progress of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Never published.
    Unknown,
    /// Published, with this many completions owed.
    Owed(u32),
    /// Used as often as published.
    Used,
    /// Ended by a reset, a kill or a power loss.
    Abandoned,
}

/// The rest of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) state: State,
    pub(crate) kind: Kind,
    pub(crate) ruling: Ruling,
    /// Range of an `IN` or `OUT`, in atoms that exist.
    pub(crate) first: u32,
    pub(crate) atoms: u32,
    /// Row of the stability table; `-` until a write completes.
    pub(crate) row: Option<Row>,
    /// Number of power losses before its publication.
    pub(crate) powered_life: u32,
    /// The last status; meaningful once used.
    pub(crate) status: u8,
    /// The value of [`Ledger::last_flushed`] at its publication.
    pub(crate) flushed: Instant,
    /// It may never be a version: refused, or to be refused. For a read: its observations carry no
    /// information.
    pub(crate) void: bool,
    /// It is a flush whose `OK` makes writes stable.
    pub(crate) counts: bool,
    /// It may cause a sync, which the host may fail.
    pub(crate) may_sync: bool,
}

const UNKNOWN_FATE: Fate =
    Fate { sub: Instant::NEVER, end: Instant::NEVER, done: false, stable_after: Instant::NEVER };

/// A moment at which stability is evaluated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Exclusive bound: ends before it count.
    at: Instant,
    /// Publication of the latest-published flush that had returned `OK` by then; zero if there was
    /// none.
    flushed: Instant,
}

/// The record of one request.
///
/// Aligned to a cache line, so that indexing is a shift.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line {
    fate: Fate,
    entry: Entry,
}

/// The line of a request that was never published.
const UNKNOWN: Line = Line {
    fate: UNKNOWN_FATE,
    entry: Entry {
        state: State::Unknown,
        kind: Kind::Other(0),
        ruling: Ruling::NONE,
        first: 0,
        atoms: 0,
        row: None,
        powered_life: 0,
        status: 0,
        flushed: Instant(0),
        void: false,
        counts: false,
        may_sync: false,
    },
};

/// The lines of one run.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    lines: Vec<Line>,
    /// Publication of the latest-published flush that returned `OK`; zero if there was none.
    flushed: Instant,
    /// Number of backends that died under a live driver since the image was set.
    deaths: u32,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let mut ledger = Self { lines: Vec::new(), flushed: Instant(0), deaths: 0 };
        ledger.restart();
        ledger
    }

    pub(crate) fn restart(&mut self) {
        self.lines.clear();
        self.flushed = Instant(0);
        self.reserve_slot(Slot(Slot::REQUESTS - 1));
        self.begin_image(Instant(0));
    }

    fn reserve_slot(&mut self, slot: Slot) {
        let len = slot.0 as usize + 1;
        if self.lines.len() < len {
            self.lines.resize(len, UNKNOWN);
        }
    }

    /// Makes the image of the disk, from now on, the stable first content of every atom.
    pub(crate) fn begin_image(&mut self, at: Instant) {
        self.lines[0].fate = Fate { sub: at, end: at, done: true, stable_after: Instant(0) };
        self.deaths = 0;
    }

    /// Returns a line for the effects of a backend that died under a live driver. They end here and
    /// have no promise.
    pub(crate) fn bury(&mut self, at: Instant) -> Slot {
        let slot = Slot(Slot::DEAD + self.deaths.min(Slot::DEATHS - 1));
        self.deaths += 1;
        // Many requests share the line. A publication before all others keeps each of them from
        // counting as later than another request.
        self.lines[slot.0 as usize].fate = Fate { sub: Instant(0), end: at, ..UNKNOWN_FATE };
        slot
    }

    /// Starts the interval in which the content found by the backend may differ from the image,
    /// until a flush returns `OK`.
    pub(crate) fn begin_found(&mut self, at: Instant) {
        self.lines[1].fate = Fate { sub: at, end: at, done: true, stable_after: at };
        self.lines[2].fate = Fate { stable_after: Instant::NEVER, ..self.lines[1].fate };
    }

    /// Opens a line.
    #[inline]
    pub(crate) fn publish(&mut self, slot: Slot, at: Instant, entry: Entry) {
        let line = Line { fate: Fate { sub: at, ..UNKNOWN_FATE }, entry };
        if slot.0 as usize == self.lines.len() {
            self.lines.push(line);
        } else {
            self.reserve_slot(slot);
            self.lines[slot.0 as usize] = line;
        }
    }

    #[inline]
    pub(crate) fn fate(&self, slot: Slot) -> &Fate {
        &self.lines[slot.0 as usize].fate
    }

    #[inline]
    pub(crate) fn fate_mut(&mut self, slot: Slot) -> &mut Fate {
        &mut self.lines[slot.0 as usize].fate
    }

    /// The line of a request; `None` if it was never published.
    #[inline]
    pub(crate) fn entry(&self, slot: Slot) -> Option<&Entry> {
        self.lines
            .get(slot.0 as usize)
            .map(|line| &line.entry)
            .filter(|entry| entry.state != State::Unknown)
    }

    /// The line of a request that was published.
    #[inline]
    pub(crate) fn entry_mut(&mut self, slot: Slot) -> &mut Entry {
        &mut self.lines[slot.0 as usize].entry
    }

    /// The kind of a request that was published.
    #[inline]
    pub(crate) fn kind(&self, slot: Slot) -> Kind {
        self.lines[slot.0 as usize].entry.kind
    }

    /// Whether the request that wrote `content` had returned `OK` by `then`, so that flushes cover
    /// it; `false` for zeroes, whose writer is unknown.
    pub(crate) fn is_heard_of(&self, content: Content, then: Instant) -> bool {
        let had = |line: &Line| line.fate.done && line.fate.end <= then;
        match content.writer() {
            Some(id) => self.lines.get(Slot::of(id).0 as usize).is_some_and(had),
            None => content == Content::INITIAL,
        }
    }

    /// The lines of all requests published so far, with their identifiers.
    pub(crate) fn all(&self) -> impl Iterator<Item = (RequestId, &Entry, &Fate)> {
        let known = self.lines.iter().enumerate();
        known.filter(|(_, line)| line.entry.state != State::Unknown).filter_map(|(slot, line)| {
            let id = Slot(u32::try_from(slot).ok()?).id()?;
            Some((id, &line.entry, &line.fate))
        })
    }

    /// Records that a flush published at `sub` returned `OK`: writes completed before it are
    /// stable.
    #[inline]
    pub(crate) fn flushed(&mut self, sub: Instant) {
        self.flushed = self.flushed.max(sub);
    }

    /// The present, as a moment.
    #[inline]
    pub(crate) fn present(&self) -> Moment {
        Moment { at: Instant::NEVER, flushed: self.flushed }
    }

    /// Whether the write of `slot` must survive a power loss now, unless newer data replaces it.
    #[inline]
    pub(crate) fn is_stable(&self, slot: Slot) -> bool {
        self.fate(slot).stable_after <= self.flushed
    }

    /// Whether the write of `slot` had to survive a power loss at that moment, unless newer data
    /// replaced it.
    ///
    /// # Spec
    /// 5.2.6.2, BLK-D-29 to BLK-D-31.
    #[inline]
    pub(crate) fn was_stable(&self, slot: Slot, then: Moment) -> bool {
        let fate = self.fate(slot);
        fate.stable_after <= then.flushed && fate.end < then.at
    }

    /// The moment at which the request was published.
    #[inline]
    pub(crate) fn when_published(&self, slot: Slot) -> Moment {
        let line = &self.lines[slot.0 as usize];
        Moment { at: line.fate.sub, flushed: line.entry.flushed }
    }

    /// Publication of the latest-published flush that returned `OK`; zero if there was none.
    #[inline]
    pub(crate) fn last_flushed(&self) -> Instant {
        self.flushed
    }
}

impl Entry {
    /// Whether an `IN` or `OUT` covers this atom.
    pub(crate) fn covers(&self, atom: u32) -> bool {
        atom >= self.first && atom - self.first < self.atoms
    }

    /// Whether it can create versions.
    pub(crate) fn writes(&self) -> bool {
        self.kind.mutates() && self.ruling.effect != Effect::Never
    }
}
