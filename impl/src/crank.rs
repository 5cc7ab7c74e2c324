//! Joins a queue and its lane of the disk, one step at a time or until neither moves.
//!
//! The simulator takes single steps, with guest actions between them; an event loop cranks. Both go
//! through [`step`], so the order is the same. A step never blocks: it returns [`Step::Idle`] if
//! there is nothing to do.

use crate::disk::Disk;
use crate::queue::BlockQueue;
use crate::queue_set::QueueIndex;
use crate::virtio::Ring;
use vm_memory::GuestMemory;

/// The result of one step.
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
    /// Took one step of work on the ring.
    Ring,
    /// There is nothing to do until a kick, a wake or a completion.
    Idle,
}

/// Takes one step: the first available of completion, wake, signal, submission and ring work.
///
/// The disk's doorbell rings when nothing is left to hand over: the disk is full, or everything
/// else is done.
pub fn step<M: GuestMemory, D: Disk<M>>(
    queue: &mut BlockQueue,
    ring: &mut Ring,
    disk: &mut D,
    memory: &M,
) -> Step {
    one(queue, ring, disk, memory, true)
}

/// Takes one step towards the end of the requests in flight: as [`step`], but takes nothing from
/// the ring. For a queue that is disabled or about to stop.
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
    // A disk may complete operations at its doorbell without a further notification.
    match disk.complete(memory) {
        Some(completion) => {
            queue.handle_completion(ring, memory, completion);
            Step::Completed
        }
        None => Step::Idle,
    }
}

/// Steps until nothing is left to do; passes signals and wakes to the caller.
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
