//! The disk in memory, on which the other tests rely, passes the conformance body.

use crate::conformance::{REGIONS, Subject, conforms};
use crate::support::host::Host;
use powerfail_device::{Disk, Limits};
use vm_memory::GuestMemoryMmap;

type Memory = GuestMemoryMmap<()>;

struct InMemory {
    host: Host,
    memory: Memory,
}

impl Subject for InMemory {
    type Memory = Memory;

    fn lane(&mut self, lane: usize) -> (impl Disk<Memory>, &Memory) {
        (self.host.lane(lane as u16), &self.memory)
    }

    fn work(&mut self) {}
}

#[test]
fn the_disk_in_memory_conforms() {
    for granule in [512, 4096] {
        let coarse = Limits {
            granule,
            discard_granularity: granule,
            write_zeroes_granularity: 2 * granule,
            ..Limits::plain(64 * 4096)
        };
        conforms(|| {
            let memory = Memory::from_ranges(&REGIONS).expect("memory");
            InMemory { host: Host::new(coarse), memory }
        });
    }
}
