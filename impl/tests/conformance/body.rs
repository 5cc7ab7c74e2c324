//! Conformance of disks: one body, run against each.
//!
//! Not here: behaviour that only a power cut shows, which the simulator covers, and rejected
//! submissions, because the simulated disk treats an invalid submission as a bug.

use powerfail_device::{
    Bounce, Buffer, Completion, Disk, Errno, GuestRange, Limits, Op, Ranges, Submission, Token,
};
use vm_memory::{Bytes, GuestAddress, GuestMemory};

/// Guest memory of every subject: two regions, with or without a hole between them.
pub const REGIONS: [(GuestAddress, usize); 2] =
    [(GuestAddress(0), 0x1_0000), (GuestAddress(0x2_0000), 0x1_0000)];

/// A disk of at least 32 granules with two lanes, and the memory it works on.
pub trait Subject {
    /// The type of that memory.
    type Memory: GuestMemory;

    /// Lane 0 or 1, and the memory.
    fn lane(&mut self, lane: usize) -> (impl Disk<Self::Memory>, &Self::Memory);

    /// Lets the host work until there is a completion to take, or nothing to come.
    fn work(&mut self);
}

/// Checks a disk against the whole body; `fresh` makes one with any contents.
pub fn conforms<S: Subject>(mut fresh: impl FnMut() -> S) {
    scattered_writes_are_read_back_on_every_lane(&mut fresh());
    bounces_come_home(&mut fresh());
    the_later_of_two_overlapping_writes_is_read(&mut fresh());
    the_last_granule_is_a_granule(&mut fresh());
    zeroes_and_discards_stay_inside_their_range(&mut fresh());
    a_full_lane_completes_each_token_once(&mut fresh());
    lanes_take_their_own_completions_only(&mut fresh());
    syncs_and_writes_overtake_nothing(&mut fresh());
}

fn scattered_writes_are_read_back_on_every_lane<S: Subject>(subject: &mut S) {
    let unit = granule(subject);
    let content = pattern(3, unit as usize * 3);
    fill(subject, 0x1000, &content);
    let from = guest(&[(0x1000, 1), (0x1001, unit * 3 - 2), (0x1000 + u64::from(unit) * 3 - 1, 1)]);
    let write = Op::Write { offset: 2 * u64::from(unit), from };
    assert_eq!(run(subject, 0, write).result, Ok(3 * unit));
    for lane in [1, 0] {
        let into = guest(&[(0x2_0003, unit + 188), (0x8001, unit - 188)]);
        let read = Op::Read { offset: 2 * u64::from(unit), into };
        assert_eq!(run(subject, lane, read).result, Ok(2 * unit));
        let mut bytes = look(subject, 0x2_0003, unit + 188);
        bytes.extend(look(subject, 0x8001, unit - 188));
        assert_eq!(bytes, content[..2 * unit as usize], "a completed write is seen on lane {lane}");
    }
}

fn bounces_come_home<S: Subject>(subject: &mut S) {
    let unit = granule(subject);
    let mut bounce = Bounce::zeroed(unit as usize);
    bounce.as_mut_slice().fill(7);
    let from = Buffer::Bounce(bounce.clone());
    let done = run(subject, 0, Op::Write { offset: 0, from });
    assert_eq!((done.result, done.buffer), (Ok(unit), Some(Buffer::Bounce(bounce.clone()))));
    assert_eq!(read(subject, 0, 1), bounce.as_slice());
    // The length of a bounce buffer may be less than its capacity.
    let mut long = Bounce::zeroed(unit as usize * 4);
    long.set_len(unit as usize);
    let done = run(subject, 1, Op::Read { offset: 0, into: Buffer::Bounce(long) });
    assert_eq!((done.result, done.buffer), (Ok(unit), Some(Buffer::Bounce(bounce))));
}

fn the_later_of_two_overlapping_writes_is_read<S: Subject>(subject: &mut S) {
    write(subject, 0, 4, 4, 1);
    write(subject, 1, 6, 4, 2);
    write(subject, 0, 7, 1, 3);
    assert_eq!(granules(subject, 4, 6), [1, 1, 2, 3, 2, 2]);
}

fn the_last_granule_is_a_granule<S: Subject>(subject: &mut S) {
    let last = limits(subject).capacity / u64::from(granule(subject)) - 1;
    write(subject, 0, last - 1, 2, 9);
    write(subject, 0, last, 1, 8);
    assert_eq!(granules(subject, last - 1, 2), [9, 8]);
}

