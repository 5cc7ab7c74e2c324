//! The behaviour of the host: which operation lands or completes, and with which fault.

use super::Scheduler;
use super::parameters::Since;
use crate::base::choose::{Choose, Site};
use crate::base::sectors::SectorSet;
use crate::dut::DeviceUnderTest;
use crate::host::disk::{Damage, Errno, OpKey, OpKind, Outcome};
use crate::world::World;
use crate::world::action::Action;

/// A subset of `set` in whole units of `tear` sectors: nothing, everything, or any other subset.
pub(super) fn subset<C: Choose>(
    choose: &mut C,
    set: SectorSet,
    tear: u32,
    site: Site,
) -> SectorSet {
    if set.is_empty() {
        return set;
    }
    match choose.below(5, site) {
        0 => return SectorSet::EMPTY,
        1 => return set,
        2 => {
            let nth = choose.below(set.len(), site);
            let one = set.nth(nth).expect("a rank below the length");
            let unit = SectorSet::range(one / tear * tear, tear);
            return if nth & 1 == 0 { set.and(unit) } else { set.minus(unit) };
        }
        _ => {}
    }
    let words = set.words().map(|word| {
        if word == 0 {
            return 0;
        }
        let low = u64::from(choose.below(u32::MAX, site));
        word & (low | u64::from(choose.below(u32::MAX, site)) << 32)
    });
    let any = SectorSet::from_words(words);
    if tear == 1 { any } else { set.and(any.rounded(tear)) }
}

impl Scheduler {
    /// Lands part of the `nth` operation in flight, or completes it.
    pub(super) fn host<D: DeviceUnderTest, C: Choose>(
        &mut self,
        world: &World<D>,
        choose: &mut C,
        nth: usize,
    ) -> Action {
        let (op, landed) = world.disk().nth(nth);
        let left = op.range().minus(landed);
        if op.kind != OpKind::Sync
            && !left.is_empty()
            && choose.chance(self.options.parts, Site::Operation)
        {
            let set = subset(choose, left, self.options.shape.spec.disk.tear, Site::Operation);
            if !set.is_empty() {
                return Action::Effect { op, set };
            }
        }
        let unsupported = landed.is_empty() && self.is_unsupported(op.kind, choose);
        let outcome = match unsupported {
            true => failed(Errno::EOPNOTSUPP, SectorSet::EMPTY, SectorSet::EMPTY),
            false => self.outcome(world, choose, op, landed),
        };
        let put_off = match outcome {
            Outcome::Failed { errno, .. } => errno.is_put_off(),
            // The device must repeat all of it.
            Outcome::Short { bytes } => bytes < self.options.shape.spec.disk.granule,
            Outcome::Ok { .. } => false,
        };
        self.put_off = if put_off { self.put_off + 1 } else { 0 };
        Action::Complete { op, outcome }
    }

    fn outcome<D: DeviceUnderTest, C: Choose>(
        &self,
        world: &World<D>,
        choose: &mut C,
        op: OpKey,
        landed: SectorSet,
    ) -> Outcome {
        let options = &self.options;
        let tear = options.shape.spec.disk.tear;
        // A host that refuses everything for now would prevent all progress.
        let may_put_off = landed.is_empty() && self.put_off < 16;
        if may_put_off && choose.chance(options.transient, Site::Fault) {
            let errno = choose.pick(&Errno::PUT_OFF, Site::Fault);
            return failed(errno, SectorSet::EMPTY, SectorSet::EMPTY);
        }
        let granule = options.shape.spec.disk.granule / 512;
        let transfers = matches!(op.kind, OpKind::Read | OpKind::Write);
        if transfers
            && self.put_off < 16
            && choose.chance(options.short, Site::Fault)
            && let Some(bytes) = self.short(choose, op.sectors, granule)
        {
            let head = SectorSet::range(op.sector, bytes / 512);
            if bytes > 0 && landed.minus(head).is_empty() {
                return Outcome::Short { bytes };
            }
            if bytes == 0 && landed.is_empty() && options.shape.host_may_fail {
                return Outcome::Short { bytes };
            }
        }
        let ratio = if op.kind == OpKind::Sync { options.fail_sync } else { options.fail };
        if choose.chance(ratio, Site::Fault) {
            return self.failure(world, choose, op, landed);
        }
        let extra = match op.kind {
            OpKind::Discard => subset(choose, op.range(), tear, Site::Operation),
            OpKind::Sync => subset(choose, world.disk().dirty(), tear, Site::Operation),
            _ => SectorSet::EMPTY,
        };
        Outcome::Ok { landed: extra }
    }

