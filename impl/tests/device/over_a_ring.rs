//! The whole device on a ring: requests of two queues at a time, in pieces that ignore all
//! boundaries, end correctly.

use crate::support::guest::{Cuts, Sent, flush, read, write, zeroes};
use crate::support::{ALL, Rig};
use powerfail_device::host::{Access, ArcMemory, UringDisk};
use powerfail_device::wire::S_OK;
use powerfail_device::{Config, Disk, Step, step};
use std::sync::Arc;
use vm_memory::GuestMemoryMmap;

type Mmap = GuestMemoryMmap<()>;

const SECTORS: usize = 128;

/// Runs the event loops of both queues, which sleep when idle, until every request is answered.
fn turn(rig: &mut Rig, lanes: &mut [UringDisk<Mmap>], memory: &ArcMemory<Mmap>) {
    loop {
        let mut moved = false;
        for (index, lane) in lanes.iter_mut().enumerate() {
            let (queue, ring) = rig.device.queue_mut(index as u16).expect("it is live");
            let step = step(queue, ring, lane, memory);
            if let Step::Wake(other) = step {
                let (queue, ring) = rig.device.queue_mut(other.0).expect("it is live");
                queue.handle_wake(ring, memory);
            }
            moved |= step != Step::Idle;
        }
        if moved {
            continue;
        }
        let mut is_idle = |index| rig.device.queue_mut(index).is_none_or(|(it, _)| it.is_idle());
        if is_idle(0) && is_idle(1) {
            return;
        }
        lanes.iter_mut().for_each(UringDisk::wait);
    }
}

#[test]
fn what_two_queues_write_is_on_the_file() {
    for direct in [false, true] {
        let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a file");
        file.as_file().set_len(SECTORS as u64 * 512).expect("room for it");
        let access = Access { read_only: false, direct };
        let disk = UringDisk::<Mmap>::open(file.path(), access).expect("a disk");
        let config = Config { queues: 2, queue_size: 16, ..Config::default() };
        let mut rig = Rig::new(config, disk.limits());
        rig.boot(ALL);
        // A clone of a map of memory shows the same memory.
        let memory = ArcMemory::from(Arc::new(rig.memory.clone()));
        let mut lanes = [disk.lane().expect("a ring"), disk];
        let mut expected = [0; SECTORS];
        for round in 0..100_u8 {
            let at = usize::from(round) * 7 % (SECTORS - 6);
            let cuts =
                Cuts { header: vec![16], data: vec![1, u32::from(round), 600], glued: false };
            let requests = [
                (0, write(at as u64, round, 2)),
                (1, write(at as u64 + 2, round ^ 0x80, 3)),
                (0, zeroes(at as u64 + 5, 1)),
            ];
            expected[at..at + 2].fill(round);
            expected[at + 2..at + 5].fill(round ^ 0x80);
            expected[at + 5] = 0;
            let send = |rig: &mut Rig, (index, request): &(u16, _)| {
                let guest = &mut rig.guests[usize::from(*index)];
                let sent = guest.send_cut(&rig.memory, request, &cuts, true);
                rig.kick(*index);
                sent
            };
            let writes: Vec<Sent> = requests.iter().map(|each| send(&mut rig, each)).collect();
            turn(&mut rig, &mut lanes, &memory);
            let checks = [(1, flush()), (0, read(at as u64, 6))];
            let checks: Vec<Sent> = checks.iter().map(|each| send(&mut rig, each)).collect();
            turn(&mut rig, &mut lanes, &memory);
            for sent in writes.iter().chain(&checks) {
                assert_eq!(sent.status(&rig.memory), S_OK, "round {round}, direct: {direct}");
            }
            let seen = checks[1].data(&rig.memory);
            let sectors: Vec<u8> = seen.chunks(512).map(|sector| sector[0]).collect();
            assert_eq!(sectors, expected[at..at + 6], "round {round}, direct: {direct}");
        }
        drop(lanes);
        let written = std::fs::read(file.path()).expect("a file");
        let whole: Vec<u8> = expected.iter().flat_map(|byte| [*byte; 512]).collect();
        assert!(written == whole, "direct: {direct}");
    }
}
