//! Lifecycle: a thread other than the worker drains, resets and saves a queue, while the host's
//! thread completes operations.

use crate::explore::sync::{Arc, Mutex};
use crate::explore::{Reach, explore, thread};
use crate::queue::{Medium, Request, Seat, Served, live, shared};
use powerfail_device::wire::S_OK;
use powerfail_device::worker_lock::{Wakeup, drain};
use powerfail_device::{QueueIndex, Ring};

const WRITE: Request = Request::Out { sector: 0, fill: 1 };

fn no_wake(_: QueueIndex) {
    unreachable!("there is one queue");
}

/// The host's thread: lets operations complete from now on.
fn release(host: &Mutex<bool>, seat: &Seat) {
    *host.lock().unwrap() = true;
    seat.wakeup().signal();
}

/// Takes a queue from its worker and completes its operations; `abandon` ends its requests without
/// an answer.
fn take_away(seat: &Seat, abandon: bool) -> (Ring, usize) {
    let mut taken = [seat.take()];
    if abandon {
        taken[0].block.stop();
    }
    let answered = taken[0].used().len();
    let step = |served: &mut Served, woken| served.step(false, woken, no_wake);
    drain(
        &mut taken,
        step,
        |served| served.block.in_flight() == 0,
        |taken| taken[0].wakeup().sleep(),
    );
    let [served] = &mut taken;
    assert!(served.block.is_idle(), "what is drained has nothing in the host's hands");
    served.block.stop();
    served.block.restart();
    (served.ring.take().expect("it had its ring"), answered)
}

/// A queue with requests, its worker, and a host thread that lets its operations complete.
fn with_a_host(abandon: bool) {
    let (shared, medium) = (shared(1, 512), Medium::new());
    let host = Arc::new(Mutex::new(false));
    let served = Served::new(0, &shared, &medium, Ok(0), &[WRITE]).behind(&host);
    let seat = Arc::new(served.seat());
    let own = {
        let seat = Arc::clone(&seat);
        thread::spawn(move || live(&seat, no_wake, |served| served.ring.is_none()))
    };
    let hand = {
        let seat = Arc::clone(&seat);
        thread::spawn(move || release(&host, &seat))
    };
    let (ring, answered) = take_away(&seat, abandon);
    own.join().unwrap();
    hand.join().unwrap();
    let served = seat.lock_worker(false);
    let taken = usize::from(ring.position().0);
    let done = medium.lock().unwrap().done as usize;
    if abandon {
        assert_eq!(served.used().len(), answered, "a reset answers nothing");
        assert!(done >= answered && done <= taken);
    } else {
        assert_eq!(served.used().len(), taken, "what was taken is answered");
        assert_eq!(done, taken);
        assert!(taken == 0 || served.status(0) == S_OK);
    }
}

/// A queue is taken from its worker at any moment, and continues elsewhere from the saved state.
fn saved() {
    let (shared, medium) = (shared(1, 512), Medium::new());
    let served = Served::new(0, &shared, &medium, Ok(0), &[WRITE, WRITE]);
    let memory = Arc::clone(&served.memory);
    let seat = Arc::new(served.seat());
    let own = {
        let seat = Arc::clone(&seat);
        thread::spawn(move || live(&seat, no_wake, |served| served.ring.is_none()))
    };
    let (ring, _) = take_away(&seat, false);
    let mut restored = Served::new(0, &shared, &medium, Ok(0), &[]);
    restored.memory = Arc::clone(&memory);
    restored.ring = Some(ring);
    while restored.step(true, false, no_wake) {}
    own.join().unwrap();
    assert_eq!(restored.used(), [0, 3], "every request is answered once, before the save or after");
    assert_eq!(medium.lock().unwrap().done, 2, "and done once");
}

#[test]
#[cfg(loom)]
fn a_drain_waits_for_completions_of_another_thread() {
    explore("drain, worker and host", Reach::Preemptions(2), || with_a_host(false));
}

#[test]
#[cfg(loom)]
fn a_reset_answers_nothing_and_leaves_nothing_in_the_host() {
    explore("reset, worker and host", Reach::Preemptions(2), || with_a_host(true));
}

#[test]
#[cfg(loom)]
fn a_saved_queue_loses_and_repeats_nothing() {
    explore("save, against its worker", Reach::All, saved);
}

#[test]
#[cfg(shuttle)]
fn lives_at_random() {
    explore("drain, worker and host", Reach::Schedules(20_000), || with_a_host(false));
    explore("reset, worker and host", Reach::Schedules(20_000), || with_a_host(true));
    explore("save, against its worker", Reach::Schedules(20_000), saved);
}
