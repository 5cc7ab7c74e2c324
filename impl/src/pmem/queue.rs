//! The queue of a persistent memory, as a state machine: from the ring to the flush group, to a
//! sync, to the answer.
//!
//! It has the shape of a [`BlockQueue`](crate::BlockQueue): ring, memory and backing are lent per
//! call; the caller fetches actions through `poll_*` and reports events through `handle_*`. A
//! device has one such queue, so it is the only member of the flush group and there is no other
//! queue to wake. One of the waiting flushes leads: its sync is the one that runs.

use super::backing::Synced;
use super::chain::{Malformed, Parts};
use super::shared::PmemShared;
use super::wire::{R_FAILED, R_OK, RESPONSE_BYTES, T_FLUSH};
use crate::buffer::{Ranges, copy_in};
use crate::disk::Token;
use crate::errno::Errno;
use crate::flush_group::SyncNumber;
use crate::queue_set::QueueIndex;
use crate::sync::{Arc, NotCopied};
use crate::virtio::Descriptor;
use crate::virtio::{Ring, RingFront, Taken};
use std::collections::VecDeque;
use vm_memory::GuestMemory;

/// `req_vq`.
const REQ_VQ: QueueIndex = QueueIndex(0);

/// Maximum number of times in a row that a sync may come back untouched before it counts as failed.
const MAX_RETRIES: u8 = 200;

/// A flush that was taken from the ring and not answered.
#[derive(Clone, Debug)]
struct Flush {
    /// The chain's first descriptor, which identifies the flush to the driver.
    head: u16,
    response: Ranges,
}

/// The flush whose sync is the next to start, or runs.
#[derive(Clone, Debug)]
struct Leader {
    flush: Flush,
    /// Whether its sync was started; it may have come back untouched since.
    started: bool,
    /// Whether its sync is in the host's hands.
    in_host: bool,
    /// Number of completions in a row without progress.
    retries: u8,
}

/// `req_vq`: the flushes in flight, and the next steps of the ring and the backing.
#[derive(Clone, Debug)]
pub struct PmemQueue {
    shared: Arc<PmemShared>,
    front: RingFront,
    /// The flushes that wait for a sync, oldest first, each with the number of the sync it needs.
    for_sync: VecDeque<(SyncNumber, Flush)>,
    leader: Option<Leader>,
    /// Number of completed syncs; part of the next one's token.
    generation: u32,
    /// True from the start of a reset to its end: nothing is taken from the ring, handed over or
    /// answered.
    stopped: bool,
    parts: NotCopied<Parts>,
}

impl PmemQueue {
    /// The queue of the device with `shared`.
    pub fn new(shared: Arc<PmemShared>) -> PmemQueue {
        PmemQueue {
            shared,
            front: RingFront::new(),
            for_sync: VecDeque::new(),
            leader: None,
            generation: 0,
            stopped: false,
            parts: NotCopied::default(),
        }
    }

    /// A deep copy over `shared`, a deep copy of the original's.
    pub(super) fn fork(&self, shared: Arc<PmemShared>) -> PmemQueue {
        PmemQueue { shared, ..self.clone() }
    }

    /// Asserts the invariants that hold between any two steps.
    ///
    /// # Panics
    /// If the flushes that wait are out of order, or a stopped queue holds anything that a reset
    /// ends.
    pub fn check(&self) {
        self.front.check(self.stopped);
        assert!(self.for_sync.iter().map(|(number, _)| number).is_sorted(), "syncs are in order");
        let waits = !self.for_sync.is_empty();
        assert!(!self.stopped || !waits, "a reset ends the flushes that wait");
        let ready = self.has_submission();
        assert!(!self.stopped || !ready, "a reset leaves nothing to hand over");
        let led = self.leader.is_some();
        assert!(self.stopped || led || !waits, "flushes that wait have a leader");
    }

    /// Records a kick: the ring may hold new chains.
    pub fn handle_kick(&mut self) {
        self.front.handle_kick();
    }

    /// Takes one step on the ring: disables kicks, takes one chain, finds that there is none,
    /// enables kicks, or rechecks. Returns `false` iff there is nothing to do until a kick, or
    /// until a flush ends.
    ///
    /// # Spec
    /// VS-17, VS-10, ST-02.
    pub fn poll_ring<M: GuestMemory>(&mut self, ring: &mut Ring, memory: &M) -> bool {
        if self.stopped || self.front.is_broken() {
            return false;
        }
        // A flush in flight occupies an entry of the ring, unless the driver published its head
        // twice.
        let may_take = self.in_flight() < usize::from(ring.size());
        match self.front.step(ring, memory, may_take) {
            Taken::Nothing => false,
            Taken::Moved => true,
            Taken::Chain(head, chain) => {
                self.take_in(ring, memory, head, chain);
                true
            }
        }
    }

    /// Whether a sync is ready to be handed over.
    pub fn has_submission(&self) -> bool {
        self.leader.as_ref().is_some_and(|leader| !leader.in_host)
    }

    /// The next sync for the backing, which must have room for it.
    pub fn poll_submission(&mut self) -> Option<Token> {
        let leader = self.leader.as_mut().filter(|leader| !leader.in_host)?;
        assert!(!self.stopped, "a reset leaves nothing to hand over");
        if !std::mem::replace(&mut leader.started, true) {
            self.shared.flush_group.lock().start(REQ_VQ);
        }
        leader.in_host = true;
        Some(Token::new(0, self.generation))
    }

