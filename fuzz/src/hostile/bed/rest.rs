//! The state at rest, at which no request may be pending, and the final reads of the good guest.

use powerfail::base::sectors::SectorSet;
use powerfail::guest::payload::{self, Author};
use powerfail::host::disk::{OpKind, Outcome};
use powerfail_device::RegisterSurface;
use powerfail_device::wire::STATUS_NEEDS_RESET;

use super::{Bed, GOOD, HOSTILE, MOST_CHAINS, SECTORS};
use crate::hostile::good;

impl Bed {
    /// Completes all operations, runs the threads until they are idle, and checks that no request
    /// is pending.
    pub(in super::super) fn rest(&mut self) {
        if self.paused {
            self.pause_or_resume();
        }
        (self.idle_steps, self.chains) = (0, 0);
        loop {
            // Data written to a buffer, or a used element, may move an available index that
            // overlaps it. Such a driver has to kick once more.
            let before = (self.chains, self.ended);
            self.kick(HOSTILE);
            while self.work() {
                if self.chains > MOST_CHAINS {
                    return;
                }
            }
            if (self.chains, self.ended) == before {
                break;
            }
        }
        assert!(!self.resetting && !self.queue_resetting, "a reset never completes");
        self.check_hostile_rest();
        if !self.is_alone() {
            self.good.check_rest();
        }
        self.check_guards();
    }

    /// One round of work of the threads, the host and the good guest. Returns false if there is
    /// none.
    pub(super) fn work(&mut self) -> bool {
        let mut busy = false;
        for queue in [HOSTILE, GOOD] {
            let mut steps = 0;
            while steps < 200 && self.step(queue) {
                steps += 1;
            }
            busy |= steps > 0;
        }
        busy |= self.kick_good();
        busy |= self.end_oldest();
        self.poll_reset();
        busy
    }

    /// The host completes the oldest operation. Returns false if there is none.
    pub(super) fn end_oldest(&mut self) -> bool {
        let oldest = self.disk.in_flight().min_by_key(|&(_, nth, _)| nth);
        let Some((op, ..)) = oldest else { return false };
        let landed = if op.kind == OpKind::Discard { op.range() } else { SectorSet::EMPTY };
        self.complete(op, Outcome::Ok { landed });
        true
    }

    fn check_hostile_rest(&mut self) {
        let plan = self.hostile.ring();
        let Some((queue, ring)) = self.device.queue_mut(HOSTILE) else { return };
        assert_eq!(queue.in_flight(), 0, "requests of the hostile queue have no end");
        let (broken, next_avail) = (queue.is_broken(), ring.position().0);
        if broken {
            assert!(
                self.device.status() & STATUS_NEEDS_RESET != 0,
                "a ring is broken without NEEDS_RESET"
            );
            return;
        }
        if let Some(taken) = self.hostile.in_hand() {
            assert_eq!(taken, 0, "chains were taken and never used");
        }
        if let Some(plan) = plan {
            let published = self.hostile.read_u16(plan.available + 2);
            assert_eq!(published, next_avail, "a chain was published and kicked, and never taken");
        }
    }

    /// Checks that the guard sectors are unchanged.
    fn check_guards(&self) {
        for sector in SECTORS..self.disk.shape().sectors() {
            let no_disk = Author { disk: Author::NO_DISK, ..good::AUTHOR };
            let (cache, medium) = self.disk.sector(sector);
            let whole = |bytes: &[u8]| payload::is_filled(bytes, no_disk, sector, 0);
            assert!(whole(cache) && whole(medium), "sector {sector}, behind the disk, was written");
        }
    }

    /// The good guest reads every sector that it may use.
    pub(in super::super) fn read_back(&mut self) {
        let mut from = 0;
        loop {
            self.good.reap(true);
            let more = self.good.read_all(&mut from);
            let mut rounds = 0;
            self.idle_steps = 0;
            while self.good.waits() {
                self.work();
                self.good.reap(true);
                rounds += 1;
                assert!(rounds < 2_000, "the reads of the good queue do not complete");
            }
            if !more {
                return;
            }
        }
    }
}
