//! Changes of a request after its publication.

use super::Scheduler;
use super::workload::unknown_type;
use crate::base::choose::{Choose, Site};
use crate::guest::wire::request;
use crate::guest::{Change, GuestRequest, Moment, RangeKind};
use crate::world::action::{Action, QueueId};

impl Scheduler {
    /// A change of the request that is sent next.
    pub(super) fn alteration<C: Choose>(
        &mut self,
        choose: &mut C,
        to: QueueId,
        ask: &GuestRequest,
    ) -> Action {
        let change = self.change(choose, ask);
        // Most devices that fetch twice see the change in the second fetch.
        let nth = choose.pick(&[1, 2, 2, 2, 3], Site::Request);
        let moment = match choose.below(4, Site::Request) {
            0 => Moment::Step(nth),
            _ => Moment::Read(nth),
        };
        Action::Alter { to, change, moment }
    }

    fn change<C: Choose>(&mut self, choose: &mut C, ask: &GuestRequest) -> Change {
        let way = choose.below(8, Site::Request);
        if way == 0 {
            return Change::Type(no_type(choose));
        }
        match ask {
            GuestRequest::Out { .. } if way < 5 => {
                let id = self.next_id;
                self.next_id += 1;
                Change::Data { id }
            }
            GuestRequest::In { .. } if way < 4 => Change::Sector(self.range(choose).0),
            GuestRequest::In { .. } | GuestRequest::Out { .. } if way < 6 => {
                Change::Sector(self.far(choose))
            }
            GuestRequest::In { .. } | GuestRequest::Out { .. } => {
                let less = choose.pick(&[512, 512, 1024, 256, 1], Site::Request);
                Change::Length { less }
            }
            GuestRequest::Ranges(RangeKind::Discard, _) if way == 1 => {
                Change::Type(request::WRITE_ZEROES)
            }
            GuestRequest::Ranges(RangeKind::WriteZeroes, _) if way == 1 => {
                Change::Type(request::DISCARD)
            }
            GuestRequest::Ranges(kind, segments) => {
                let nth = choose.below(segments.as_slice().len() as u32, Site::Request);
                let old = segments.as_slice()[nth as usize];
                let spoilt = self.spoilt_segments(choose, *kind);
                let mut segment = spoilt.as_slice().get(nth as usize).copied().unwrap_or(old);
                if way < 4 {
                    (segment.sector, segment.sectors) = self.range(choose);
                    segment.flags = old.flags;
                }
                Change::Segment { nth: nth as u8, segment }
            }
            _ => Change::Type(no_type(choose)),
        }
    }
}

/// A request type that the specification does not define.
fn no_type<C: Choose>(choose: &mut C) -> u32 {
    let number = unknown_type(choose);
    if request::ZONE_TYPES.contains(&number) { number | 1 << 31 } else { number }
}
