//! The simulated disk passes the conformance body of the host's disks.

#[path = "../../impl/tests/conformance/body.rs"]
#[allow(unreachable_pub, reason = "a test program exports nothing")]
mod body;

use body::{REGIONS, Subject, conforms};
use powerfail::base::sectors::SectorSet;
use powerfail::guest::memory::{Memory, Ram};
use powerfail::host::disk::{DiskShape, Lane, Outcome, SimDisk};
use powerfail_device::Disk;

struct Simulated<'a> {
    disk: SimDisk,
    ram: Ram<'a>,
    /// Index of the operation in flight that ends next.
    turn: usize,
}

impl<'a> Subject for Simulated<'a> {
    type Memory = Ram<'a>;

    fn lane(&mut self, lane: usize) -> (impl Disk<Ram<'a>>, &Ram<'a>) {
        (Lane::new(&mut self.disk, 0, lane as u8), &self.ram)
    }

    fn work(&mut self) {
        if self.disk.busy() == 0 {
            return;
        }
        self.turn += 1;
        let (key, _) = self.disk.nth(self.turn % self.disk.busy());
        assert!(self.disk.complete(key, Outcome::Ok { landed: SectorSet::EMPTY }, self.ram));
    }
}

#[test]
fn the_simulated_disk_conforms() {
    let end = REGIONS.iter().map(|(start, len)| start.0 as usize + len).max();
    let mut memory = Memory::new(end.expect("there is memory"));
    let ram = memory.ram();
    for granule in [512, 2048] {
        let shape = DiskShape {
            spare: 0,
            capacity: 32 * granule / 512,
            devices: 1,
            kinds: Default::default(),
            granule,
            tear: 1,
            max_transfer: 1 << 20,
            discard_granularity: granule,
            depth: 16,
            read_only: false,
            reserve: 0,
            plain: true,
        };
        conforms(|| Simulated { disk: SimDisk::new(shape, 0), ram, turn: 0 });
    }
}
