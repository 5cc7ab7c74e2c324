//! Lives begin and end: the crash ladder.
//!
//! A device reset and a backend kill end what is in flight and keep everything else. Only a power
//! loss collapses what an atom may hold; and a kill after the host has failed, for the page cache
//! may then have lost what the guest had seen.

use crate::atom::Around;
use crate::graph::Node;
use crate::ledger::{Slot, State};
use crate::names::{Content, Instant, RequestId};
use crate::oracle::Oracle;
use crate::request::Kind;
use crate::terms::{self, Profile, Terms};
use crate::violation::Violation;

impl Oracle {
    /// A life begins: the driver has set `FEATURES_OK`, read it back, and read `writeback`.
    ///
    /// # Panics
    /// If a life is under way.
    pub fn begin_life(&mut self, terms: Terms) {
        assert!(self.terms.is_none(), "a life ends by reset, kill or power loss");
        self.mode_since = self.tick();
        self.terms = Some(terms);
    }

    /// The guest wrote `writeback` and read it back, as one event.
    ///
    /// Without `CONFIG_WCE` the field is not there and nothing happens. Toggling makes nothing
    /// stable (BLK-R-18).
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

    /// A write in flight may now be completed through a sync of its own.
    fn writes_in_flight_may_sync(&mut self) {
        for &slot in &self.flying {
            let entry = self.ledger.entry_mut(slot);
            if entry.writes() && !entry.may_sync {
                entry.may_sync = true;
                self.unsettled += 1;
            }
        }
    }

    /// The guest read that a reset was done: the life ends, and with it every request in flight.
    ///
    /// What completed stays readable, and a flush of a later life makes it stable.
    pub fn reset_shown(&mut self) {
        let at = self.tick();
        self.end_life(at);
    }

    /// The backend process was killed; the host and its page cache live on.
    pub fn backend_kill(&mut self) {
        let at = self.tick();
        self.end_life(at);
        if self.failed.is_some() || self.profile == Profile::Literal {
            self.collapse(at, true);
        }
        self.failed = None;
        self.failure_seen = false;
    }

    /// The backend died, and another one goes on with the rings as they are: the guest saw nothing
    /// of it, and what is in flight stays so.
    ///
    /// What was in flight is carried out by the new one too, so a write may take effect once more:
    /// what the dead one left of it is a version that ends here and of which nothing is promised,
    /// and the rest of it a second version with the same content. That is exact: it was held
    /// against every way in which each backend carries out a request once.
    ///
    /// # Panics
    /// If no life has begun.
    pub fn reconnect(&mut self) {
        assert!(self.terms.is_some(), "a driver that is not live begins a life");
        let at = self.tick();
        if self.suspected().is_some() || self.profile == Profile::Literal {
            self.collapse(at, true);
            // What a read had found before that nobody can tell any more.
            for &slot in &self.flying {
                let entry = self.ledger.entry_mut(slot);
                entry.void |= entry.kind == Kind::In;
            }
        } else {
            let dead = self.ledger.bury(at);
            for &slot in &self.flying {
                if self.ledger.entry(slot).is_some_and(|entry| entry.writes() && !entry.void) {
                    self.disk.leave_behind(slot, dead);
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

    /// A request in flight is carried out from the start.
    fn carry_out_again(&mut self, slot: Slot, at: Instant) {
        let Some(&entry) = self.ledger.entry(slot).filter(|entry| entry.writes() && !entry.void)
        else {
            return;
        };
        let around = Around {
            ledger: &self.ledger,
            moment: self.ledger.present(),
            profile: self.profile,
            oldest_read: self.oldest_read,
            failed: None,
        };
        if entry.kind == Kind::Out {
            let content = Content::of(slot.id().expect("a request's slot"));
            let atoms = entry.first..entry.first + entry.atoms;
            self.disk.submit_again(atoms, Node::new(slot, content, at), &around);
        }
        for (version, atoms) in self.segments.iter().filter(|(version, _)| version.slot == slot) {
            let version = Node::new(slot, version.content, at);
            self.disk.submit_again(atoms.clone(), version, &around);
        }
    }

    /// The guest read that the reset of one queue was done: these requests of it, as far as they
    /// were in flight, end here. The life goes on.
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
                // A sync may have failed whose request nobody will answer now.
                self.unsettled -= 1;
                self.failed = Some(at);
            }
        }
        self.find_oldest_read();
    }

    /// The guest read that the disk has grown to `capacity` sectors.
    ///
    /// The atoms that are new hold [`Content::INITIAL`]; the oracle was told of all that there will
    /// be when it was made.
    ///
    /// # Panics
    /// If no life has begun, or the disk is smaller than it was.
    pub fn grown(&mut self, capacity: u64) {
        self.tick();
        let terms = self.terms.as_mut().expect("the capacity belongs to a life");
        assert!(capacity >= terms.capacity, "no sector is taken away");
        terms.capacity = capacity;
    }

    /// Who runs the guest began to save the device: what has completed is to be stable when that
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

    /// The save ended well: it is as if a flush published when it [began](Self::save_begun) had
    /// returned `OK`.
    pub fn saved(&mut self) {
        let at = self.tick();
        self.ledger.flushed(self.save_begun);
        self.saves.push((self.save_begun, at));
        self.settle_save();
    }

    /// Nobody waits for the end of the save: its sync may have failed, or fail yet, and nobody will
    /// be told.
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

    /// The guest, or who runs it, learned that the host failed in another way than by an `IOERR`: a
    /// restarted backend that would not start, for its first sync had failed. Most often followed
    /// by another [`Self::backend_kill`].
    pub fn host_failure_shown(&mut self) {
        self.failed = Some(self.tick());
        self.settle_save();
        self.failure_seen = true;
    }

    /// The power was lost. The next powered life begins with one of the contents this could leave.
    ///
    /// # Errors
    /// None today: what is acyclic has a last version, and that one may always survive. What the
    /// loss really left is judged when it is read.
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
            // A sync may have failed whose request nobody will answer now.
            self.failed = Some(at);
        }
        self.unsettled = 0;
        self.saving = false;
        self.oldest_read = Instant::NEVER;
        self.terms = None;
    }

    /// Every atom falls back to what a power loss could leave.
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