    /// Handles the completion of a sync from [`poll_submission`](PmemQueue::poll_submission).
    ///
    /// # Panics
    /// If the backing broke its promises: it completed a sync twice, or one never submitted.
    pub fn handle_completion<M: GuestMemory>(
        &mut self,
        ring: &mut Ring,
        memory: &M,
        completion: Synced,
    ) {
        let named = Token::new(0, self.generation) == completion.token;
        let Some(mut leader) = self.leader.take().filter(|leader| leader.in_host && named) else {
            panic!("the backing completed {:?}, which is not in its hands", completion.token);
        };
        self.generation = self.generation.wrapping_add(1);
        leader.in_host = false;
        let put_off = completion.result.is_err_and(Errno::is_transient);
        if put_off && !self.stopped && leader.retries < MAX_RETRIES {
            leader.retries += 1;
            self.leader = Some(leader);
            return;
        }
        // The flush group is not reset: a failure counts in the next life too.
        self.shared.flush_group.end_sync(REQ_VQ, &completion.result);
        if self.stopped {
            return;
        }
        let stable = completion.result.is_ok() && !self.shared.sync_failed();
        let ret = if stable { R_OK } else { R_FAILED };
        self.answer(ring, memory, leader.flush.head, &leader.flush.response, ret);
        self.look_at_flush_group(ring, memory);
    }

    /// Whether the driver is owed a used buffer notification; clears the flag.
    pub fn poll_signal(&mut self) -> bool {
        self.front.poll_signal()
    }

    /// Whether nothing is in the host's hands.
    pub fn is_idle(&self) -> bool {
        !self.leader.as_ref().is_some_and(|leader| leader.in_host)
    }

    /// Whether the ring is invalid and only a reset helps (NEEDS_RESET).
    pub fn is_broken(&self) -> bool {
        self.front.is_broken()
    }

    /// Number of flushes taken from the ring and not yet answered.
    pub fn in_flight(&self) -> usize {
        self.for_sync.len() + usize::from(self.leader.is_some())
    }

    /// Begins a reset: abandons the flushes that wait and lets a sync in the host's hands come
    /// back.
    ///
    /// The reset ends when the queue [is idle](PmemQueue::is_idle).
    ///
    /// # Spec
    /// ST-04, AMB-21.
    pub fn stop(&mut self) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        self.front.stop();
        let mut group = self.shared.flush_group.lock();
        if !self.for_sync.is_empty() {
            self.for_sync.clear();
            group.leave(REQ_VQ);
        }
        if self.leader.take_if(|leader| !leader.in_host).is_some() {
            group.give_up(REQ_VQ);
        }
    }

    /// Makes a stopped queue ready for its next life.
    ///
    /// # Panics
    /// If a sync is still in the host's hands.
    pub fn restart(&mut self) {
        assert!(self.is_idle(), "a reset is over when the queue is idle");
        assert_eq!(self.in_flight(), 0, "a reset ends every flush");
        self.stopped = false;
        self.front = RingFront::new();
    }

    /// Takes the chain that begins at `head` as a flush, or answers it at once.
    fn take_in<M: GuestMemory>(
        &mut self,
        ring: &mut Ring,
        memory: &M,
        head: u16,
        chain: impl Iterator<Item = Descriptor>,
    ) {
        match self.parts.walk(chain, memory) {
            Ok(()) if self.parts.kind() == T_FLUSH => {}
            // "0" is for success (PM-D-05), and no other type can succeed.
            Ok(()) | Err(Malformed::Answerable) => {
                let response = std::mem::take(&mut self.parts.response);
                return self.answer(ring, memory, head, &response, R_FAILED);
            }
            Err(Malformed::NoResponse) => return self.give_back(ring, memory, head, 0),
        }
        let response = std::mem::take(&mut self.parts.response);
        let number = self.shared.flush_group.lock().admit(REQ_VQ);
        self.for_sync.push_back((number, Flush { head, response }));
        self.look_at_flush_group(ring, memory);
    }

    /// Answers the waiting flushes that have their verdict, and lets the next one lead if none
    /// does.
    fn look_at_flush_group<M: GuestMemory>(&mut self, ring: &mut Ring, memory: &M) {
        if self.for_sync.is_empty() {
            return;
        }
        let numbers = self.for_sync.iter().map(|(number, _)| *number);
        let look = self.shared.flush_group.lock().look(REQ_VQ, numbers);
        let ret = if look.failed { R_FAILED } else { R_OK };
        for _ in 0..look.settled {
            let (_, flush) = self.for_sync.pop_front().expect("that many were settled");
            self.answer(ring, memory, flush.head, &flush.response, ret);
        }
        if look.leads {
            assert!(self.leader.is_none(), "there is one leader");
            let (_, flush) = self.for_sync.pop_front().expect("the leader waits");
            self.leader = Some(Leader { flush, started: false, in_host: false, retries: 0 });
        }
    }

    /// Writes the response and returns the chain.
    fn answer<M: GuestMemory>(
        &mut self,
        ring: &mut Ring,
        memory: &M,
        head: u16,
        response: &Ranges,
        ret: u32,
    ) {
        let answered = copy_in(response, memory, 0, &ret.to_le_bytes()).is_ok();
        let len = if answered { RESPONSE_BYTES as u32 } else { 0 };
        self.give_back(ring, memory, head, len);
    }

    /// Returns a chain through the used ring and records whether the driver must be signalled, in
    /// one step.
    fn give_back<M: GuestMemory>(&mut self, ring: &mut Ring, memory: &M, head: u16, len: u32) {
        let put = ring.put(memory, head, len);
        self.front.after_put(put, ring, memory);
    }
}
