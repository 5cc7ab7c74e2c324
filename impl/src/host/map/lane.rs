//! The syncs of a mapping, on a thread of their own: `msync` takes as long as the host's storage
//! does, and a queue has better to do.
//!
//! A thread and not io_uring: that has no `msync`, its `fsync` is run by a thread of the kernel's,
//! and only `msync` is promised to know of stores to a mapping. There is one sync at a time, so
//! there is one thread and no queue.

use super::MappedFile;
use crate::disk::Token;
use crate::errno::Errno;
use crate::pmem::{Backing, Synced};
use crate::sync::lock;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

/// The backing that a [`MappedFile`] is.
///
/// A lane that is dropped carries out what it has accepted, and waits for that.
#[derive(Debug)]
pub struct MapLane {
    post: Arc<Post>,
    /// There is one iff it was submitted and its completion was not taken.
    in_hand: Option<Token>,
    thread: Option<JoinHandle<()>>,
}

/// What the lane and its thread have between them.
#[derive(Debug)]
struct Post {
    map: Arc<MappedFile>,
    state: Mutex<State>,
    asked: Condvar,
    /// An eventfd, readable iff there is a result to take.
    wakeup: OwnedFd,
}

#[derive(Debug)]
enum State {
    /// The thread has nothing to do.
    Idle,
    /// The thread is to sync, or does.
    Asked,
    /// The thread has synced.
    Done(Result<(), Errno>),
    /// The thread is to end.
    Closed,
}

impl MapLane {
    /// The lane of a mapping.
    ///
    /// # Errors
    /// The host gives no thread or no eventfd.
    pub fn of(map: Arc<MappedFile>) -> io::Result<MapLane> {
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (state, asked) = (Mutex::new(State::Idle), Condvar::new());
        let post = Arc::new(Post { map, state, asked, wakeup });
        let theirs = Arc::clone(&post);
        let thread =
            thread::Builder::new().name("msync".to_owned()).spawn(move || theirs.serve())?;
        Ok(MapLane { post, in_hand: None, thread: Some(thread) })
    }

    /// Sleeps until there is a completion to take; not if nothing is to come.
    pub fn wait(&self) {
        if self.in_hand.is_none() {
            return;
        }
        let mut wakeup = [PollFd::new(&self.post.wakeup, PollFlags::IN)];
        while let Err(error) = poll(&mut wakeup, None) {
            assert_eq!(error, rustix::io::Errno::INTR, "the bell cannot be waited for");
        }
    }
}

impl Backing for MapLane {
    fn room(&self) -> u32 {
        u32::from(self.in_hand.is_none())
    }

    fn submit(&mut self, token: Token) {
        assert!(self.in_hand.is_none(), "submissions need room");
        self.in_hand = Some(token);
        *lock(&self.post.state) = State::Asked;
        self.post.asked.notify_one();
    }

    fn complete(&mut self) -> Option<Synced> {
        let token = self.in_hand?;
        let mut state = lock(&self.post.state);
        let State::Done(result) = *state else { return None };
        *state = State::Idle;
        self.in_hand = None;
        self.post.quiet();
        Some(Synced { token, result })
    }
}

/// Readable whenever a completion can be taken.
impl AsFd for MapLane {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.post.wakeup.as_fd()
    }
}

impl Drop for MapLane {
    fn drop(&mut self) {
        while self.in_hand.is_some() {
            self.wait();
            self.complete();
        }
        *lock(&self.post.state) = State::Closed;
        self.post.asked.notify_one();
        let ended = self.thread.take().expect("it is joined once").join();
        assert!(ended.is_ok() || thread::panicking(), "the thread of a lane does not panic");
    }
}

impl Post {
    /// The thread: syncs whenever it is asked to.
    fn serve(&self) {
        let mut state = lock(&self.state);
        loop {
            match *state {
                State::Closed => return,
                State::Asked => {
                    drop(state);
                    let result = self.map.sync();
                    state = lock(&self.state);
                    *state = State::Done(result);
                    self.ring();
                }
                State::Idle | State::Done(_) => {
                    let waited = self.asked.wait(state);
                    state = waited.expect("no thread panicked while it held this lock");
                }
            }
        }
    }

    fn ring(&self) {
        rustix::io::write(&self.wakeup, &1_u64.to_ne_bytes()).expect("it was quiet");
    }

    fn quiet(&self) {
        rustix::io::read(&self.wakeup, &mut [0_u8; 8]).expect("it was rung");
    }
}
