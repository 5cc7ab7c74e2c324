//! What every disk does: one body, run against each.

use crate::support::host::Host;
use powerfail_device::host::{FileDisk, OpenError};
use powerfail_device::{
    Bounce, Buffer, Completion, Disk, Errno, GuestRange, Limits, Op, Ranges, Submission, Token,
};
use std::io::Write;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

type Memory = GuestMemoryMmap<()>;

/// Guest memory in two regions with a hole between them.
fn memory() -> Memory {
    let regions = [(GuestAddress(0), 0x8000), (GuestAddress(0x1_0000), 0x8000)];
    GuestMemoryMmap::from_ranges(&regions).expect("memory")
}

fn ranges(pieces: &[(u64, u32)]) -> Buffer {
    let range = |(addr, len): &(u64, u32)| GuestRange { addr: GuestAddress(*addr), len: *len };
    Buffer::Guest(pieces.iter().map(range).collect::<Ranges>())
}

/// Runs one operation to its completion.
fn run<D: Disk<Memory>>(disk: &mut D, memory: &Memory, op: Op) -> Completion {
    let token = Token::new(3, 14);
    assert!(disk.room() > 0);
    disk.submit(memory, Submission { token, op });
    disk.doorbell();
    let done = disk.complete(memory).expect("one operation, one completion");
    assert_eq!(done.token, token);
    assert_eq!(disk.complete(memory), None, "and only one");
    done
}

fn conforms<D: Disk<Memory>>(disk: &mut D, other: &mut D) {
    let memory = memory();
    assert_eq!(disk.limits(), other.limits());
    let content: Vec<u8> = (0..4096_u32).map(|at| (at % 249) as u8).collect();
    memory.write_slice(&content, GuestAddress(0x1000)).unwrap();

    // Scattered guest memory, in pieces that respect nothing.
    let from = ranges(&[(0x1000, 1), (0x1001, 1534), (0x15ff, 1)]);
    let done = run(disk, &memory, Op::Write { offset: 1024, from, stable: false });
    assert_eq!(done.result, Ok(1536));
    let into = ranges(&[(0x1_0000, 700), (0x2001, 324)]);
    let done = run(other, &memory, Op::Read { offset: 1024, into });
    assert_eq!(done.result, Ok(1024), "a completed write is seen on every lane");
    let mut bytes = vec![0; 1024];
    memory.read_slice(&mut bytes[..700], GuestAddress(0x1_0000)).unwrap();
    memory.read_slice(&mut bytes[700..], GuestAddress(0x2001)).unwrap();
    assert_eq!(bytes, content[..1024]);

    // Bounces come home.
    let mut bounce = Bounce::zeroed(512);
    bounce.as_mut_slice().fill(7);
    let from = Buffer::Bounce(bounce.clone());
    let done = run(disk, &memory, Op::Write { offset: 0, from, stable: true });
    assert_eq!((done.result, done.buffer), (Ok(512), Some(Buffer::Bounce(bounce.clone()))));
    let into = Buffer::Bounce(Bounce::zeroed(512));
    let done = run(disk, &memory, Op::Read { offset: 0, into });
    assert_eq!((done.result, done.buffer), (Ok(512), Some(Buffer::Bounce(bounce))));

    assert_eq!(run(disk, &memory, Op::Sync).result, Ok(0));
    let len = 512;
    let zeroed = run(disk, &memory, Op::WriteZeroes { offset: 1024, len, may_unmap: false }).result;
    assert!(matches!(zeroed, Ok(0) | Err(Errno::EOPNOTSUPP)));
    let sector = |disk: &mut D, offset| {
        let into = Buffer::Bounce(Bounce::zeroed(512));
        let done = run(disk, &memory, Op::Read { offset, into });
        let Some(Buffer::Bounce(bounce)) = done.buffer else { panic!("it came home") };
        bounce.as_slice().to_vec()
    };
    let expected = if zeroed.is_ok() { vec![0; 512] } else { content[..512].to_vec() };
    assert_eq!(sector(disk, 1024), expected);
    assert_eq!(sector(disk, 1536), content[512..1024], "its neighbours are untouched");
    assert_eq!(sector(disk, 0), vec![7; 512]);
    let unmapped =
        run(disk, &memory, Op::WriteZeroes { offset: 1024, len, may_unmap: true }).result;
    if unmapped.is_ok() {
        assert_eq!(sector(disk, 1024), vec![0; 512]);
    }
    let discarded = run(disk, &memory, Op::Discard { offset: 1536, len }).result;
    assert!(matches!(discarded, Ok(0) | Err(Errno::EOPNOTSUPP)));
    assert_eq!(sector(disk, 2048), content[1024..1536]);
    assert_eq!(sector(disk, 0), vec![7; 512]);
}

