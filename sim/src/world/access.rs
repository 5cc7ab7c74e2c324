//! Stores and loads of the guest in a persistent memory, which involve no request.

use powerfail_model::{Atom, Observed, RequestId};

use super::judge::{Answer, Failure};
use super::{Event, Outcome, World};
use crate::dut::caught::of_device;
use crate::dut::{DeviceUnderTest, Host, Mapping};
use crate::guest::Kind;
use crate::guest::payload::{self, Author};
use crate::guest::wire::Status;
use crate::guest::{GuestRequest, MAX_WORDS};
use crate::world::action::QueueId;
use crate::world::coverage::Situation;

impl<D: DeviceUnderTest> World<D> {
    /// Stores or loads words, in one step. Enabled only while the driver runs the device.
    pub(super) fn access(&mut self, to: QueueId, id: u32, ask: GuestRequest) -> Outcome {
        let (GuestRequest::Store { word, words } | GuestRequest::Load { word, words }) = ask else {
            unreachable!("{ask} is a request");
        };
        let may_fail = self.shape.host_may_fail;
        let World { memory, disk, slots, .. } = self;
        let slot = &mut slots[usize::from(to.device)];
        let there = word.checked_add(words).is_some_and(|end| end <= slot.capacity);
        let fits = (1..=MAX_WORDS).contains(&words) && there;
        if slot.kind != Kind::Memory || !slot.is_live() || !fits {
            return Ok(false);
        }
        let author = Author { run: self.run, disk: to.device };
        let link = &mut slot.link;
        let mut host = Host { ram: memory.ram(), disk, device: to.device, may_fail, link };
        let mut seen = [Observed::Garbage; MAX_WORDS as usize];
        let store = matches!(ask, GuestRequest::Store { .. });
        for (content, number) in seen.iter_mut().zip(word..word + words) {
            if store {
                store_word(&mut slot.device, number, payload::word(author, number, id), &mut host);
            } else {
                let word = load_word(&mut slot.device, number, &mut host);
                *content = payload::read_word(word, author, number);
            }
        }
        self.heed(to.device);
        let slot = &mut self.slots[usize::from(to.device)];
        let flushing = slot.queues[0].out() > 0;
        let was_reset = slot.was_reset;
        let told = slot.oracle.judge(|oracle, _| {
            if store {
                oracle.memory().store(RequestId(id), Atom(word), words);
                Ok(())
            } else {
                oracle.memory().load(RequestId(id), Atom(word), &seen[..words as usize])
            }
        });
        self.coverage.hit_if(store && flushing, Situation::StoreDuringFlush);
        self.coverage.hit_if(!store && was_reset, Situation::ReadAfterReset);
        self.stats.requests += 1;
        self.stats.completions += 1;
        self.stats.by_kind[usize::from(store)] += 1;
        self.chain.note(3, u64::from(id), u64::from(to.device));
        if self.listening {
            let found = if store { &[][..] } else { &seen[..words as usize] };
            self.answers.push(Answer::new(id, Status::OK, found));
        }
        if self.journal.is_some() {
            self.note(Event::Completed { to, id, ask, status: Status::OK });
        }
        told.map_err(|violation| Failure::boxed(to.device, violation))?;
        Ok(true)
    }
}

/// The driver stores a word through the mapping.
#[inline]
fn store_word<D: DeviceUnderTest>(device: &mut D, word: u32, value: u64, host: &mut Host<'_>) {
    match device.mapping() {
        Some(mapping) => of_device(|| mapping.store(word, value, host)),
        None => host.disk.store(host.device, word, value),
    }
}

/// The driver loads a word through the mapping.
#[inline]
fn load_word<D: DeviceUnderTest>(device: &mut D, word: u32, host: &mut Host<'_>) -> u64 {
    match device.mapping() {
        Some(mapping) => of_device(|| mapping.load(word, host)),
        None => host.disk.load(host.device, word),
    }
}
