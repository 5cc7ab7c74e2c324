//! Beginning and end of a life: the crash ladder.
//!
//! A device reset and a backend kill end the requests in flight and keep all content. Only a power
//! loss collapses the possible contents of an atom; so does a kill after the host has failed,
//! because the page cache may then have lost content that the guest had read.

use std::ops::Range;

use crate::atom::Around;
use crate::graph::Node;
use crate::ledger::{Ledger, Slot, State};
use crate::names::{Content, Instant, RequestId};
use crate::oracle::Oracle;
use crate::request::Kind;
use crate::terms::{self, Profile, Terms};
use crate::violation::Violation;

impl Oracle {
    /// Begins a life: the driver has set `FEATURES_OK`, read it back, and read `writeback`.
    ///
    /// # Panics
    /// If a life is in progress.
    pub fn begin_life(&mut self, terms: Terms) {
        assert!(self.terms.is_none(), "a life ends by reset, kill or power loss");
        self.mode_since = self.tick();
        self.terms = Some(terms);
    }

    /// Records that the guest wrote `writeback` and read it back, as one event.
    ///
    /// Without `CONFIG_WCE` the field does not exist and nothing happens. A switch of the cache
    /// mode makes nothing stable (BLK-R-18).
    ///
    /// # Panics
    /// If no life has begun.
    pub fn set_writeback(&mut self, read_back: bool) {
        let at = self.tick();
        let terms = self.terms.as_mut().expect("the cache mode belongs to a life");
        if !terms.negotiated(terms::CONFIG_WCE) || terms.writeback == read_back {
            return;
        }
        terms.writeback = read_back;
        self.mode_since = at;
        if terms.host_may_fail && !read_back {
            self.writes_in_flight_may_sync();
        }
    }

    /// Marks every write in flight as one that a sync of its own may complete.
    fn writes_in_flight_may_sync(&mut self) {
        for &slot in &self.flying {
            let entry = self.ledger.entry_mut(slot);
            if entry.writes() && !entry.may_sync {
                entry.may_sync = true;
                self.unsettled += 1;
            }
        }
    }

    /// Ends the life and every request in flight: the guest read that a reset was done.
    ///
    /// Completed data stays readable, and a flush of a later life makes it stable.
    pub fn reset_shown(&mut self) {
        let at = self.tick();
        self.end_life(at);
    }

    /// Ends the life: the backend process was killed; the host and its page cache survive.
    pub fn backend_kill(&mut self) {
        let at = self.tick();
        self.end_life(at);
        if self.failed.is_some() || self.profile == Profile::Literal {
            self.collapse(at, true);
        }
        self.failed = None;
        self.failure_seen = false;
    }

    /// Replaces the backend while the rings stay as they are. The guest sees no difference, and the
    /// requests in flight stay in flight.
    ///
    /// The new backend carries out the requests in flight again, so a write may take effect twice:
    /// the effect of the dead backend is a version that ends here and has no promise, and the
    /// repetition is a second version with the same content. This is exact: the ground-truth tests
    /// compare it with every way in which each backend carries out a request once.
    ///
    /// # Panics
    /// If no life has begun.
    pub fn reconnect(&mut self) {
        assert!(self.terms.is_some(), "a driver that is not live begins a life");
        let at = self.tick();
        if self.suspected().is_some() || self.profile == Profile::Literal {
            self.collapse(at, true);
            // The content that a read in flight found before the collapse is unknown.
            for &slot in &self.flying {
                let entry = self.ledger.entry_mut(slot);
                entry.void |= entry.kind == Kind::In;
            }
        } else {
            let dead = self.ledger.bury(at);
            for &slot in &self.flying {
                for (_, atoms) in written_by(slot, &self.ledger, &self.segments) {
                    self.disk.leave_behind(atoms, slot, dead);
                }
            }
        }
        self.settle_save();
        self.failed = None;
        self.failure_seen = false;
        let again = self.tick();
        self.forget_segments();
        for nth in 0..self.flying.len() {
            self.carry_out_again(self.flying[nth], again);
        }
    }

    /// Publishes the versions of a request in flight again.
    fn carry_out_again(&mut self, slot: Slot, at: Instant) {
        let around = Around {
            ledger: &self.ledger,
            moment: self.ledger.present(),
            profile: self.profile,
            oldest_read: self.oldest_read,
            failed: None,
        };
        for (content, atoms) in written_by(slot, &self.ledger, &self.segments) {
            self.disk.submit_again(atoms, Node::new(slot, content, at), &around);
        }
    }

