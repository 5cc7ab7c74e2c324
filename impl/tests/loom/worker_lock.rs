//! The worker lock: neither the worker nor the thread that has replaced it misses a wake, and the
//! worker continues when the lock is returned.

use crate::explore::sync::Arc;
use crate::explore::sync::atomic::{AtomicU32, Ordering};
use crate::explore::{Reach, explore, thread};
use crate::wakeup::Bedside;
use powerfail_device::worker_lock::{WorkerLock, drain};

/// A queue that has `left` steps to take and waits for `moves` of others.
struct Queue {
    left: u32,
    done: u32,
    seen: u32,
    moves: Arc<AtomicU32>,
}

type Seat = WorkerLock<Queue, Bedside>;

impl Queue {
    fn seat(left: u32) -> (Arc<Seat>, Arc<AtomicU32>) {
        let moves = Arc::new(AtomicU32::new(0));
        let queue = Queue { left, done: 0, seen: 0, moves: Arc::clone(&moves) };
        (Arc::new(WorkerLock::new(queue, Bedside::new())), moves)
    }

    fn step(&mut self, woken: bool) -> bool {
        if woken {
            // The counter is relaxed: the mark orders it.
            let moves = self.moves.load(Ordering::Relaxed);
            assert!(moves > 0, "a mark comes with what was moved");
            self.seen = moves;
        }
        let moves = self.left > 0;
        self.left -= u32::from(moves);
        self.done += u32::from(moves);
        moves
    }
}

/// Main loop of the worker of `seat`, until it took `steps` and saw `moves` of others.
fn live(seat: &Seat, steps: u32, moves: u32) {
    let mut signaled = false;
    loop {
        let mut worker = seat.lock_worker(signaled);
        worker.run(Queue::step);
        if worker.done == steps && worker.seen == moves {
            return;
        }
        drop(worker);
        seat.wakeup().sleep();
        signaled = true;
    }
}

/// Runs `count` threads that each call `act` once, beside the worker of the seat.
fn others(count: u32, act: fn(&Seat, &AtomicU32), steps: u32, moves: u32) {
    let (seat, moved) = Queue::seat(1);
    let others: Vec<_> = (0..count)
        .map(|_| {
            let (seat, moved) = (Arc::clone(&seat), Arc::clone(&moved));
            thread::spawn(move || act(&seat, &moved))
        })
        .collect();
    live(&seat, steps, moves);
    for other in others {
        other.join().unwrap();
    }
}

/// Another queue makes the progress for which this one waits.
fn wake(seat: &Seat, moves: &AtomicU32) {
    moves.fetch_add(1, Ordering::Relaxed);
    seat.wake();
}

/// Another thread takes the lock from the worker, and adds a step.
fn take(seat: &Seat, _: &AtomicU32) {
    let mut taken = seat.take();
    let (left, done) = (taken.left, taken.done);
    taken.left += 1;
    thread::yield_now();
    assert_eq!(
        (taken.left, taken.done),
        (left + 1, done),
        "the worker does not step a taken queue"
    );
}

/// One thread takes and drains the queue while another wakes it, optionally beside the queue's
/// worker.
fn draining(with_its_thread: bool) {
    let (seat, moves) = Queue::seat(1);
    let waker = {
        let (seat, moves) = (Arc::clone(&seat), Arc::clone(&moves));
        thread::spawn(move || wake(&seat, &moves))
    };
    let own = with_its_thread.then(|| {
        let seat = Arc::clone(&seat);
        thread::spawn(move || live(&seat, 1, 1))
    });
    let mut taken = [seat.take()];
    drain(&mut taken, Queue::step, |queue| queue.seen == 1, |taken| taken[0].wakeup().sleep());
    assert_eq!(taken[0].left, 0, "a drain steps until nothing moves");
    drop(taken);
    waker.join().unwrap();
    if let Some(own) = own {
        own.join().unwrap();
    }
}

#[test]
#[cfg(loom)]
fn no_wake_is_missed() {
    explore("worker lock, a wake", Reach::All, || others(1, wake, 1, 1));
    explore("worker lock, two wakes", Reach::Preemptions(3), || others(2, wake, 1, 2));
}

#[test]
#[cfg(loom)]
fn the_thread_goes_on_when_the_helm_is_given_back() {
    explore("worker lock, taken", Reach::All, || others(1, take, 2, 0));
    explore("worker lock, taken by two", Reach::Preemptions(3), || others(2, take, 3, 0));
}

#[test]
#[cfg(loom)]
fn a_drain_hears_what_was_meant_for_the_thread() {
    explore("worker lock, drained", Reach::All, || draining(false));
    explore("worker lock, drained beside its worker", Reach::Preemptions(3), || draining(true));
}

#[test]
#[cfg(shuttle)]
fn a_crowd_at_the_helm() {
    explore("worker lock, five wakes", Reach::Schedules(20_000), || others(5, wake, 1, 5));
    explore("worker lock, taken by five", Reach::Schedules(20_000), || others(5, take, 6, 0));
    explore("worker lock, drained beside its worker", Reach::Schedules(20_000), || draining(true));
}
