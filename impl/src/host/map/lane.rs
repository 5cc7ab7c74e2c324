//! The syncs of a mapping, on a thread of their own, because `msync` takes as long as the host's
//! storage and would hold up a queue.
//!
//! It is a thread instead of io_uring because io_uring has no `msync`, a kernel thread runs its
//! `fsync`, and only `msync` is guaranteed to cover stores to a mapping. There is one sync at a
//! time, so one thread suffices and no queue is needed.

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

/// The backing on a [`MappedFile`].
///
/// Dropping a lane executes the accepted sync and waits for it.
#[derive(Debug)]
pub struct MapLane {
    post: Arc<Post>,
    /// `Some` iff a sync was submitted and its completion not taken.
    in_hand: Option<Token>,
    thread: Option<JoinHandle<()>>,
}

/// State shared by the lane and its thread.
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
    /// The thread has no work.
    Idle,
    /// A sync is requested or running.
    Asked,
    /// The sync has ended.
    Done(Result<(), Errno>),
    /// The thread must end.
    Closed,
}

impl MapLane {
    /// The lane of a mapping.
    ///
    /// # Errors
    /// The host provides no thread or no eventfd.
    pub fn of(map: Arc<MappedFile>) -> io::Result<MapLane> {
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (state, asked) = (Mutex::new(State::Idle), Condvar::new());
        let post = Arc::new(Post { map, state, asked, wakeup });
        let theirs = Arc::clone(&post);
        let thread =
            thread::Builder::new().name("msync".to_owned()).spawn(move || theirs.serve())?;
        Ok(MapLane { post, in_hand: None, thread: Some(thread) })
    }

    /// Sleeps until a completion can be taken; returns at once if none is to come.
    pub fn wait(&self) {
        if self.in_hand.is_none() {
            return;
        }
        let mut wakeup = [PollFd::new(&self.post.wakeup, PollFlags::IN)];
        while let Err(error) = poll(&mut wakeup, None) {
            assert_eq!(error, rustix::io::Errno::INTR, "the wakeup cannot be waited for");
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
    /// The main loop of the thread: syncs on request.
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
