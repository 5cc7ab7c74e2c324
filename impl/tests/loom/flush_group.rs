//! The flush group between queues on separate threads: a flush answered OK was covered by a sync
//! that began after it was sent, all see a failure, and every flush ends.

use crate::explore::sync::{Arc, Mutex};
use crate::explore::{Reach, explore, thread};
use crate::queue::{Medium, Request, Seat, Served, live, shared};
use powerfail_device::Errno;
use powerfail_device::wire::{S_IOERR, S_OK};

type Outcome = Result<u32, Errno>;

/// Sends one FLUSH on queue `index` and serves it until it is answered.
fn serve(index: usize, seats: &[Seat], medium: &Mutex<Medium>) {
    let sent = medium.lock().unwrap().tick();
    let wake = |other: powerfail_device::QueueIndex| seats[usize::from(other.0)].wake();
    live(&seats[index], wake, |served| served.ring.as_ref().is_some_and(has_answered));
    let status = seats[index].lock_worker(false).status(0);
    let mut medium = medium.lock().unwrap();
    let covered = medium.syncs.iter().any(|submitted| *submitted > sent);
    let doomed = medium.failed.is_some_and(|told| told < sent);
    match status {
        S_OK => {
            assert!(covered, "a flush is answered by a sync that began after it");
            assert!(!doomed, "no flush succeeds after one failed");
        }
        S_IOERR => {
            let now = medium.tick();
            medium.failed.get_or_insert(now);
        }
        other => panic!("status {other:#x}"),
    }
}

fn has_answered(ring: &powerfail_device::Ring) -> bool {
    ring.position().1 == 1
}

/// Sends one FLUSH on each queue; `results` are the results of their lanes' syncs.
fn flushes(results: &[Outcome]) {
    let shared = shared(results.len() as u16, 512);
    let medium = Medium::new();
    let queue = |(result, index): (&Outcome, u16)| {
        Served::new(index, &shared, &medium, *result, &[Request::Flush]).seat()
    };
    let seats: Arc<Vec<Seat>> = Arc::new(results.iter().zip(0..).map(queue).collect());
    let others: Vec<_> = (1..results.len())
        .map(|index| {
            let (seats, medium) = (Arc::clone(&seats), Arc::clone(&medium));
            thread::spawn(move || serve(index, &seats, &medium))
        })
        .collect();
    serve(0, &seats, &medium);
    for other in others {
        other.join().unwrap();
    }
    let statuses: Vec<u8> = seats.iter().map(|seat| seat.lock_worker(false).status(0)).collect();
    let all = |wanted| statuses.iter().all(|status| *status == wanted);
    assert!(all(S_OK) || results.iter().any(Result::is_err), "no failure out of nothing");
    assert!(all(S_IOERR) || results.iter().any(Result::is_ok), "no success out of nothing");
    let failed = statuses.contains(&S_IOERR);
    assert_eq!(shared.sync_failed(), failed, "a failure is told, and what was told counts");
}

const BAD: Outcome = Err(Errno::EIO);

#[test]
#[cfg(loom)]
fn every_flush_ends_and_is_covered() {
    explore("flush group, two queues", Reach::All, || flushes(&[Ok(0); 2]));
    explore("flush group, three queues", Reach::Preemptions(2), || flushes(&[Ok(0); 3]));
}

#[test]
#[cfg(loom)]
fn a_failed_sync_is_seen_by_all() {
    explore("flush group, syncs fail", Reach::All, || flushes(&[BAD; 2]));
    explore("flush group, one lane's syncs fail", Reach::All, || flushes(&[Ok(0), BAD]));
}

#[test]
#[cfg(shuttle)]
fn a_crowd_at_the_gate() {
    explore("flush group, four queues", Reach::Schedules(20_000), || flushes(&[Ok(0); 4]));
    explore("flush group, one of four fails", Reach::Schedules(20_000), || {
        flushes(&[Ok(0), Ok(0), Ok(0), BAD]);
    });
}
