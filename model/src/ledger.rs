//! What became of every request: when it was published, when it ended, and whether it is stable.
//!
//! One line per request for the whole run. The versions in the atoms only point here, so a
//! completion or a flush is one store, not a walk: a write is stable iff it was stable when it
//! completed, or it completed before the latest-published of the flushes that returned `OK`. That
//! one number is enough because a flush covers *every* write completed before it, and may stay
//! across lives: what completes in a later powered life completes after every flush of an earlier
//! one.

use crate::names::{Content, Instant, RequestId};
use crate::request::Kind;
use crate::ruling::{Effect, Ruling};

/// The place of a line: a request's; or that of what no request of this powered life wrote, or
/// wrote before its backend died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot(pub(crate) u32);

impl Slot {
    /// The image this powered life began with: stable.
    pub(crate) const IMAGE: Self = Self(0);
    /// What a restarted backend found on a host that had failed: completed, and a flush makes it
    /// stable.
    pub(crate) const FOUND: Self = Self(1);
    /// The same, where it may be what a request left that never returned `OK`: no flush says
    /// anything about that.
    pub(crate) const FOUND_LOOSE: Self = Self(2);

    /// What the backends that died under a live driver left of what they had in flight, one line a
    /// death: like a write that a kill ended.
    const DEAD: u32 = 3;
    /// So many deaths have a line of their own; those that follow share the last, which only makes
    /// it say less.
    const DEATHS: u32 = 5;
    /// The line of the first request.
    const REQUESTS: u32 = Self::DEAD + Self::DEATHS;

    /// Whether it is what a restarted backend found.
    pub(crate) fn is_found(self) -> bool {
        matches!(self, Self::FOUND | Self::FOUND_LOOSE)
    }

    /// Whether it is what a dead backend left.
    pub(crate) fn is_dead(self) -> bool {
        (Self::DEAD..Self::REQUESTS).contains(&self.0)
    }

    #[inline]
    pub(crate) fn of(id: RequestId) -> Self {
        Self(id.0 + (Self::REQUESTS - 1))
    }

    /// The request whose line this is.
    #[inline]
    pub(crate) fn id(self) -> Option<RequestId> {
        (self.0 >= Self::REQUESTS).then(|| RequestId(self.0 - (Self::REQUESTS - 1)))
    }
}

/// The part of a line that every look at an atom needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    /// When it was published.
    pub(crate) sub: Instant,
    /// When it ended, in whichever way; `NEVER` while in flight.
    pub(crate) end: Instant,
    /// It completed with `OK` and by that had taken effect.
    pub(crate) done: bool,
    /// It is stable iff a flush published after this has returned `OK`: its end, zero if it was
    /// stable at its end, `NEVER` if no flush helps.
    pub(crate) stable_after: Instant,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Never published.
    Unknown,
    /// Published, and owed this many more completions.
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
    /// The range of an `IN` or `OUT`, in atoms that exist.
    pub(crate) first: u32,
    pub(crate) atoms: u32,
    /// Its row of the stability table; `-` until a write completes.
    pub(crate) row: char,
    /// How often the power had been lost when it was published.
    pub(crate) powered_life: u32,
    /// The last status; meaningful once used.
    pub(crate) status: u8,
    /// What had been flushed when it was published.
    pub(crate) flushed: Instant,
    /// It may never be a version: refused, or to be refused. Of a read: what it finds says nothing.
    pub(crate) void: bool,
    /// It is a flush whose `OK` makes writes stable.
    pub(crate) counts: bool,
    /// The host may fail a sync for its sake.
    pub(crate) may_sync: bool,
}

const UNKNOWN_FATE: Fate =
    Fate { sub: Instant::NEVER, end: Instant::NEVER, done: false, stable_after: Instant::NEVER };

/// A moment to ask about stability.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// What ended before it.
    at: Instant,
    /// The publication of the latest-published flush that had returned `OK` by then; zero if there
    /// was none.
    flushed: Instant,
}

/// What is known of one request.
///
/// As wide as a cache line, so that it is found by a shift.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Line {
    fate: Fate,
    entry: Entry,
}

/// The line of what was never published.
const UNKNOWN: Line = Line {
    fate: UNKNOWN_FATE,
    entry: Entry {
        state: State::Unknown,
        kind: Kind::Other(0),
        ruling: Ruling::NONE,
        first: 0,
        atoms: 0,
        row: '-',
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
    /// The publication of the latest-published flush that returned `OK`; zero if there was none.
    flushed: Instant,
    /// How many backends have died under a live driver since the image was found.
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

    /// The image of the disk is, from now on, the stable first content of every atom.
    pub(crate) fn begin_image(&mut self, at: Instant) {
        self.lines[0].fate = Fate { sub: at, end: at, done: true, stable_after: Instant(0) };
        self.deaths = 0;
    }

    /// A backend died under a live driver: gives the line of what it left of what it had in flight.
    /// That ends here, and nothing is promised of it.
    pub(crate) fn bury(&mut self, at: Instant) -> Slot {
        let slot = Slot(Slot::DEAD + self.deaths.min(Slot::DEATHS - 1));
        self.deaths += 1;
        // Many requests share the line. As if published first of all, none of them is taken for one
        // that came after another.
        self.lines[slot.0 as usize].fate = Fate { sub: Instant(0), end: at, ..UNKNOWN_FATE };
        slot
    }

    /// What the backend finds from now on may differ from the image until a flush has said
    /// otherwise.
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

    /// The line of a request; none if it was never published.
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

    /// Whether the request that wrote `content` had returned `OK` by `then`, so that flushes speak
    /// of it; of zeroes that cannot be told.
    pub(crate) fn is_heard_of(&self, content: Content, then: Instant) -> bool {
        let had = |line: &Line| line.fate.done && line.fate.end <= then;
        match content.writer() {
            Some(id) => self.lines.get(Slot::of(id).0 as usize).is_some_and(had),
            None => content == Content::INITIAL,
        }
    }

    /// The lines of all requests published so far, by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (RequestId, &Entry, &Fate)> {
        let known = self.lines.iter().enumerate();
        known.filter(|(_, line)| line.entry.state != State::Unknown).filter_map(|(slot, line)| {
            let id = Slot(u32::try_from(slot).ok()?).id()?;
            Some((id, &line.entry, &line.fate))
        })
    }

    /// A flush published at `sub` returned `OK`: what had completed before is stable.
    #[inline]
    pub(crate) fn flushed(&mut self, sub: Instant) {
        self.flushed = self.flushed.max(sub);
    }

    /// The present, as a moment.
    #[inline]
    pub(crate) fn present(&self) -> Moment {
        Moment { at: Instant::NEVER, flushed: self.flushed }
    }

    /// Whether what `slot` wrote must survive a power loss now, unless something newer does.
    #[inline]
    pub(crate) fn is_stable(&self, slot: Slot) -> bool {
        self.fate(slot).stable_after <= self.flushed
    }

    /// Whether what `slot` wrote had to survive a power loss at that moment, unless something newer
    /// did.
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

    /// The publication of the latest-published flush that returned `OK`; zero if there was none.
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

    /// Whether it can leave versions at all.
    pub(crate) fn writes(&self) -> bool {
        self.kind.mutates() && self.ruling.effect != Effect::Never
    }
}
