//! A disk that completes no operation until another thread waits for it, under the same server:
//! everything that must wait for the host does.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use powerfail_device::host::FileDisk;
use powerfail_device::host::vhost_user::{Memory, QueueDisk, ServeError, Server, Stopper};
use powerfail_device::{Completion, Config, Disk, Limits, Submission};
use rustix::event::{EventfdFlags, eventfd};

use crate::daemon::Place;
use crate::front::{
    ADD_MEM_REG, DATA, FEATURES, Front, MEMORY, REM_MEM_REG, RESET_DEVICE, SET_FEATURES, memory,
    region, words,
};
use crate::guest::{Guest, GuestRequest, PIECE, PLAIN};

/// Prefix of the names of the server's queue threads.
const QUEUE_THREAD: &str = "queue-";

/// Whether the disk completes operations, and how many it has accepted.
///
/// The door stays shut for the threads of the queues. It opens once another thread, the one that
/// stops or resets, has polled the disk.
#[derive(Clone, Default)]
struct Door(Arc<(Mutex<Inside>, Condvar)>);

#[derive(Default)]
struct Inside {
    open: bool,
    looked_at: bool,
    accepted: usize,
    lanes: Vec<Arc<OwnedFd>>,
}

impl Door {
    fn open(&self) {
        let mut inside = self.0.0.lock().unwrap();
        inside.open = true;
        for lane in &inside.lanes {
            rustix::io::write(lane, &1_u64.to_ne_bytes()).unwrap();
        }
    }

    fn is_open(&self) -> bool {
        let mut inside = self.0.0.lock().unwrap();
        let thread = std::thread::current();
        let waits = !thread.name().is_some_and(|name| name.starts_with(QUEUE_THREAD));
        if waits && !inside.open && !std::mem::replace(&mut inside.looked_at, true) {
            let door = self.clone();
            std::thread::spawn(move || door.open());
        }
        inside.open
    }

    /// Sleeps until the disk has accepted this many operations.
    fn accepted(&self, operations: usize) {
        let inside = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(inside, |inside| inside.accepted < operations).unwrap());
    }
}

struct Late {
    disk: FileDisk,
    waiting: VecDeque<(Memory, Submission)>,
    done: Arc<OwnedFd>,
    door: Door,
}

impl Late {
    fn new(disk: FileDisk, door: &Door) -> Late {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let done = Arc::new(eventfd(0, flags).unwrap());
        door.0.0.lock().unwrap().lanes.push(Arc::clone(&done));
        Late { disk, waiting: VecDeque::new(), done, door: door.clone() }
    }
}

impl Disk<Memory> for Late {
    fn limits(&self) -> Limits {
        Disk::<Memory>::limits(&self.disk)
    }

    fn room(&self) -> u32 {
        32
    }

    fn submit(&mut self, memory: &Memory, submission: Submission) {
        self.waiting.push_back((memory.clone(), submission));
        let mut inside = self.door.0.0.lock().unwrap();
        inside.accepted += 1;
        self.door.0.1.notify_all();
    }

    fn complete(&mut self, memory: &Memory) -> Option<Completion> {
        if !self.door.is_open() {
            return None;
        }
        let Some((held, submission)) = self.waiting.pop_front() else {
            // No completion is left to signal.
            let _ = rustix::io::read(&*self.done, &mut [0; 8]);
            return None;
        };
        self.disk.submit(&held, submission);
        self.disk.complete(memory)
    }
}

impl QueueDisk for Late {
    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.done.as_fd())
    }
}

/// A server of a late disk, in this process.
struct Serving {
    place: Place,
    door: Door,
    stopper: Stopper,
    thread: JoinHandle<Result<(), ServeError>>,
}

impl Serving {
    fn begin(queues: usize) -> Serving {
        let place = Place::new(64 * PIECE as u64);
        let door = Door::default();
        let disk = FileDisk::open(&place.disk(), false).unwrap();
        let lanes = (0..queues).map(|_| Late::new(disk.lane().expect("a file"), &door)).collect();
        let mut server = Server::new(Config::default(), lanes, Box::new(|_| ())).unwrap();
        let listener = UnixListener::bind(place.socket()).unwrap();
        let stopper = server.stopper();
        let thread = std::thread::spawn(move || server.run(listener));
        Serving { place, door, stopper, thread }
    }

    fn end(self) {
        self.stopper.stop();
        self.thread.join().unwrap().unwrap();
    }
}

