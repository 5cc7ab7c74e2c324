//! A request queue (being built).
#![allow(missing_docs, dead_code, unused_variables)]
use crate::disk::*;
use crate::shared::Shared;
use crate::sync::Arc;
use crate::wakes::QueueIndex;
use virtio_queue::Queue;
use vm_memory::GuestMemory;
#[derive(Debug)]
pub struct BlockQueue {
    index: QueueIndex,
    shared: Arc<Shared>,
}
impl BlockQueue {
    pub fn new(index: QueueIndex, shared: Arc<Shared>, queue_size: u16) -> BlockQueue {
        BlockQueue { index, shared }
    }
    pub fn handle_kick(&mut self) {}
    pub fn poll_ring<M: GuestMemory>(&mut self, ring: &mut Queue, memory: &M) -> bool {
        false
    }
    pub fn handle_completion<M: GuestMemory>(&mut self, ring: &mut Queue, memory: &M, completion: Completion) {}
    pub fn handle_wake<M: GuestMemory>(&mut self, ring: &mut Queue, memory: &M) {}
    pub fn poll_submission(&mut self) -> Option<Submission> {
        None
    }
    pub fn poll_signal(&mut self) -> bool {
        false
    }
    pub fn poll_wake(&mut self) -> Option<QueueIndex> {
        None
    }
    pub fn take_doorbell(&mut self) -> bool {
        false
    }
    pub fn is_idle(&self) -> bool {
        true
    }
    pub fn is_drained(&self) -> bool {
        true
    }
    pub fn is_broken(&self) -> bool {
        false
    }
    pub fn in_flight(&self) -> usize {
        0
    }
    pub fn stop(&mut self) {}
    pub fn restart(&mut self) {}
    pub(crate) fn fork(&self, shared: Arc<Shared>) -> BlockQueue {
        BlockQueue { index: self.index, shared }
    }
}
