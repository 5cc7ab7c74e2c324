//! Cost of flushes of a persistent memory on one file: an `msync` for each, and the device with 1,
//! 4 and 16 outstanding, over a thread that syncs the mapping and over io_uring, which syncs the
//! file. Before each flush one word is stored. Compare rows of one run only. `cargo bench -p
//! powerfail-device --bench flushes`.

#[cfg(target_os = "linux")]
#[allow(dead_code, unreachable_pub, reason = "it is written for tests of another device")]
#[path = "../tests/device/support/guest.rs"]
mod guest;

#[cfg(target_os = "linux")]
mod rows {
    use crate::guest::{Guest, Piece};
    use divan::Bencher;
    use divan::counter::ItemsCount;
    use powerfail_device::RegisterSurface;
    use powerfail_device::host::{Access, ArcMemory, MapLane, MappedFile, UringDisk};
    use powerfail_device::pmem::{Backing, PmemConfig, PmemDevice, Region, Synced, step};
    use powerfail_device::wire::{
        F_VERSION_1, STATUS_ACKNOWLEDGE, STATUS_DRIVER, STATUS_DRIVER_OK, STATUS_FEATURES_OK,
    };
    use powerfail_device::{Disk, Op, QueueLayout, Step, Submission, Token};
    use std::sync::Arc;
    use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

    type Mmap = GuestMemoryMmap<()>;

    const SIZE: u64 = 1 << 24;
    const PAGE: u64 = 4096;
    const DEPTHS: [u16; 3] = [1, 4, 16];

    fn scratch() -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a file");
        let filled = std::fs::write(file.path(), vec![5; SIZE as usize]);
        filled.and_then(|()| file.as_file().sync_all()).expect("room for it");
        file
    }

    /// The words to be stored, each in a separate page that is not next to the previous one.
    struct Words(u64);

    impl Words {
        fn following(&mut self) -> (u64, u64) {
            self.0 += 1;
            (self.0 * 5 % (SIZE / PAGE) * PAGE, self.0)
        }
    }

    /// A live device and its driver, with `depth` requests to publish repeatedly.
    struct Machine {
        memory: Mmap,
        device: PmemDevice,
        guest: Guest,
        heads: Vec<u16>,
    }

    impl Machine {
        fn new(depth: u16) -> Machine {
            let memory = Mmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).expect("memory");
            let region = Region { start: 1 << 32, size: SIZE };
            let mut device = PmemDevice::new(PmemConfig::at(region)).expect("it is right");
            let ready = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;
            device.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER);
            device.set_driver_features(F_VERSION_1);
            device.set_status(ready);
            let layout =
                QueueLayout { size: 64, descriptors: 0x1000, available: 0x1600, used: 0x1900 };
            let mut guest = Guest::new(&memory, layout, false);
            device.set_queue(0, layout).expect("a valid layout before DRIVER_OK");
            device.set_status(ready | STATUS_DRIVER_OK);
            let (request, response) = (guest.take(4), guest.take(4));
            let pieces = [
                Piece { addr: request, len: 4, write: false },
                Piece { addr: response, len: 4, write: true },
            ];
            let heads = (0..depth).map(|_| guest.chain(&memory, &pieces)).collect();
            Machine { memory, device, guest, heads }
        }

        /// Publishes every free request, after a store before each, and steps until a flush has
        /// ended. Returns the number that have.
        fn lock_worker<B: Backing>(
            &mut self,
            backing: &mut B,
            mut store: impl FnMut(),
            wait: impl Fn(&mut B),
        ) -> usize {
            for head in self.heads.drain(..) {
                store();
                self.guest.publish(&self.memory, head);
            }
            let (queue, ring) = self.device.queue_mut().expect("it is live");
            queue.handle_kick();
            loop {
                while step(queue, ring, backing, &self.memory) != Step::Idle {}
                let used = self.guest.reap(&self.memory);
                if !used.is_empty() {
                    self.heads.extend(used.iter().map(|(head, _)| *head));
                    return used.len();
                }
                wait(backing);
            }
        }
    }

    /// Keeps `depth` flushes in flight; an iteration of the benchmark is 64 of them, and those that
    /// end with the last.
    fn flushes<B: Backing>(
        bencher: Bencher<'_, '_>,
        depth: u16,
        mut backing: B,
        mut store: impl FnMut(u64, u64),
        wait: impl Fn(&mut B),
    ) {
        let mut machine = Machine::new(depth);
        let mut words = Words(0);
        bencher.counter(ItemsCount::new(64_u32)).bench_local(|| {
            let mut ended = 0;
            while ended < 64 {
                let next = || {
                    let (at, word) = words.following();
                    store(at, word);
                };
                ended += machine.lock_worker(&mut backing, next, &wait);
            }
        });
    }

    #[divan::bench]
    fn an_msync_for_each(bencher: Bencher<'_, '_>) {
        let file = scratch();
        let map = MappedFile::open(file.path()).expect("it can be mapped");
        let mut words = Words(0);
        bencher.counter(ItemsCount::new(64_u32)).bench_local(|| {
            for _ in 0..64 {
                let (at, word) = words.following();
                map.memory().write_obj(word, at as usize).expect("inside");
                map.sync().expect("it can be synced");
            }
        });
    }

    #[divan::bench(args = DEPTHS)]
    fn thread(bencher: Bencher<'_, '_>, depth: u16) {
        let file = scratch();
        let map = Arc::new(MappedFile::open(file.path()).expect("it can be mapped"));
        let lane = MapLane::of(Arc::clone(&map)).expect("a thread");
        let store = |at, word| map.memory().write_obj::<u64>(word, at as usize).expect("inside");
        flushes(bencher, depth, lane, |at: u64, word| store(at, word), |lane| lane.wait());
    }

    /// A lane of a disk as a backing.
    struct OverUring {
        disk: UringDisk<Mmap>,
        memory: ArcMemory<Mmap>,
    }

    impl Backing for OverUring {
        fn room(&self) -> u32 {
            self.disk.room()
        }

        fn submit(&mut self, token: Token) {
            self.disk.submit(&self.memory, Submission { token, op: Op::Sync });
            self.disk.doorbell();
        }

        fn complete(&mut self) -> Option<Synced> {
            let done = self.disk.complete(&self.memory)?;
            Some(Synced { token: done.token, result: done.result.map(|_| ()) })
        }
    }

    #[divan::bench(args = DEPTHS)]
    fn uring(bencher: Bencher<'_, '_>, depth: u16) {
        let file = scratch();
        let place = FileOffset::new(file.reopen().expect("it is there"), 0);
        let ranges = [(GuestAddress(0), SIZE as usize, Some(place))];
        let map = Mmap::from_ranges_with_files(ranges).expect("it can be mapped");
        let disk = UringDisk::open(file.path(), Access::default()).expect("a disk");
        let memory = Arc::new(Mmap::from_ranges(&[(GuestAddress(0), 4096)]).expect("memory"));
        let backing = OverUring { disk, memory: memory.into() };
        let store = |at, word: u64| map.write_obj(word, GuestAddress(at)).expect("inside");
        flushes(bencher, depth, backing, store, |backing| backing.disk.wait());
    }
}

fn main() {
    divan::main();
}
