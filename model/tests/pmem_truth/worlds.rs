//! The ground truth: one word of mapped memory, the medium under it, and every state that an honest
//! device could be in.
//!
//! A store lands in the page and makes it dirty. Write-back may happen whenever it is dirty. A
//! flush is answered with 0 only if a sync of its own, begun after its submission, ended without
//! error and left the promised data on the medium. A sync may fail, and may then forget that the
//! page was dirty: the page stays visible for now and may be evicted at any time, which restores
//! the medium's content. A forgotten page of a killed backend is evicted. There is no graph here,
//! and no moment of stability.

use std::collections::BTreeSet;

/// A content: 0 is the initial one, any other is the name of its store.
pub(crate) type Word = u8;

/// State of a flush in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Doing {
    Waits,
    Synced,
    Failed,
}

/// One possible state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    live: Word,
    medium: Word,
    dirty: bool,
    /// Clean, yet newer than the medium.
    forgotten: bool,
    /// A newer content than the medium's was evicted, and no later one has reached the medium.
    lost: bool,
    /// Flushes in flight, by name.
    flushes: Vec<(u8, Doing)>,
}

impl World {
    fn written_back(&self) -> Self {
        Self { medium: self.live, dirty: false, lost: false, ..self.clone() }
    }

    fn evicted(&self) -> Self {
        Self { live: self.medium, forgotten: false, lost: true, ..self.clone() }
    }

    fn with(&self, place: usize, doing: Doing) -> Self {
        let mut next = self.clone();
        next.flushes[place].1 = doing;
        next
    }

    /// The steps that are invisible to the guest.
    fn unseen(&self, may_fail: bool) -> Vec<Self> {
        let mut next = Vec::new();
        if self.dirty {
            next.push(self.written_back());
        }
        if self.forgotten {
            next.push(self.evicted());
        }
        for (place, &(_, doing)) in self.flushes.iter().enumerate() {
            if doing != Doing::Waits {
                continue;
            }
            if self.dirty {
                next.push(self.written_back().with(place, Doing::Synced));
            } else if !self.forgotten && !self.lost {
                next.push(self.with(place, Doing::Synced));
            }
            if may_fail {
                next.push(self.with(place, Doing::Failed));
                if self.dirty {
                    let failed = self.with(place, Doing::Failed);
                    next.push(Self { dirty: false, forgotten: true, ..failed });
                }
            }
        }
        next
    }
}

/// All states that agree with the observations.
#[derive(Clone)]
pub(crate) struct Worlds {
    worlds: BTreeSet<World>,
    may_fail: bool,
    /// A reset may lose unflushed data.
    lossy_reset: bool,
}

impl Worlds {
    pub(crate) fn new(may_fail: bool, lossy_reset: bool) -> Self {
        let first = World {
            live: 0,
            medium: 0,
            dirty: false,
            forgotten: false,
            lost: false,
            flushes: Vec::new(),
        };
        Self { worlds: BTreeSet::from([first]), may_fail, lossy_reset }
    }

    pub(crate) fn is_possible(&self) -> bool {
        !self.worlds.is_empty()
    }

    /// All states after any number of invisible steps.
    fn closed(&self) -> BTreeSet<World> {
        let mut seen = self.worlds.clone();
        let mut todo: Vec<World> = seen.iter().cloned().collect();
        while let Some(world) = todo.pop() {
            let next = world.unseen(self.may_fail).into_iter();
            todo.extend(next.filter(|next| seen.insert(next.clone())));
        }
        seen
    }

    fn each(&self, step: impl Fn(&World) -> Option<World>) -> Self {
        Self { worlds: self.closed().iter().filter_map(step).collect(), ..*self }
    }

    pub(crate) fn store(&self, word: Word) -> Self {
        self.each(|world| {
            Some(World { live: word, dirty: true, forgotten: false, ..world.clone() })
        })
    }

    pub(crate) fn load(&self, seen: Word) -> Self {
        self.each(|world| (world.live == seen).then(|| world.clone()))
    }

    pub(crate) fn submit(&self, flush: u8) -> Self {
        self.each(|world| {
            let mut next = world.clone();
            next.flushes.push((flush, Doing::Waits));
            Some(next)
        })
    }

    pub(crate) fn complete(&self, flush: u8, ok: bool) -> Self {
        self.each(|world| {
            let mut next = world.clone();
            let place = next.flushes.iter().position(|&(name, _)| name == flush)?;
            let (_, doing) = next.flushes.remove(place);
            (!ok || doing == Doing::Synced).then_some(next)
        })
    }

    pub(crate) fn reset(&self) -> Self {
        let lossy = self.lossy_reset;
        let ended = self.each(|world| Some(World { flushes: Vec::new(), ..world.clone() }));
        if !lossy {
            return ended;
        }
        let lose = |world: &World| World { live: world.medium, dirty: false, ..world.clone() };
        let lost: Vec<World> = ended.worlds.iter().map(lose).collect();
        Self { worlds: ended.worlds.into_iter().chain(lost).collect(), ..*self }
    }

    pub(crate) fn kill(&self) -> Self {
        self.each(|world| {
            let world = World { flushes: Vec::new(), ..world.clone() };
            Some(if world.forgotten { world.evicted() } else { world })
        })
    }

    pub(crate) fn power_loss(&self) -> Self {
        self.each(|world| {
            let medium = world.medium;
            Some(World {
                live: medium,
                medium,
                dirty: false,
                forgotten: false,
                lost: false,
                flushes: Vec::new(),
            })
        })
    }

    /// The contents that a power loss now could leave.
    pub(crate) fn media(&self) -> BTreeSet<Word> {
        self.closed().iter().map(|world| world.medium).collect()
    }
}
