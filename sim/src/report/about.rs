//! Event selection: the events of a run that bear on the broken promise.
//!
//! A failure in a sector concerns the requests that touch it and the events that make them stable.
//! A failure of the protocol concerns one request, one queue, the negotiation, or the whole device.

use powerfail_model::{Observed, Reason, Rule};

use super::requests::Requests;
use crate::base::sectors::SectorSet;
use crate::guest::GuestRequest;
use crate::host::disk::{OpKey, OpKind};
use crate::world::Failure;
use crate::world::WorldShape;
use crate::world::action::QueueId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Everything,
    /// These sectors, in guest numbering.
    Sectors(SectorSet),
    Request(u32),
    Queue(u8),
    Negotiation,
    Device,
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub(super) struct About {
    scope: Scope,
    device: u8,
    /// Events of the other device may matter too.
    others: bool,
    /// The requests that the verdict names.
    named: Vec<u32>,
    capacity: u32,
    base: u32,
    /// The sectors of the device on a medium that is not plain: which of them hold what is unknown.
    opaque: Option<SectorSet>,
}

impl About {
    pub(super) fn new(
        shape: &WorldShape,
        failure: &Failure,
        all: bool,
        queue: Option<u8>,
        also: &[u32],
    ) -> About {
        let violation = &failure.violation;
        let capacity = shape.spec.disk.room();
        let mut named: Vec<u32> = violation.because.iter().filter_map(request_of).collect();
        named.extend(violation.request.map(|id| id.0));
        named.extend(also);
        let scope = match (violation.atom, violation.request, queue) {
            _ if all => Scope::Everything,
            (Some(atom), ..) if atom.0 < capacity => {
                let mut sectors = SectorSet::range(atom.0, 1);
                if let Some(Observed::Misdirected { home, .. }) = violation.observed
                    && home < u64::from(capacity)
                {
                    sectors.insert(home as u32);
                }
                Scope::Sectors(sectors)
            }
            _ if is_of_negotiation(violation.rule) => Scope::Negotiation,
            (_, Some(id), _) => Scope::Request(id.0),
            (.., Some(queue)) => Scope::Queue(queue),
            _ => Scope::Device,
        };
        let rule = violation.rule;
        let others = matches!(rule, Rule::ForeignContent | Rule::MediumOutside) || all;
        let base = shape.spec.disk.base(failure.device);
        let opaque = opaque(shape, failure.device);
        About { scope, device: failure.device, others, named, capacity, base, opaque }
    }

    /// Selects every event, because no promise was broken. A choice of one device takes the first.
    pub(super) fn everything(shape: &WorldShape) -> About {
        let disk = &shape.spec.disk;
        About {
            scope: Scope::Everything,
            device: 0,
            others: true,
            named: Vec::new(),
            capacity: disk.room(),
            base: disk.base(0),
            opaque: opaque(shape, 0),
        }
    }

    /// The requests that the verdict names.
    pub(super) fn named(&self) -> &[u32] {
        &self.named
    }

    /// Whether the story lists every accepted feature.
    pub(super) fn wants_features(&self) -> bool {
        matches!(self.scope, Scope::Negotiation | Scope::Everything)
    }

    /// Whether the story shows every event.
    pub(super) fn is_everything(&self) -> bool {
        self.scope == Scope::Everything
    }

    /// Whether a device's lifecycle matters: its starts, its resets and its cache mode.
    pub(super) fn device(&self, device: u8) -> bool {
        device == self.device || self.others
    }

    /// Whether a request matters.
    pub(super) fn request(&self, to: QueueId, id: u32, ask: &GuestRequest) -> bool {
        if !self.device(to.device) {
            return false;
        }
        match self.scope {
            Scope::Everything | Scope::Device => true,
            Scope::Sectors(sectors) => {
                let touched = ask.covered(self.capacity).and(sectors);
                let elsewhere = to.device != self.device;
                self.named.contains(&id)
                    || elsewhere
                    || *ask == GuestRequest::Flush
                    || !touched.is_empty()
            }
            Scope::Request(_) => self.named.contains(&id),
            Scope::Queue(queue) => to.queue == queue,
            Scope::Negotiation => false,
        }
    }

    /// Whether a host operation matters. `owner` is the request it serves, if that is known.
    pub(super) fn operation(&self, op: &OpKey, owner: Option<u32>) -> bool {
        if !self.device(op.device) {
            return false;
        }
        match self.scope {
            Scope::Everything | Scope::Device => true,
            Scope::Sectors(_) => {
                op.device != self.device
                    || op.kind == OpKind::Sync
                    || owner.is_some_and(|id| self.named.contains(&id))
                    || !op.range().and(self.on_medium()).is_empty()
            }
            Scope::Request(_) => owner.is_some_and(|id| self.named.contains(&id)),
            Scope::Queue(queue) => op.lane == queue,
            Scope::Negotiation => false,
        }
    }

    /// Whether kicks, signals and reaping on a queue matter.
    pub(super) fn ring(&self, to: QueueId, requests: &Requests) -> bool {
        match self.scope {
            Scope::Everything => true,
            Scope::Queue(queue) => to.device == self.device && to.queue == queue,
            Scope::Request(id) => requests.waits_on(id) == Some(to),
            _ => false,
        }
    }

    /// The sectors of `set` (medium numbering) that matter, in guest numbering.
    pub(super) fn shown(&self, set: SectorSet) -> SectorSet {
        let mine = match self.scope {
            Scope::Sectors(_) => self.on_medium(),
            Scope::Request(_) | Scope::Negotiation => SectorSet::EMPTY,
            _ => self.opaque.unwrap_or_else(|| SectorSet::range(self.base, self.capacity)),
        };
        let mut shown = SectorSet::EMPTY;
        set.and(mine).iter().for_each(|sector| shown.insert(sector - self.base));
        shown
    }

    fn on_medium(&self) -> SectorSet {
        if let Some(all) = self.opaque {
            return all;
        }
        let mut set = SectorSet::EMPTY;
        if let Scope::Sectors(sectors) = self.scope {
            sectors.iter().for_each(|sector| set.insert(sector + self.base));
        }
        set
    }
}

fn opaque(shape: &WorldShape, device: u8) -> Option<SectorSet> {
    let disk = &shape.spec.disk;
    (!disk.plain).then(|| disk.part(device))
}

/// The request of an event in a verdict.
fn request_of(reason: &Reason) -> Option<u32> {
    match *reason {
        Reason::Submitted { id, .. }
        | Reason::Completed { id, .. }
        | Reason::Abandoned { id, .. }
        | Reason::NeverAVersion { id, .. }
        | Reason::StableAtCompletion { id, .. }
        | Reason::FlushSubmitted { id, .. }
        | Reason::FlushCompleted { id, .. }
        | Reason::ReadSaw { id, .. } => Some(id.0),
        Reason::Saved { .. }
        | Reason::HostFailed { .. }
        | Reason::Kill { .. }
        | Reason::PowerLoss { .. } => None,
    }
}

/// Whether a rule concerns only features and registers, and so no request.
fn is_of_negotiation(rule: Rule) -> bool {
    matches!(
        rule,
        Rule::OfferBroken
            | Rule::FeaturesRefused
            | Rule::UnofferedAccepted
            | Rule::WritebackUntrue
            | Rule::WritebackStart
            | Rule::ReservedNotZero
            | Rule::ConfigUntrue
            | Rule::GenerationStale
    )
}