#[test]
fn stopping_a_ring_waits_for_the_host() {
    let serving = Serving::begin(1);
    let mut front = Front::ready(&serving.place.socket());
    for n in 0..4 {
        front.publish(n, 8, DATA + n * 512);
    }
    front.kick();
    serving.door.accepted(4);
    assert_eq!(front.used(), 0);
    assert_eq!(front.stop(), 4);
    assert_eq!(front.used(), 4);
    assert_eq!(std::fs::read(serving.place.disk()).unwrap()[..2048], [8; 2048]);
    serving.end();
}

#[test]
fn a_flush_that_waits_for_another_queue_is_woken_by_it() {
    let serving = Serving::begin(2);
    let mut guest = Guest::connect(&serving.place.socket(), PLAIN, 2).unwrap();
    guest.submit(0, 0, GuestRequest::Flush);
    guest.kick(0);
    serving.door.accepted(1);
    guest.submit(1, 0, GuestRequest::Flush);
    guest.submit(1, 1, GuestRequest::Write(0));
    guest.kick(1);
    // The disk has the write, so the flush before it was taken; the flush waits, because only one
    // sync runs at a time.
    serving.door.accepted(2);
    serving.door.open();
    assert_eq!(guest.wait(0).unwrap(), [(0, 0)]);
    let mut done = Vec::new();
    while done.len() < 2 {
        done.extend(guest.wait(1).unwrap());
    }
    done.sort_unstable();
    assert_eq!(done, [(0, 0), (1, 0)]);
    drop(guest);
    serving.end();
}

#[test]
fn the_next_front_end_waits_for_what_the_last_one_left() {
    let serving = Serving::begin(2);
    let mut guest = Guest::connect(&serving.place.socket(), PLAIN, 2).unwrap();
    guest.piece(0, 0).fill(5);
    guest.submit(0, 0, GuestRequest::Write(0));
    guest.kick(0);
    serving.door.accepted(1);
    // The flush of one queue waits for the sync of the other.
    guest.submit(0, 1, GuestRequest::Flush);
    guest.submit(1, 0, GuestRequest::Flush);
    guest.kick(0);
    guest.kick(1);
    serving.door.accepted(2);
    drop(guest);
    let mut next = Guest::connect(&serving.place.socket(), PLAIN, 2).unwrap();
    assert_eq!(std::fs::read(serving.place.disk()).unwrap()[..PIECE], [5; PIECE]);
    assert_eq!(next.read(1, 0), [5; PIECE]);
    assert_eq!(next.run(0, 0, GuestRequest::Flush), 0);
    serving.end();
}

#[test]
fn a_reset_waits_for_the_host_and_answers_nothing() {
    let serving = Serving::begin(1);
    let mut front = Front::ready(&serving.place.socket());
    for n in 0..4 {
        front.publish(n, 8, DATA + n * 512);
    }
    front.kick();
    serving.door.accepted(4);
    front.tell(RESET_DEVICE, &[], &[]).unwrap();
    assert_eq!(front.used(), 0);
    assert_eq!(front.status(0), 0xff, "nothing of the old life lands in guest memory");
    let settled = std::fs::read(serving.place.disk()).unwrap();
    assert_eq!(settled[..2048], [8; 2048], "the host had them in hand");
    front.clear();
    front.tell(SET_FEATURES, &words(&[FEATURES]), &[]).unwrap();
    front.set_up(0).unwrap();
    front.publish(0, 9, DATA);
    front.finish();
    assert_eq!(front.status(0), 0);
    serving.end();
}

#[test]
fn memory_that_is_taken_away_stays_mapped_for_what_is_in_flight() {
    let serving = Serving::begin(1);
    let mut front = Front::ready(&serving.place.socket());
    let more = memory(4096);
    std::os::unix::fs::FileExt::write_all_at(&more, &[6; 512], 0).unwrap();
    front.tell(ADD_MEM_REG, &region(MEMORY, 4096, 0), &[more.as_fd()]).unwrap();
    front.publish(3, 6, MEMORY);
    front.kick();
    serving.door.accepted(1);
    front.tell(REM_MEM_REG, &region(MEMORY, 4096, 0), &[]).unwrap();
    serving.door.open();
    front.finish();
    assert_eq!(front.status(0), 0);
    assert_eq!(std::fs::read(serving.place.disk()).unwrap()[3 * 512..4 * 512], [6; 512]);
    drop(front);
    serving.end();
}
