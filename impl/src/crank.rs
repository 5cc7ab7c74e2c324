//! Joins a queue and its lane of the disk, one step at a time or until neither moves.
//!
//! The simulator takes single steps, with guest actions between them; an event loop cranks. Both go
//! through [`step`], so there is one order of things. Steps never wait: a step that finds nothing
//! says so.

use crate::disk::Disk;
use crate::queue::BlockQueue;
use crate::queue_set::QueueIndex;
use crate::virtio::Ring;
use vm_memory::GuestMemory;

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Took a completion from the disk.
    Completed,
    /// This other queue must be woken ([`BlockQueue::handle_wake`]) and stepped by the caller.
    Wake(QueueIndex),
    /// The caller must signal the driver: a used notification of this queue.
    Signal,
    /// Handed a submission to the disk.
    Submitted,
    /// One step of work on the ring.
    Ring,
    /// Nothing to do until a kick, a wake or a completion.
    Idle,
}

/// Takes one step: the first of completion, wake, signal, submission and ring work that there is.
///
/// The disk's doorbell rings when there is nothing left to hand over: the disk is full, or
/// everything else is done.
pub fn step<M: GuestMemory, D: Disk<M>>(
    queue: &mut BlockQueue,
    ring: &mut Ring,
    disk: &mut D,
    memory: &M,
) -> Step {
    one(queue, ring, disk, memory, true)
}

/// Takes one step towards the end of what is in flight: as [`step`], but nothing is taken from the
/// ring. A queue that is disabled, or about to stop, goes on like this.
pub fn settle<M: GuestMemory, D: Disk<M>>(
    queue: &mut BlockQueue,
    ring: &mut Ring,
    disk: &mut D,
    memory: &M,
) -> Step {
    one(queue, ring, disk, memory, false)
}

#[inline]
fn one<M: GuestMemory, D: Disk<M>>(
    queue: &mut BlockQueue,
    ring: &mut Ring,
    disk: &mut D,
    memory: &M,
    take: bool,
) -> Step {
    if let Some(completion) = disk.complete(memory) {
        queue.handle_completion(ring, memory, completion);
        return Step::Completed;
    }
    if let Some(other) = queue.poll_wake() {
        return Step::Wake(other);
    }
    if queue.poll_signal() {
        return Step::Signal;
    }
    if disk.room() == 0 {
        ring_doorbell(queue, disk);
    } else if let Some(submission) = queue.poll_submission() {
        disk.submit(memory, submission);
        return Step::Submitted;
    }
    if take && queue.poll_ring(ring, memory) {
        return Step::Ring;
    }
    if !ring_doorbell(queue, disk) {
        return Step::Idle;
    }
    // A disk may complete at its doorbell, and nobody would tell us.
    match disk.complete(memory) {
        Some(completion) => {
            queue.handle_completion(ring, memory, completion);
            Step::Completed
        }
        None => Step::Idle,
    }
}

/// Steps until there is nothing left to do; hands signals and wakes to the caller as they come.
pub fn crank<M: GuestMemory, D: Disk<M>>(
    queue: &mut BlockQueue,
    ring: &mut Ring,
    disk: &mut D,
    memory: &M,
    mut signal: impl FnMut(),
    mut wake: impl FnMut(QueueIndex),
) {
    loop {
        match step(queue, ring, disk, memory) {
            Step::Completed | Step::Submitted | Step::Ring => {}
            Step::Wake(other) => wake(other),
            Step::Signal => signal(),
            Step::Idle => return,
        }
    }
}

fn ring_doorbell<M: GuestMemory, D: Disk<M>>(queue: &mut BlockQueue, disk: &mut D) -> bool {
    let due = queue.poll_doorbell();
    if due {
        disk.doorbell();
    }
    due
}