fn zeroes_and_discards_stay_inside_their_range<S: Subject>(subject: &mut S) {
    let unit = u64::from(granule(subject));
    let limits = limits(subject);
    let alignment = limits.discard_granularity.max(limits.write_zeroes_granularity);
    let step = u64::from(alignment) / unit;
    for may_unmap in [false, true] {
        write(subject, 0, 0, 4 * step, 5);
        let zeroes = Op::WriteZeroes { offset: step * unit, len: step * unit, may_unmap };
        let result = run(subject, 0, zeroes).result;
        assert!(matches!(result, Ok(0) | Err(Errno::EOPNOTSUPP)), "{result:?}");
        let middle = if result.is_ok() { 0 } else { 5 };
        let expected: Vec<u8> =
            (0..4 * step).map(|at| if at / step == 1 { middle } else { 5 }).collect();
        assert_eq!(granules(subject, 0, 4 * step), expected, "zeroes, may unmap: {may_unmap}");
    }
    write(subject, 0, 0, 4 * step, 6);
    let result = run(subject, 1, Op::Discard { offset: 2 * step * unit, len: step * unit }).result;
    assert!(matches!(result, Ok(0) | Err(Errno::EOPNOTSUPP)), "{result:?}");
    let left = granules(subject, 0, 4 * step);
    for (at, byte) in left.iter().enumerate() {
        if at as u64 / step != 2 {
            assert_eq!(*byte, 6, "a discard reached granule {at}");
        }
    }
    // A discarded range can be written again.
    write(subject, 0, 2 * step, step, 4);
    assert_eq!(granules(subject, 2 * step, step), vec![4; step as usize]);
}

fn a_full_lane_completes_each_token_once<S: Subject>(subject: &mut S) {
    let unit = granule(subject);
    let room = subject.lane(0).0.room();
    assert!(room > 1, "a disk takes more than one operation");
    // No more granules than every disk has; syncs use the remaining room.
    let many = room.min(30);
    for at in 0..many {
        fill(subject, u64::from(at % 15) * u64::from(unit), &vec![at as u8 % 15; unit as usize]);
    }
    let mut tokens = Vec::new();
    for at in 0..room {
        let op = if at < many {
            let from = guest(&[(u64::from(at % 15) * u64::from(unit), unit)]);
            Op::Write { offset: u64::from(at) * u64::from(unit), from }
        } else {
            Op::Sync
        };
        let token = Token::new(at, at * 3 + 1);
        tokens.push(token);
        let (mut disk, memory) = subject.lane(0);
        assert_eq!(disk.room(), room - at, "room counts down");
        disk.submit(memory, Submission { token, op });
    }
    let (mut disk, _) = subject.lane(0);
    assert_eq!(disk.room(), 0);
    disk.doorbell();
    drop(disk);
    let mut seen: Vec<Token> =
        collect(subject, 0, room as usize).into_iter().map(|done| done.token).collect();
    seen.sort();
    assert_eq!(seen, tokens);
    assert_eq!(subject.lane(0).0.room(), room, "there is room again");
    let expected: Vec<u8> = (0..many).map(|at| at as u8 % 15).collect();
    assert_eq!(granules(subject, 0, many.into()), expected);
}

fn lanes_take_their_own_completions_only<S: Subject>(subject: &mut S) {
    for (lane, slot) in [(0, 10), (1, 20), (1, 21), (0, 11)] {
        let (mut disk, memory) = subject.lane(lane);
        disk.submit(memory, Submission { token: Token::new(slot, 0), op: Op::Sync });
    }
    // One lane's doorbell has rung first; the other lane must not miss a completion after its own.
    subject.lane(0).0.doorbell();
    let first = collect(subject, 0, 2);
    subject.lane(1).0.doorbell();
    let second = collect(subject, 1, 2);
    let slots = |all: &[Completion]| {
        let mut slots: Vec<u32> = all.iter().map(|done| done.token.slot()).collect();
        slots.sort();
        slots
    };
    assert_eq!((slots(&first), slots(&second)), (vec![10, 11], vec![20, 21]));
    for done in first.iter().chain(&second) {
        assert_eq!((done.result, &done.buffer), (Ok(0), &None), "a sync moves no bytes");
    }
}