    /// Ends those of the requests that are in flight: the guest read that the reset of their queue
    /// was done. The life goes on.
    ///
    /// # Spec
    /// 2.6.1.
    pub fn queue_reset_shown(&mut self, ids: impl IntoIterator<Item = RequestId>) {
        let at = self.tick();
        for slot in ids.into_iter().map(Slot::of) {
            if !self.flying.contains(&slot) {
                continue;
            }
            self.put_down(slot);
            self.ledger.fate_mut(slot).end = at;
            let entry = self.ledger.entry_mut(slot);
            entry.state = State::Abandoned;
            if entry.may_sync {
                // A sync may have failed, and its request will never be answered.
                self.unsettled -= 1;
                self.failed = Some(at);
            }
        }
        self.find_oldest_read();
    }

    /// Records that the guest read a larger capacity, in sectors.
    ///
    /// The new atoms hold [`Content::INITIAL`]; [`Self::new`] counted every atom that will ever
    /// exist.
    ///
    /// # Panics
    /// If no life has begun, or the disk has shrunk.
    pub fn grown(&mut self, capacity: u64) {
        self.tick();
        let terms = self.terms.as_mut().expect("the capacity belongs to a life");
        assert!(capacity >= terms.capacity, "no sector is taken away");
        terms.capacity = capacity;
    }

    /// Records that the VMM began to save the device: completed data must be stable when the save
    /// ends.
    ///
    /// # Panics
    /// If no life has begun.
    pub fn save_begun(&mut self) {
        self.save_begun = self.tick();
        if self.life().host_may_fail && !self.saving {
            self.saving = true;
            self.unsettled += 1;
        }
    }

    /// Records that the save succeeded. It counts as a flush that was published when the save
    /// [began](Self::save_begun) and returned `OK`.
    pub fn saved(&mut self) {
        let at = self.tick();
        self.ledger.flushed(self.save_begun);
        self.saves.push((self.save_begun, at));
        self.settle_save();
    }

    /// Records that the save was abandoned: its sync may have failed or may still fail, and no
    /// result will be reported.
    pub fn save_given_up(&mut self) {
        let at = self.tick();
        if self.saving {
            self.failed = Some(at);
            self.settle_save();
        }
    }

    fn settle_save(&mut self) {
        self.unsettled -= u32::from(std::mem::take(&mut self.saving));
    }

    /// Records that the guest or the VMM saw a host failure other than an `IOERR`: a restarted
    /// backend that did not start because its first sync failed. Usually followed by another
    /// [`Self::backend_kill`].
    pub fn host_failure_shown(&mut self) {
        self.failed = Some(self.tick());
        self.settle_save();
        self.failure_seen = true;
    }

    /// Ends the powered life. The next one begins with one of the contents that this loss could
    /// leave.
    ///
    /// # Errors
    /// None today: an acyclic graph has a last version, and that version may always survive. Later
    /// reads judge the content that the loss left.
    pub fn power_loss(&mut self) -> Result<(), Violation> {
        let at = self.tick();
        self.end_life(at);
        self.collapse(at, false);
        self.powered_lives.push(at);
        self.failed = None;
        self.failure_seen = false;
        Ok(())
    }

    /// Ends every request in flight.
    fn end_life(&mut self, at: Instant) {
        for slot in self.flying.drain(..) {
            self.ledger.fate_mut(slot).end = at;
            let entry = self.ledger.entry_mut(slot);
            entry.state = State::Abandoned;
        }
        if self.unsettled > 0 {
            // A sync may have failed, and its request will never be answered.
            self.failed = Some(at);
        }
        self.unsettled = 0;
        self.saving = false;
        self.oldest_read = Instant::NEVER;
        self.terms = None;
    }

    /// Collapses every atom to the contents that a power loss could leave.
    fn collapse(&mut self, at: Instant, found: bool) {
        let found = found.then(|| self.tick());
        let around = Around {
            ledger: &self.ledger,
            moment: self.ledger.present(),
            profile: self.profile,
            oldest_read: self.oldest_read,
            failed: None,
        };
        self.disk.collapse(at, found, &around);
        self.ledger.begin_image(at);
        if let Some(found) = found {
            self.ledger.begin_found(found);
        }
    }
}

/// The atoms that a request in flight writes, and the content of each range; none if it is no valid
/// write. `segments` holds the ranges of the requests that have segments.
fn written_by(
    slot: Slot,
    ledger: &Ledger,
    segments: &[(Node, Range<u32>)],
) -> impl Iterator<Item = (Content, Range<u32>)> {
    let entry = ledger.entry(slot).filter(|entry| entry.writes() && !entry.void);
    let whole = entry.filter(|entry| entry.kind == Kind::Out).map(|entry| {
        let content = Content::of(slot.id().expect("a request's slot"));
        (content, entry.first..entry.first + entry.atoms)
    });
    let segments = segments.iter().filter(move |(node, _)| entry.is_some() && node.slot == slot);
    whole.into_iter().chain(segments.map(|(node, atoms)| (node.content, atoms.clone())))
}
