//! The requests of a story by number, each with its content and its status.

use std::collections::BTreeMap;

use powerfail_model::{Content, Observed, RequestId};

use crate::base::sectors::SectorSet;
use crate::guest::wire::Status;
use crate::guest::{GuestRequest, Malformation, RangeKind};
use crate::host::disk::{OpKey, OpKind};
use crate::trace::request_name;
use crate::world::Event;
use crate::world::action::{Action, QueueId};

/// One request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) to: QueueId,
    pub(super) ask: GuestRequest,
    pub(super) malformation: Malformation,
    /// How it was answered, if it was.
    pub(super) status: Option<Status>,
}

/// See the [module](self).
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    by_number: BTreeMap<u32, Request>,
    /// The request that was never used; the story shows its queue.
    waited_for: Option<u32>,
    /// The name of the atoms of the device that failed: `sector` or `word`.
    unit: &'static str,
}

impl Requests {
    /// Collects the requests of these events.
    pub(super) fn new(events: &[Event], waited_for: Option<u32>, unit: &'static str) -> Requests {
        let mut requests = Requests { by_number: BTreeMap::new(), waited_for, unit };
        for event in events {
            match *event {
                Event::Did(Action::Send { to, id, ask, malformation, .. }) => {
                    requests.by_number.entry(id).or_insert(Request {
                        to,
                        ask,
                        malformation,
                        status: None,
                    });
                }
                Event::Completed { id, status, .. } => {
                    if let Some(request) = requests.by_number.get_mut(&id) {
                        request.status = Some(status);
                    }
                }
                _ => {}
            }
        }
        requests
    }

    /// The name of the atoms of the device that failed: `sector` or `word`.
    pub(super) fn unit(&self) -> &'static str {
        self.unit
    }

    pub(super) fn request(&self, id: u32) -> Option<&Request> {
        self.by_number.get(&id)
    }

    /// Every request, by number.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, &Request)> {
        self.by_number.iter().map(|(id, request)| (*id, request))
    }

    /// `w26`, or `request 26` if no such request was sent.
    pub(super) fn name(&self, id: u32) -> String {
        self.request(id)
            .map_or_else(|| format!("request {id}"), |request| request_name(id, &request.ask))
    }

    /// The requests that a text names.
    pub(super) fn named_in(&self, text: &str) -> Vec<u32> {
        let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        self.by_number
            .keys()
            .copied()
            .filter(|&id| words.contains(&self.name(id).as_str()))
            .collect()
    }

    /// The queue of a request, if the story is about that queue.
    pub(super) fn waits_on(&self, id: u32) -> Option<QueueId> {
        (self.waited_for == Some(id)).then(|| self.request(id).map(|request| request.to))?
    }

    /// A content in words.
    pub(super) fn content(&self, content: Content) -> String {
        match content.writer() {
            Some(RequestId(id)) => self.name(id),
            None if content == Content::ZERO => "zeroes".to_owned(),
            None => content.to_string(),
        }
    }

    /// An observed content in words.
    pub(super) fn observed(&self, observed: Observed) -> String {
        match observed {
            Observed::Content(content) => self.content(content),
            Observed::Misdirected { content, home } if content.writer().is_some() => {
                format!("{} of {} {home}", self.content(content), self.unit)
            }
            Observed::Misdirected { home, .. } => {
                format!("the initial content of {} {home}", self.unit)
            }
            Observed::Foreign => "content that is not this device's".to_owned(),
            other => other.to_string(),
        }
    }
}

/// The outstanding requests, and the host operations in flight with the requests they serve.
///
/// A device does not name the request that an operation serves. The owner is inferred where only
/// one outstanding request of the same queue fits.
#[derive(Clone, Debug, Default)]
pub(super) struct Work {
    out: Vec<(QueueId, u32, GuestRequest)>,
    operations: Vec<(OpKey, Option<u32>)>,
}

impl Work {
    pub(super) fn sent(&mut self, to: QueueId, id: u32, ask: GuestRequest) {
        self.out.push((to, id, ask));
    }

    pub(super) fn came_back(&mut self, id: u32) {
        self.out.retain(|request| request.1 != id);
    }

    /// The requests of a device have ended unanswered. Host operations in flight keep their owners.
    pub(super) fn ended(&mut self, device: u8) {
        self.out.retain(|request| request.0.device != device);
    }

    /// A power loss: no request and no operation is left.
    pub(super) fn all_ended(&mut self) {
        *self = Work::default();
    }

    /// An operation was submitted to the host. Returns its owner, if that is known.
    pub(super) fn submitted(&mut self, op: OpKey, base: u32, capacity: u32) -> Option<u32> {
        let mut range = SectorSet::EMPTY;
        op.range().iter().for_each(|sector| range.insert(sector.saturating_sub(base)));
        let touches = |ask: &GuestRequest| !ask.covered(capacity).and(range).is_empty();
        let owner = self
            .only(&op, |ask| is_for(op.kind, ask) && ask.covered(capacity) == range)
            .or_else(|| {
                self.only(&op, |ask| match op.kind {
                    OpKind::Sync => *ask == GuestRequest::Flush || ask.mutates(),
                    OpKind::Read => touches(ask),
                    _ => touches(ask) && ask.mutates(),
                })
            })
            .or_else(|| self.only(&op, |ask| is_for(op.kind, ask)));
        self.operations.push((op, owner));
        owner
    }

    /// The only request on the operation's queue for which `is` holds.
    fn only(&self, op: &OpKey, is: impl Fn(&GuestRequest) -> bool) -> Option<u32> {
        let mut those = self
            .out
            .iter()
            .filter(|(to, _, ask)| to.device == op.device && to.queue == op.lane && is(ask));
        match (those.next(), those.next()) {
            (Some(only), None) => Some(only.1),
            _ => None,
        }
    }

    /// The owner of an operation in flight. `None` if it is unknown, as for like operations with
    /// different owners.
    pub(super) fn owner(&self, op: &OpKey) -> Option<u32> {
        if let Some(exactly) = self.operations.iter().find(|other| other.0 == *op) {
            return exactly.1;
        }
        let mut alike = self.operations.iter().filter(|other| other.0.is_like(op));
        let owner = alike.next()?.1;
        alike.all(|other| other.1 == owner).then_some(owner)?
    }

    /// The host has completed an operation.
    pub(super) fn completed(&mut self, op: &OpKey) {
        if let Some(at) = self.operations.iter().position(|other| other.0 == *op) {
            self.operations.remove(at);
            return;
        }
        let owner = self.owner(op);
        if let Some(at) = self.operations.iter().position(|other| other.0.is_like(op)) {
            self.operations.remove(at);
        }
        for other in self.operations.iter_mut().filter(|other| other.0.is_like(op)) {
            other.1 = owner;
        }
    }
}

/// Whether an operation of this kind is the main operation of such a request.
fn is_for(kind: OpKind, ask: &GuestRequest) -> bool {
    match kind {
        OpKind::Read => matches!(ask, GuestRequest::In { .. }),
        OpKind::Write => matches!(ask, GuestRequest::Out { .. }),
        OpKind::Sync => *ask == GuestRequest::Flush,
        OpKind::Discard => matches!(ask, GuestRequest::Ranges(RangeKind::Discard, _)),
        OpKind::WriteZeroes => matches!(ask, GuestRequest::Ranges(RangeKind::WriteZeroes, _)),
    }
}
