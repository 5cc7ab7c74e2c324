//! Properties of a ring: it batches submissions, it can be waited on, and it keeps borrowed memory
//! alive until the operation is done.

use crate::body::guest;
use crate::hosts::{DIRECT, Memory, Mmap, memory, scratch};
use powerfail_device::host::{Access, UringDisk};
use powerfail_device::{Disk, Op, Submission, Token};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress};

const ACCESSES: [Access; 2] = [Access { read_only: false, direct: false }, DIRECT];
const PIECE: u32 = 4096;

fn disk(path: &Path, access: Access, bytes: &[u8]) -> UringDisk<Mmap> {
    std::fs::write(path, bytes).expect("room for a file");
    UringDisk::open(path, access).expect("a disk")
}

fn submit(disk: &mut UringDisk<Mmap>, memory: &Memory, slot: u32, op: Op) {
    disk.submit(memory, Submission { token: Token::new(slot, 0), op });
}

fn write(at: u64) -> Op {
    let from = guest(&[(at * u64::from(PIECE), PIECE)]);
    Op::Write { offset: at * u64::from(PIECE), from }
}

#[test]
fn nothing_is_done_before_the_doorbell() {
    let place = scratch();
    let path = place.path().join("disk");
    // Writes to the page cache may be done at submission.
    let mut disk = disk(&path, DIRECT, &[0; 8192]);
    let memory = memory();
    memory.write_slice(&[7; 4096], GuestAddress(0)).expect("memory");
    submit(&mut disk, &memory, 1, write(0));
    assert_eq!(disk.complete(&memory), None);
    assert_eq!(std::fs::read(&path).expect("a file"), [0; 8192]);
    disk.doorbell();
    disk.wait();
    assert_eq!(disk.complete(&memory).expect("it is done").result, Ok(4096));
    assert_eq!(std::fs::read(&path).expect("a file")[..4096], [7; 4096]);
}

/// The host may do the write at submission, or after the doorbell.
#[test]
fn a_write_to_the_page_cache_is_done_when_it_completes() {
    let place = scratch();
    let path = place.path().join("disk");
    let mut disk = disk(&path, ACCESSES[0], &[0; 8192]);
    let memory = memory();
    for byte in 1..=200 {
        memory.write_slice(&[byte; 4096], GuestAddress(0)).expect("memory");
        submit(&mut disk, &memory, 1, write(0));
        disk.doorbell();
        disk.wait();
        assert_eq!(disk.complete(&memory).expect("it is done").result, Ok(4096));
        assert_eq!(std::fs::read(&path).expect("a file")[..4096], [byte; 4096]);
    }
}

#[test]
fn a_thread_can_sleep_on_it() {
    let place = scratch();
    for access in ACCESSES {
        let mut disk = disk(&place.path().join("disk"), access, &[0; 8192]);
        let memory = memory();
        disk.wait();
        assert!(!is_readable(&disk, 0), "there is nothing to come");
        for slot in 0..2 {
            submit(&mut disk, &memory, slot, Op::Sync);
        }
        disk.doorbell();
        let mut taken = 0;
        while taken < 2 {
            assert!(is_readable(&disk, -1));
            while disk.complete(&memory).is_some() {
                taken += 1;
            }
        }
        assert!(!is_readable(&disk, 0), "all was taken");
    }
}

/// Polls; a timeout of -1 waits without a limit.
fn is_readable(disk: &UringDisk<Mmap>, timeout: i32) -> bool {
    let mut fds = [libc::pollfd { fd: disk.as_raw_fd(), events: libc::POLLIN, revents: 0 }];
    // SAFETY: the descriptor is open, and there is one element.
    let count = unsafe { libc::poll(fds.as_mut_ptr(), 1, timeout) };
    assert!(count >= 0, "{}", std::io::Error::last_os_error());
    count == 1 && fds[0].revents & libc::POLLIN != 0
}

#[test]
fn memory_is_held_until_the_completion_is_taken() {
    let place = scratch();
    for access in ACCESSES {
        let content: Vec<u8> = (0..16 * PIECE).map(|at| (at / PIECE) as u8 + 1).collect();
        let mut disk = disk(&place.path().join("disk"), access, &content);
        let mmap = Arc::new(Mmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).expect("memory"));
        let old = Memory::from(Arc::clone(&mmap));
        for at in 0..16_u64 {
            let into = guest(&[(at * u64::from(PIECE), PIECE)]);
            let offset = at * u64::from(PIECE);
            submit(&mut disk, &old, at as u32, Op::Read { offset, into });
        }
        drop(old);
        disk.doorbell();
        // The front-end has new memory now; the old memory is no longer borrowed.
        let new = memory();
        let mut left = 16;
        while left > 0 {
            let holders = Arc::strong_count(&mmap) - 1;
            assert!(holders <= left, "one holder for each operation at most");
            assert!(!access.direct || holders == left, "and for each that the kernel has");
            disk.wait();
            while let Some(done) = disk.complete(&new) {
                assert_eq!(done.result, Ok(PIECE));
                left -= 1;
            }
        }
        assert_eq!(Arc::strong_count(&mmap), 1);
        let mut bytes = vec![0; content.len()];
        mmap.read_slice(&mut bytes, GuestAddress(0)).expect("memory");
        assert_eq!(bytes, content, "it was read to where it was asked for");
        let mut bytes = vec![1; content.len()];
        new.read_slice(&mut bytes, GuestAddress(0)).expect("memory");
        assert_eq!(bytes, vec![0; content.len()], "and nowhere else");
    }
}

