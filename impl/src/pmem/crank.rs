//! Joins the queue and its backing, one step at a time or until neither moves.
//!
//! The order differs from a disk's in one respect: a sync is handed over last, when the ring has
//! nothing more to take, so that one sync serves all published flushes. A driver that publishes
//! without a pause delays its own flushes.

use super::backing::Backing;
use super::queue::PmemQueue;
use crate::crank::Step;
use crate::virtio::Ring;
use vm_memory::GuestMemory;

/// Takes one step: the first available of completion, signal, ring work and submission.
pub fn step<M: GuestMemory, B: Backing>(
    queue: &mut PmemQueue,
    ring: &mut Ring,
    backing: &mut B,
    memory: &M,
) -> Step {
    one(queue, ring, backing, memory, true)
}

/// Takes one step towards the end of the flushes in flight: as [`step`], but takes nothing from the
/// ring. For a queue that is disabled or about to stop.
pub fn settle<M: GuestMemory, B: Backing>(
    queue: &mut PmemQueue,
    ring: &mut Ring,
    backing: &mut B,
    memory: &M,
) -> Step {
    one(queue, ring, backing, memory, false)
}

fn one<M: GuestMemory, B: Backing>(
    queue: &mut PmemQueue,
    ring: &mut Ring,
    backing: &mut B,
    memory: &M,
    take: bool,
) -> Step {
    if let Some(completion) = backing.complete() {
        queue.handle_completion(ring, memory, completion);
        return Step::Completed;
    }
    if queue.poll_signal() {
        return Step::Signal;
    }
    if take && queue.poll_ring(ring, memory) {
        return Step::Ring;
    }
    if backing.room() > 0
        && let Some(token) = queue.poll_submission()
    {
        backing.submit(token);
        return Step::Submitted;
    }
    Step::Idle
}

/// Steps until nothing is left to do; passes signals to the caller.
pub fn crank<M: GuestMemory, B: Backing>(
    queue: &mut PmemQueue,
    ring: &mut Ring,
    backing: &mut B,
    memory: &M,
    mut signal: impl FnMut(),
) {
    loop {
        match step(queue, ring, backing, memory) {
            Step::Completed | Step::Submitted | Step::Ring => {}
            Step::Signal => signal(),
            Step::Wake(other) => unreachable!("there is no queue {other:?} to wake"),
            Step::Idle => return,
        }
    }
}
