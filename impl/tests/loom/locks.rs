//! Range locks: two queues that each change a part of one granule lose neither change, and both
//! finish.

use crate::explore::sync::Arc;
use crate::explore::{Reach, explore, thread};
use crate::queue::{Medium, Request, Seat, Served, live, shared};
use powerfail_device::{QueueIndex, wire::S_OK};

/// Queue `n` writes half `n` of the granule; with more than two queues, the first half.
fn halves(queues: u16) {
    let shared = shared(queues, 1024);
    let medium = Medium::new();
    let queue = |index: u16| {
        let request = Request::Out { sector: u64::from(index % 2), fill: 1 + index as u8 };
        Served::new(index, &shared, &medium, Ok(0), &[request]).seat()
    };
    let seats: Arc<Vec<Seat>> = Arc::new((0..queues).map(queue).collect());
    let serve = |seats: &[Seat], index: usize| {
        let wake = |other: QueueIndex| seats[usize::from(other.0)].wake();
        live(&seats[index], wake, |served| served.block.in_flight() == 0 && has_answer(served));
    };
    let others: Vec<_> = (1..usize::from(queues))
        .map(|index| {
            let seats = Arc::clone(&seats);
            thread::spawn(move || serve(&seats, index))
        })
        .collect();
    serve(&seats, 0);
    for other in others {
        other.join().unwrap();
    }
    assert!(seats.iter().all(|seat| seat.lock_worker(false).status(0) == S_OK));
    let bytes = medium.lock().unwrap().bytes;
    for (half, written) in bytes.chunks(512).enumerate() {
        let first = written[0];
        assert!(written.iter().all(|byte| *byte == first), "a write does not tear");
        let ours = first > 0 && usize::from(first - 1) % 2 == half;
        assert!(ours, "a write to a part of a granule keeps its neighbours");
    }
}

fn has_answer(served: &Served) -> bool {
    served.used().len() == 1
}

#[test]
#[cfg(loom)]
fn parts_of_one_granule_are_all_kept() {
    explore("locks, two queues", Reach::All, || halves(2));
    explore("locks, three queues", Reach::Preemptions(2), || halves(3));
}

#[test]
#[cfg(shuttle)]
fn a_crowd_at_one_granule() {
    explore("locks, four queues", Reach::Schedules(5_000), || halves(4));
}
