//! The plan of one row of a scope: the options of its world and the requests of its guest.

use super::row::Row;
use super::scope::Scope;
use crate::dut::DeviceUnderTest;
use crate::guest::GuestRequest;
use crate::guest::Kind;
use crate::world::WorldShape;

/// Settings that all searches of one row share.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) scope: Scope,
    pub(super) row: Row,
    pub(super) kind: Kind,
    pub(super) shape: WorldShape,
    /// The features that the driver accepts.
    pub(super) accept: u64,
    /// The requests that the guest may send.
    pub(super) asks: Vec<GuestRequest>,
    /// For each of those, the index of its mirror image.
    pub(super) mirrors: Vec<u8>,
    /// Whether every idle state is read back, not only the last ones.
    pub(super) look_often: bool,
}

impl Plan {
    /// The plan of a row.
    pub(super) fn new<D: DeviceUnderTest>(scope: &Scope, row: Row) -> Plan {
        let kinds = D::KINDS;
        let (mut shape, accept) = scope.shape(kinds, row);
        shape.contract = scope.contract_of::<D>();
        let asks = scope.asks(kinds[0], row);
        let sectors = u32::from(scope.sectors);
        let mirrors = asks.iter().map(|ask| {
            let image = mirrored(ask, sectors);
            asks.iter().position(|other| *other == image).expect("a scope has both") as u8
        });
        let mirrors = mirrors.collect();
        let (scope, kind) = (scope.clone(), kinds[0]);
        Plan { scope, row, kind, shape, accept, asks, mirrors, look_often: false }
    }

    /// Whether a request is its own mirror image.
    pub(super) fn is_symmetric(&self, nth: u8) -> bool {
        self.mirrors[usize::from(nth)] == nth
    }
}

/// A request on the disk turned end to end.
fn mirrored(ask: &GuestRequest, sectors: u32) -> GuestRequest {
    let turned = |first: u64, count: u32| u64::from(sectors) - first - u64::from(count);
    match ask.range() {
        Some((first, count)) => ask.at(turned(first, count), count).unwrap_or(*ask),
        None => ask.with_segments(|segment| {
            let sector = turned(segment.sector, segment.sectors);
            powerfail_model::Segment { sector, ..segment }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::blk::Blk;

    #[test]
    fn a_mirror_image_of_a_mirror_image_is_the_request() {
        let scope = Scope { sectors: 3, ..Scope::default() };
        let plan = Plan::new::<Blk>(&scope, Row::G);
        assert_eq!(plan.asks.len(), 3 * 6 + 1, "three kinds over six ranges, and the flush");
        for (nth, &image) in plan.mirrors.iter().enumerate() {
            assert_eq!(usize::from(plan.mirrors[usize::from(image)]), nth);
        }
        let symmetric = (0..plan.asks.len()).filter(|&nth| plan.is_symmetric(nth as u8));
        assert_eq!(symmetric.count(), 3 * 2 + 1, "the middle, the whole, and the flush");
    }
}