    /// The bytes that a short transfer moves: usually whole granules, sometimes a part of one, and
    /// rarely none. `None` if it is not short after all.
    fn short<C: Choose>(&self, choose: &mut C, sectors: u32, granule: u32) -> Option<u32> {
        match choose.below(16, Site::Fault) {
            0 => Some(0),
            1 => Some(choose.below(sectors, Site::Fault) * 512),
            2 => Some(choose.between(1, sectors * 512 - 1, Site::Fault)),
            _ if sectors > granule => {
                Some((1 + choose.below(sectors / granule - 1, Site::Fault)) * granule * 512)
            }
            _ => None,
        }
    }

    /// Whether the host does not support an operation. A host that ceases to support one never
    /// supports it again.
    fn is_unsupported<C: Choose>(&mut self, kind: OpKind, choose: &mut C) -> bool {
        let (which, since) = match kind {
            OpKind::Discard => (0, self.options.no_discard),
            OpKind::WriteZeroes => (1, self.options.no_zeroes),
            _ => return false,
        };
        if since == Since::Later && !self.ceased[which] {
            self.ceased[which] = choose.below(4, Site::Fault) == 0;
        }
        since == Since::Always || self.ceased[which]
    }

    /// A failure that is possible for an operation with these landed sectors.
    fn failure<D: DeviceUnderTest, C: Choose>(
        &self,
        world: &World<D>,
        choose: &mut C,
        op: OpKey,
        landed: SectorSet,
    ) -> Outcome {
        let tear = self.options.shape.spec.disk.tear;
        let nothing = SectorSet::EMPTY;
        // Half of the failures are Errno::EIO.
        let errno = match choose.below(2, Site::Fault) {
            0 => Errno::EIO,
            _ => choose.pick(&Errno::FAILED, Site::Fault),
        };
        match errno.damage(op.kind) {
            Damage::None if op.kind == OpKind::Read || landed.is_empty() => {
                failed(errno, nothing, nothing)
            }
            // It has landed in part, so it cannot have been refused.
            Damage::None => failed(Errno::EIO, nothing, nothing),
            Damage::Landed => {
                let part = subset(choose, op.range().minus(landed), tear, Site::Fault);
                failed(errno, part, nothing)
            }
            Damage::Forgot => {
                failed(errno, nothing, subset(choose, world.disk().dirty(), tear, Site::Fault))
            }
        }
    }

    /// Writes back dirty sectors, or evicts forgotten ones.
    pub(super) fn idle_host<D: DeviceUnderTest, C: Choose>(
        &self,
        world: &World<D>,
        choose: &mut C,
    ) -> Option<Action> {
        let tear = self.options.shape.spec.disk.tear;
        let forgotten = world.disk().forgotten();
        if !forgotten.is_empty() && choose.below(4, Site::Survivor) == 0 {
            let set = subset(choose, forgotten, tear, Site::Survivor);
            return (!set.is_empty()).then_some(Action::Evict { set });
        }
        let dirty = world.dirty().unwrap_or_default();
        let set = subset(choose, dirty, tear, Site::Survivor);
        (!set.is_empty()).then_some(Action::WriteBack { set })
    }
}

fn failed(errno: Errno, landed: SectorSet, forgot: SectorSet) -> Outcome {
    Outcome::Failed { errno, landed, forgot }
}