#[test]
fn a_lane_that_is_dropped_waits_for_what_it_has_accepted() {
    let place = scratch();
    for access in ACCESSES {
        for signaled in [false, true] {
            let path = place.path().join("disk");
            let bytes = vec![3; 32 << 20];
            let mut disk = disk(&path, access, &bytes);
            let mmap = Arc::new(Mmap::from_ranges(&[(GuestAddress(0), 33 << 20)]).expect("memory"));
            let memory = Memory::from(Arc::clone(&mmap));
            for at in 0..32_u32 {
                let offset = u64::from(at) << 20;
                let into = guest(&[(offset, 1 << 20)]);
                submit(&mut disk, &memory, at, Op::Read { offset, into });
            }
            submit(&mut disk, &memory, 32, Op::Sync);
            if signaled {
                disk.doorbell();
            }
            drop((memory, disk));
            assert_eq!(Arc::strong_count(&mmap), 1, "the memory is released");
            let mut read = vec![0; bytes.len()];
            mmap.read_slice(&mut read, GuestAddress(0)).expect("memory");
            assert!(read == bytes, "the kernel was done with it ({access:?}, rung: {signaled})");
        }
    }
}

#[test]
fn memory_that_direct_io_does_not_take_passes_through_a_bounce() {
    let place = scratch();
    let mut disk = disk(&place.path().join("disk"), DIRECT, &[0; 16384]);
    let memory = memory();
    let content: Vec<u8> = (0..8192_u32).map(|at| (at % 251) as u8).collect();
    memory.write_slice(&content, GuestAddress(1)).expect("memory");
    submit(&mut disk, &memory, 0, Op::Write { offset: 4096, from: guest(&[(1, 8192)]) });
    // A write of the guest after the submission does not affect this disk.
    memory.write_slice(&[0; 8192], GuestAddress(1)).expect("memory");
    disk.wait();
    let done = disk.complete(&memory).expect("it is done");
    assert_eq!((done.result, done.buffer), (Ok(8192), Some(guest(&[(1, 8192)]))));
    let pieces = [(0x2_0001, 100), (0x2_1001, 8092)];
    submit(&mut disk, &memory, 0, Op::Read { offset: 4096, into: guest(&pieces) });
    disk.wait();
    let done = disk.complete(&memory).expect("it is done");
    assert_eq!((done.result, done.buffer), (Ok(8192), Some(guest(&pieces))));
    let mut bytes = vec![0; 8192];
    memory.read_slice(&mut bytes[..100], GuestAddress(0x2_0001)).expect("memory");
    memory.read_slice(&mut bytes[100..], GuestAddress(0x2_1001)).expect("memory");
    assert!(bytes == content);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the device starts no threads; its user does")]
fn a_lane_may_move_to_the_thread_that_uses_it() {
    let place = scratch();
    let mut disk = disk(&place.path().join("disk"), ACCESSES[0], &[5; 8192]);
    let memory = memory();
    submit(&mut disk, &memory, 0, Op::Read { offset: 0, into: guest(&[(0, 4096)]) });
    disk.doorbell();
    let there = memory.clone();
    let done = std::thread::spawn(move || {
        disk.wait();
        disk.complete(&there)
    });
    let done = done.join().expect("no panic").expect("it is done");
    assert_eq!((done.result, done.buffer), (Ok(4096), Some(guest(&[(0, 4096)]))));
    let mut bytes = [0; 4096];
    memory.read_slice(&mut bytes, GuestAddress(0)).expect("memory");
    assert_eq!(bytes, [5; 4096]);
}

#[test]
fn refused_operations_take_room_until_they_are_taken() {
    let place = scratch();
    let mut disk = disk(&place.path().join("disk"), ACCESSES[0], &[0; 8192]);
    let memory = memory();
    let room = disk.room();
    for slot in 0..room {
        assert_eq!(disk.room(), room - slot);
        submit(&mut disk, &memory, slot, Op::Discard { offset: 8192, len: 512 });
    }
    disk.wait();
    for slot in 0..room {
        assert_eq!(disk.room(), slot);
        assert!(disk.complete(&memory).expect("each is answered").result.is_err());
    }
    assert_eq!((disk.room(), disk.complete(&memory)), (room, None));
}