fn file_of(size: usize) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(&vec![0; size]).expect("room for it");
    file
}

#[test]
fn the_disk_in_memory_conforms() {
    let host = Host::new(Limits::plain(64 * 512));
    conforms(&mut host.lane(0), &mut host.lane(0));
}

#[test]
fn a_file_conforms() {
    let file = file_of(64 * 512);
    let mut disk = FileDisk::open(file.path(), false).unwrap();
    conforms(&mut disk.lane(), &mut disk);
    let size = file.as_file().metadata().unwrap().len();
    assert_eq!(size, 64 * 512, "it never changes its size");
}

#[test]
fn a_file_stays_within_its_bounds_and_within_guest_memory() {
    let file = file_of(4096);
    let mut disk = FileDisk::open(file.path(), false).unwrap();
    let memory = memory();
    for (offset, pieces, errno) in [
        (4096, [(0, 512)], Errno::EINVAL),
        (3584, [(0, 1024)], Errno::EINVAL),
        (u64::MAX - 511, [(0, 512)], Errno::EINVAL),
        (0, [(0x7fff, 512)], Errno::EFAULT),
        (0, [(u64::MAX - 511, 512)], Errno::EFAULT),
    ] {
        let done =
            run(&mut disk, &memory, Op::Write { offset, from: ranges(&pieces), stable: false });
        assert_eq!(done.result, Err(errno));
        let done = run(&mut disk, &memory, Op::Read { offset, into: ranges(&pieces) });
        assert_eq!(done.result, Err(errno));
    }
    assert_eq!(std::fs::read(file.path()).unwrap(), vec![0; 4096]);
}

#[test]
fn a_file_that_shrank_reads_short() {
    let file = file_of(4096);
    let mut disk = FileDisk::open(file.path(), false).unwrap();
    file.as_file().set_len(1024).unwrap();
    let done = run(&mut disk, &memory(), Op::Read { offset: 512, into: ranges(&[(0, 2048)]) });
    assert_eq!(done.result, Ok(512));
}

#[test]
fn a_file_that_is_no_disk_is_refused_in_one_line() {
    let odd = FileDisk::open(file_of(1000).path(), false).expect_err("1000 bytes");
    assert!(matches!(odd, OpenError::Size(_, 1000)));
    assert!(odd.to_string().ends_with("512-byte sectors, not 1000 bytes"));
    let missing = FileDisk::open("/nonexistent/disk".as_ref(), false).expect_err("no file");
    assert!(missing.to_string().contains("/nonexistent/disk"));
}

#[test]
fn a_file_opened_read_only_takes_no_writes() {
    let file = file_of(4096);
    let mut disk = FileDisk::open(file.path(), true).unwrap();
    assert!(Disk::<Memory>::limits(&disk).read_only);
    let from = ranges(&[(0, 512)]);
    let done = run(&mut disk, &memory(), Op::Write { offset: 0, from, stable: false });
    assert_eq!(done.result, Err(Errno(9)), "EBADF");
    assert_eq!(run(&mut disk, &memory(), Op::Sync).result, Ok(0));
}
