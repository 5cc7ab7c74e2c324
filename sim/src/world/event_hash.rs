//! The chained hash over the events of a run.
//!
//! Two runs with equal chains had the same events. The hash is not cryptographic: one
//! multiplication and one shift per word, because it runs on every event.

use crate::base::sectors::SectorSet;
use crate::dut::lifecycle::Lifecycle;
use crate::guest::{Change, GuestRequest, Layout, Malformation, Moment, Segments};
use crate::host::disk::{OpKey, Outcome};
use crate::world::action::{Action, CrashKind, QueueId, Until};

/// A hash that every event is chained into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain(u64);

impl Chain {
    /// The chain of a run before its first event.
    #[must_use]
    pub fn new(run: u32) -> Chain {
        Chain(0x706f_7765_7266_6169 ^ u64::from(run))
    }

    /// The hash so far.
    #[inline]
    #[must_use]
    pub fn value(self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    #[inline]
    fn word(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(0xd6e8_feb8_6659_fd93);
        self.0 = mixed ^ (mixed >> 32);
    }

    /// Chains an event that is not an action: a completion, a signal.
    #[inline]
    pub fn note(&mut self, tag: u64, a: u64, b: u64) {
        self.word(tag << 56 ^ a << 28 ^ b);
    }

    fn set(&mut self, set: SectorSet) {
        for word in set.words() {
            self.word(word);
        }
    }

    fn op(&mut self, tag: u64, op: OpKey) {
        self.word(
            tag << 56
                | u64::from(op.device) << 48
                | u64::from(op.lane) << 40
                | (op.kind as u64) << 32
                | u64::from(op.twin) << 28
                | u64::from(op.sector) << 16
                | u64::from(op.sectors),
        );
    }

    fn queue(&mut self, tag: u64, to: QueueId, more: u64) {
        self.word(tag << 56 | u64::from(to.device) << 48 | u64::from(to.queue) << 40 | more);
    }

    fn segments(&mut self, segments: &Segments) {
        for segment in segments.as_slice() {
            self.word(segment.sector);
            self.word(u64::from(segment.sectors) << 32 | u64::from(segment.flags));
        }
        if segments.more() > 0 {
            self.word(segments.more().into());
        }
    }

    /// Chains an action that was done.
    #[inline]
    pub fn action(&mut self, action: &Action) {
        match *action {
            Action::Start { device, accept, base } => {
                self.word(10 << 56 | u64::from(device) << 48 | u64::from(base));
                self.word(accept);
            }
            Action::Send { to, id, ref ask, layout, malformation } => {
                self.queue(11, to, u64::from(id));
                let Layout { header, data, glued, indirect, empty } = layout;
                let cut = u32::from_le_bytes([header, data, glued << 4 | indirect, empty]);
                let spoiled = match malformation {
                    Malformation::None => 0,
                    Malformation::ShortData(bytes) => 1 | u64::from(bytes) << 8,
                    Malformation::ShortHeader => 2,
                    Malformation::NoStatus => 3,
                    Malformation::StatusFirst => 4,
                    Malformation::Loop => 5,
                    Malformation::NextOutOfRange => 6,
                    Malformation::ExtraData(bytes) => 7 | u64::from(bytes) << 8,
                    Malformation::SectorSet => 8,
                    Malformation::BeyondLimits => 9,
                };
                self.word(u64::from(cut) << 32 | spoiled);
                match *ask {
                    GuestRequest::Store { words, .. } => self.word(1 << 63 | u64::from(words)),
                    GuestRequest::Load { words, .. } => self.word(1 << 62 | u64::from(words)),
                    _ => {
                        self.word(u64::from(ask.wire_type()) << 32 | u64::from(ask.data_len()));
                    }
                }
                match ask {
                    GuestRequest::Ranges(_, segments) => self.segments(segments),
                    _ => self.word(ask.sector()),
                }
            }
            Action::SendAgain { to, id } => self.queue(12, to, u64::from(id)),
            Action::Alter { to, change, moment } => {
                let moment = match moment {
                    Moment::Step(nth) => u64::from(nth),
                    Moment::Read(nth) => 1 << 8 | u64::from(nth),
                };
                let (kind, detail, more) = match change {
                    Change::Type(number) => (0, u64::from(number), 0),
                    Change::Sector(sector) => (1, sector, 0),
                    Change::Segment { nth, segment } => {
                        let sizes = u64::from(segment.sectors) << 32 | u64::from(segment.flags);
                        (2 | u64::from(nth) << 8, segment.sector, sizes)
                    }
                    Change::Data { id } => (3, u64::from(id), 0),
                    Change::Length { less } => (4, u64::from(less), 0),
                };
                self.queue(36, to, kind << 16 | moment);
                self.word(detail);
                self.word(more);
            }
            Action::Jump { to } => self.queue(13, to, 0),
            Action::Kick { to } => self.queue(14, to, 0),
            Action::Reap { to, arm } => self.queue(15, to, u64::from(arm)),
            Action::Writeback { device, value } => {
                self.word(16 << 56 | u64::from(device) << 8 | u64::from(value));
            }
            Action::Reset { device } => self.word(17 << 56 | u64::from(device)),
            Action::PollReset { device } => self.word(18 << 56 | u64::from(device)),
            Action::Crank { to, until } => match until {
                Until::Steps(steps) => self.queue(19, to, u64::from(steps)),
                Until::Idle => self.queue(30, to, 0),
                Until::Used(id) => self.queue(31, to, u64::from(id)),
                Until::Submitted(op) => {
                    self.queue(32, to, 0);
                    self.op(32, op);
                }
            },
            Action::Background { device, steps } => {
                self.word(34 << 56 | u64::from(device) << 8 | u64::from(steps));
            }
            Action::Choose { device, choices } => {
                self.word(35 << 56 | u64::from(device));
                choices.numbers().iter().for_each(|&number| self.word(u64::from(number)));
            }
            Action::Effect { op, set } => {
                self.op(20, op);
                self.set(set);
            }
            Action::Complete { op, outcome } => match outcome {
                Outcome::Ok { landed } => {
                    self.op(21, op);
                    self.set(landed);
                }
                Outcome::Short { bytes } => {
                    self.op(22, op);
                    self.word(u64::from(bytes));
                }
                Outcome::Failed { errno, landed, forgot } => {
                    self.op(23, op);
                    self.word(errno.0 as u64);
                    self.set(landed);
                    self.set(forgot);
                }
            },
            Action::WriteBack { set } => {
                self.word(24 << 56);
                self.set(set);
            }
            Action::Evict { set } => {
                self.word(25 << 56);
                self.set(set);
            }
            Action::Await { device, id } => {
                self.word(29 << 56 | u64::from(device) << 32 | u64::from(id));
            }
            Action::Stream { to, id, ref ask, count } => {
                self.word(30 << 56 | u64::from(count) << 32 | u64::from(id));
                self.word(u64::from(to.device) << 8 | u64::from(to.queue));
                self.word(u64::from(ask.wire_type()) << 32 | ask.sector());
            }
            Action::Lifecycle { device, what } => {
                let (kind, detail) = match what {
                    Lifecycle::Pause => (0, 0),
                    Lifecycle::Resume => (1, 0),
                    Lifecycle::Save => (2, 0),
                    Lifecycle::Restore => (3, 0),
                    Lifecycle::RestartRings => (10, 0),
                    Lifecycle::Leave => (11, 0),
                    Lifecycle::Resize { sectors } => (4, u64::from(sectors)),
                    Lifecycle::ResetQueue { queue } => (5, u64::from(queue)),
                    Lifecycle::PollQueue { queue } => (6, u64::from(queue)),
                    Lifecycle::PlaceQueue { queue, size } => {
                        (7, u64::from(queue) << 16 | u64::from(size))
                    }
                    Lifecycle::Reconnect { inside: None } => (8, 0),
                    Lifecycle::Reconnect { inside: Some((queue, cut)) } => {
                        (9, u64::from(queue) << 8 | cut as u64)
                    }
                };
                self.word(33 << 56 | u64::from(device) << 48 | kind << 40 | detail);
            }
            Action::Rest => self.word(28 << 56),
            Action::Crash(CrashKind::Backend { device }) => self.word(26 << 56 | u64::from(device)),
            Action::Crash(CrashKind::Power { survivors }) => {
                self.word(27 << 56);
                self.set(survivors);
            }
        }
    }
}