fn syncs_and_writes_overtake_nothing<S: Subject>(subject: &mut S) {
    // Each operation completes before the next is submitted, so each sees the effects of the one
    // before.
    for round in 1..=5_u8 {
        write(subject, usize::from(round % 2), 3, 2, round);
        assert_eq!(run(subject, usize::from(round) % 2, Op::Sync).result, Ok(0));
        assert_eq!(granules(subject, 3, 2), [round, round]);
    }
}

/// The limits of the disk; all lanes agree.
fn limits<S: Subject>(subject: &mut S) -> Limits {
    let limits = subject.lane(0).0.limits();
    assert_eq!(limits, subject.lane(1).0.limits());
    limits
}

fn granule<S: Subject>(subject: &mut S) -> u32 {
    limits(subject).granule
}

/// Guest memory in pieces.
pub fn guest(pieces: &[(u64, u32)]) -> Buffer {
    let range = |(addr, len): &(u64, u32)| GuestRange { addr: GuestAddress(*addr), len: *len };
    Buffer::Guest(pieces.iter().map(range).collect::<Ranges>())
}

/// Bytes without a period that is a power of two.
fn pattern(seed: u32, len: usize) -> Vec<u8> {
    (seed..).take(len).map(|at| (at % 249) as u8).collect()
}

fn fill<S: Subject>(subject: &mut S, addr: u64, bytes: &[u8]) {
    subject.lane(0).1.write_slice(bytes, GuestAddress(addr)).expect("an address in memory");
}

fn look<S: Subject>(subject: &mut S, addr: u64, len: u32) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    subject.lane(0).1.read_slice(&mut bytes, GuestAddress(addr)).expect("an address in memory");
    bytes
}

/// Fills granules with a byte, through a lane.
fn write<S: Subject>(subject: &mut S, lane: usize, granule: u64, count: u64, byte: u8) {
    let unit = u64::from(self::granule(subject));
    let mut bounce = Bounce::zeroed((count * unit) as usize);
    bounce.as_mut_slice().fill(byte);
    let from = Buffer::Bounce(bounce);
    let done = run(subject, lane, Op::Write { offset: granule * unit, from });
    assert_eq!(done.result, Ok((count * unit) as u32));
}

fn read<S: Subject>(subject: &mut S, granule: u64, count: u64) -> Vec<u8> {
    let unit = u64::from(self::granule(subject));
    let into = Buffer::Bounce(Bounce::zeroed((count * unit) as usize));
    let done = run(subject, 1, Op::Read { offset: granule * unit, into });
    assert_eq!(done.result, Ok((count * unit) as u32));
    let Some(Buffer::Bounce(bounce)) = done.buffer else { panic!("it did not come home") };
    bounce.as_slice().to_vec()
}

/// The byte of which each granule is full.
fn granules<S: Subject>(subject: &mut S, granule: u64, count: u64) -> Vec<u8> {
    let unit = self::granule(subject) as usize;
    let whole = |bytes: &[u8]| {
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a granule is torn");
        bytes[0]
    };
    read(subject, granule, count).chunks(unit).map(whole).collect()
}

/// Runs one operation to its completion.
pub fn run<S: Subject>(subject: &mut S, lane: usize, op: Op) -> Completion {
    let token = Token::new(3, 14);
    let (mut disk, memory) = subject.lane(lane);
    assert!(disk.room() > 0);
    disk.submit(memory, Submission { token, op });
    disk.doorbell();
    drop(disk);
    let done = collect(subject, lane, 1).pop().expect("one operation, one completion");
    assert_eq!(done.token, token);
    done
}

/// Takes this many completions of a lane, and checks that there are no more.
fn collect<S: Subject>(subject: &mut S, lane: usize, count: usize) -> Vec<Completion> {
    let mut all = Vec::new();
    let mut in_vain = 0;
    while all.len() < count {
        let (mut disk, memory) = subject.lane(lane);
        match disk.complete(memory) {
            Some(done) => all.push(done),
            None => {
                drop(disk);
                assert!(in_vain < 1000, "{} of {count} operations never completed", all.len());
                in_vain += 1;
                subject.work();
            }
        }
    }
    let (mut disk, memory) = subject.lane(lane);
    assert_eq!(disk.complete(memory), None, "a completion without an operation");
    all
}
