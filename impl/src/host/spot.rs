//! Writes to the page cache that are made on the spot, because the ring would only pass them on.
//!
//! Where a file system cannot say beforehand whether a buffered write will have to wait (ext4, FUSE), the kernel hands each to a worker
//! thread, which costs ten times the write. What that thread is for is the write that does wait: for writeback, if too much is dirty. So
//! a write is made on the spot, and one that took long sends those after it to the ring, whose workers wait instead of the queue.
//!
//! Not for direct I/O, which the ring does without workers, nor for writes that must be stable, which always wait.

use super::flight::Flight;
use super::open::OpenFile;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// A longer write goes to the ring: its copying alone would hold up the queue.
const MOST_BYTES: usize = 64 << 10;

/// A write that took so long had to wait.
const LONG: Duration = Duration::from_millis(1);

/// So many writes go to the ring after one that had to wait.
const SPARED: u32 = 64;

/// How one file's buffered writes are made best.
#[derive(Debug)]
enum Way {
    /// Nobody has written yet.
    Unknown,
    /// The file system says when a write would wait, so the ring needs a worker only for that.
    Ring,
    /// It does not; this many of the next writes go to the ring all the same.
    Spot { spared: u32 },
}

/// Decides over the writes of one lane.
#[derive(Debug)]
pub(super) struct Spot {
    way: Way,
}

impl Spot {
    pub(super) fn new(file: &OpenFile) -> Spot {
        let direct = file.memory_align().is_some();
        Spot { way: if direct { Way::Ring } else { Way::Unknown } }
    }

    /// Makes the write of `flight`, if it is one for the spot: the number of bytes or a negative errno, as the ring would answer.
    pub(super) fn make<H>(&mut self, file: &OpenFile, flight: &Flight<H>) -> Option<i32> {
        if matches!(self.way, Way::Ring) {
            return None;
        }
        let (iovecs, offset) = flight.volatile_write()?;
        if iovecs.iter().map(|iovec| iovec.iov_len).sum::<usize>() > MOST_BYTES {
            return None;
        }
        let write = |flags| pwritev2(file, iovecs, offset, flags);
        if matches!(self.way, Way::Unknown) {
            match write(libc::RWF_NOWAIT) {
                answer if answer == -libc::EOPNOTSUPP => self.way = Way::Spot { spared: 0 },
                answer => {
                    self.way = Way::Ring;
                    return (answer != -libc::EAGAIN).then_some(answer);
                }
            }
        }
        let Way::Spot { spared } = &mut self.way else { return None };
        if *spared > 0 {
            *spared -= 1;
            return None;
        }
        let begun = Instant::now();
        let answer = write(0);
        if begun.elapsed() >= LONG {
            *spared = SPARED;
        }
        Some(answer)
    }
}

/// The number of bytes written, or a negative errno.
fn pwritev2(file: &OpenFile, iovecs: &[libc::iovec], offset: u64, flags: libc::c_int) -> i32 {
    let fd = file.file().as_raw_fd();
    let (count, offset) = (iovecs.len() as libc::c_int, offset as libc::off_t);
    // SAFETY: the descriptor is open for as long as `file` is, and the pieces belong to a flight, which keeps them mapped while it lives.
    let moved = unsafe { libc::pwritev2(fd, iovecs.as_ptr(), count, offset, flags) };
    // No more than `MOST_BYTES` were asked for.
    i32::try_from(moved)
        .ok()
        .filter(|moved| *moved >= 0)
        .unwrap_or_else(|| -std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}
