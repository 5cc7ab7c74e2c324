//! Inline fast path for the page cache: `preadv2` or `pwritev2` at submission, before the ring.
//!
//! A read that finds all data in the page cache is faster inline than through a ring; any other
//! read goes to the ring. Writes differ. If a file system cannot determine in advance whether a
//! buffered write will block (ext4, FUSE), the kernel hands each write to a worker thread, which
//! costs ten times the write. The worker is useful only for a write that blocks: on write-back, if
//! too much data is dirty. So a write is made inline, and after a slow one the next writes go to
//! the ring, whose workers then block instead of the queue.
//!
//! Not for direct I/O, which the ring does without workers, nor for syncs, which always block.

use super::open::OpenFile;
use super::uring_op::{Access, UringOp};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Maximum length of an inline transfer in bytes: copying more would hold up the queue.
const MOST_BYTES: usize = 64 << 10;

/// Duration from which a write counts as blocked.
const LONG: Duration = Duration::from_millis(1);

/// Number of writes that go to the ring after a blocked one.
const SPARED: u32 = 64;

/// The method for buffered writes of one file.
#[derive(Debug)]
enum Writes {
    /// No write has been made yet.
    Unknown,
    /// The file system supports RWF_NOWAIT for writes, so the ring uses a worker only for those
    /// that block.
    Ring,
    /// It does not; the next `spared` writes go to the ring nevertheless.
    InlineIo { spared: u32 },
}

/// Chooses the path of each transfer of one lane.
#[derive(Debug)]
pub(super) struct InlineIo {
    /// The file system supports RWF_NOWAIT for reads.
    reads: bool,
    writes: Writes,
}

impl InlineIo {
    pub(super) fn new(file: &OpenFile) -> InlineIo {
        let direct = file.memory_align().is_some();
        InlineIo { reads: !direct, writes: if direct { Writes::Ring } else { Writes::Unknown } }
    }

    /// Executes the transfer of `op` if it qualifies: the number of bytes or a negative errno, as
    /// the ring would return.
    #[inline]
    pub(super) fn make<H>(&mut self, file: &OpenFile, op: &UringOp<H>) -> Option<i32> {
        if !self.reads && matches!(self.writes, Writes::Ring) {
            return None;
        }
        let (iovecs, offset, access) = op.transfer()?;
        if iovecs.iter().map(|iovec| iovec.iov_len).sum::<usize>() > MOST_BYTES {
            return None;
        }
        match access {
            Access::Reads => self.read(|| preadv2(file, iovecs, offset)),
            Access::Writes => self.write(|flags| pwritev2(file, iovecs, offset, flags)),
        }
    }

    fn read(&mut self, read: impl Fn() -> i32) -> Option<i32> {
        if !self.reads {
            return None;
        }
        let answer = read();
        self.reads = answer != -libc::EOPNOTSUPP;
        (self.reads && answer != -libc::EAGAIN).then_some(answer)
    }

    fn write(&mut self, write: impl Fn(libc::c_int) -> i32) -> Option<i32> {
        if matches!(self.writes, Writes::Unknown) {
            match write(libc::RWF_NOWAIT) {
                answer if answer == -libc::EOPNOTSUPP => {
                    self.writes = Writes::InlineIo { spared: 0 }
                }
                answer => {
                    self.writes = Writes::Ring;
                    return (answer != -libc::EAGAIN).then_some(answer);
                }
            }
        }
        let Writes::InlineIo { spared } = &mut self.writes else { return None };
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

/// The number of bytes read without blocking, or a negative errno.
fn preadv2(file: &OpenFile, iovecs: &[libc::iovec], offset: u64) -> i32 {
    let fd = file.file().as_raw_fd();
    let (count, offset) = (iovecs.len() as libc::c_int, offset as libc::off_t);
    // SAFETY: the descriptor is open as long as `file` is, and the pieces belong to an operation,
    // which keeps them mapped as long as it lives.
    answer(unsafe { libc::preadv2(fd, iovecs.as_ptr(), count, offset, libc::RWF_NOWAIT) })
}

/// The number of bytes written, or a negative errno.
fn pwritev2(file: &OpenFile, iovecs: &[libc::iovec], offset: u64, flags: libc::c_int) -> i32 {
    let fd = file.file().as_raw_fd();
    let (count, offset) = (iovecs.len() as libc::c_int, offset as libc::off_t);
    // SAFETY: the descriptor is open as long as `file` is, and the pieces belong to an operation,
    // which keeps them mapped as long as it lives.
    answer(unsafe { libc::pwritev2(fd, iovecs.as_ptr(), count, offset, flags) })
}

/// The result of a system call, in the form of a ring's answer.
fn answer(moved: libc::ssize_t) -> i32 {
    // At most `MOST_BYTES` were requested.
    i32::try_from(moved)
        .ok()
        .filter(|moved| *moved >= 0)
        .unwrap_or_else(|| -std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn inline_io() -> InlineIo {
        InlineIo { reads: true, writes: Writes::Unknown }
    }

    #[test]
    fn what_would_wait_is_the_rings() {
        let mut inline_io = inline_io();
        assert_eq!(inline_io.read(|| -libc::EAGAIN), None);
        assert_eq!(inline_io.read(|| 512), Some(512));
        assert_eq!(inline_io.read(|| -libc::EIO), Some(-libc::EIO));
        assert_eq!(inline_io.read(|| -libc::EOPNOTSUPP), None);
        assert_eq!(inline_io.read(|| unreachable!("it cannot say")), None);
    }

    #[test]
    fn writes_of_a_file_system_that_says_when_it_waits_are_the_rings() {
        for (first, made) in [(-libc::EAGAIN, None), (512, Some(512))] {
            let mut inline_io = inline_io();
            let answered = inline_io.write(|flags| {
                assert_eq!(flags, libc::RWF_NOWAIT);
                first
            });
            assert_eq!(answered, made);
            assert_eq!(inline_io.write(|_| unreachable!("the ring makes it")), None);
        }
    }

    #[test]
    fn a_write_that_had_to_wait_spares_those_after_it() {
        let mut inline_io = inline_io();
        let waits = Cell::new(false);
        let mut write = || {
            inline_io.write(|flags| {
                if flags == libc::RWF_NOWAIT {
                    return -libc::EOPNOTSUPP;
                }
                let begun = Instant::now();
                while waits.get() && begun.elapsed() < LONG {
                    std::hint::spin_loop();
                }
                512
            })
        };
        assert_eq!(write(), Some(512));
        waits.set(true);
        assert_eq!(write(), Some(512));
        for _ in 0..SPARED {
            assert_eq!(write(), None);
        }
        assert_eq!(write(), Some(512), "then it is tried again");
    }
}
