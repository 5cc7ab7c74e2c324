//! Cost of 4 KiB on a file in the page cache: a bare system call, a [`FileDisk`] and a
//! [`UringDisk`], one at a time and 32 at a time, and the ring with direct I/O. Compare rows of one
//! run only. `cargo bench -p powerfail-device --bench disks`.

#[cfg(target_os = "linux")]
mod rows {
    use divan::Bencher;
    use divan::counter::ItemsCount;
    use powerfail_device::host::{Access, ArcMemory, FileDisk, UringDisk};
    use powerfail_device::{Buffer, Disk, GuestRange, Op, Submission, Token};
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;
    use vm_memory::{GuestAddress, GuestMemoryMmap};

    type Mmap = GuestMemoryMmap<()>;

    const BLOCK: u32 = 4096;
    const BLOCKS: u64 = 1 << 14;
    const DEPTHS: [u32; 2] = [1, 32];

    fn scratch() -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR"));
        let file = file.expect("a file");
        let block = vec![5; BLOCK as usize];
        for at in 0..BLOCKS {
            file.as_file().write_all_at(&block, at * u64::from(BLOCK)).expect("room for it");
        }
        file.as_file().sync_all().expect("it can be synced");
        file
    }

    fn memory() -> ArcMemory<Mmap> {
        let regions = [(GuestAddress(0), (DEPTHS[1] * BLOCK) as usize)];
        Arc::new(Mmap::from_ranges(&regions).expect("memory")).into()
    }

    /// The offsets of blocks in an order without a pattern: a full period of a linear congruence.
    struct Offsets(u64);

    impl Offsets {
        fn following(&mut self) -> u64 {
            self.0 = (self.0 * 5 + 3) % BLOCKS;
            self.0 * u64::from(BLOCK)
        }
    }

    fn operation(writes: bool, slot: u32, offset: u64) -> Op {
        let addr = GuestAddress(u64::from(slot * BLOCK));
        let buffer = Buffer::Guest([GuestRange { addr, len: BLOCK }].into_iter().collect());
        match writes {
            true => Op::Write { offset, from: buffer },
            false => Op::Read { offset, into: buffer },
        }
    }

    /// Keeps `depth` operations in flight until all are done, as an event loop would.
    fn turns<D: Disk<ArcMemory<Mmap>>>(
        bencher: Bencher<'_, '_>,
        mut disk: D,
        wait: impl Fn(&mut D),
        writes: bool,
        depth: u32,
    ) {
        let memory = memory();
        let mut offsets = Offsets(0);
        bencher.counter(ItemsCount::new(depth)).bench_local(|| {
            for slot in 0..depth {
                let op = operation(writes, slot, offsets.following());
                disk.submit(&memory, Submission { token: Token::new(slot, 0), op });
            }
            disk.doorbell();
            let mut left = depth;
            while left > 0 {
                match disk.complete(&memory) {
                    Some(done) => {
                        assert_eq!(done.result, Ok(BLOCK));
                        left -= 1;
                    }
                    None => wait(&mut disk),
                }
            }
        });
    }

    fn bare(bencher: Bencher<'_, '_>, writes: bool, depth: u32) {
        let scratch = scratch();
        let file: &File = scratch.as_file();
        let mut memory = vec![0; (DEPTHS[1] * BLOCK) as usize];
        let mut offsets = Offsets(0);
        bencher.counter(ItemsCount::new(depth)).bench_local(|| {
            for block in memory.chunks_mut(BLOCK as usize).take(depth as usize) {
                let offset = offsets.following();
                let moved = match writes {
                    true => file.write_at(block, offset),
                    false => file.read_at(block, offset),
                };
                assert_eq!(moved.expect("a file"), BLOCK as usize);
            }
        });
    }

    fn file(bencher: Bencher<'_, '_>, writes: bool, depth: u32) {
        let scratch = scratch();
        let disk = FileDisk::open(scratch.path(), false).expect("a disk");
        turns(bencher, disk, |_| {}, writes, depth);
    }

    fn uring(bencher: Bencher<'_, '_>, writes: bool, direct: bool, depth: u32) {
        let scratch = scratch();
        let access = Access { read_only: false, direct };
        let disk = UringDisk::<Mmap>::open(scratch.path(), access).expect("a disk");
        turns(bencher, disk, UringDisk::wait, writes, depth);
    }

    mod read {
        use super::{Bencher, DEPTHS};

        #[divan::bench(args = DEPTHS)]
        fn bare(bencher: Bencher<'_, '_>, depth: u32) {
            super::bare(bencher, false, depth);
        }

        #[divan::bench(args = DEPTHS)]
        fn file(bencher: Bencher<'_, '_>, depth: u32) {
            super::file(bencher, false, depth);
        }

        #[divan::bench(args = DEPTHS)]
        fn uring(bencher: Bencher<'_, '_>, depth: u32) {
            super::uring(bencher, false, false, depth);
        }

        #[divan::bench(args = DEPTHS)]
        fn uring_direct(bencher: Bencher<'_, '_>, depth: u32) {
            super::uring(bencher, false, true, depth);
        }
    }

    mod write {
        use super::{Bencher, DEPTHS};

        #[divan::bench(args = DEPTHS)]
        fn bare(bencher: Bencher<'_, '_>, depth: u32) {
            super::bare(bencher, true, depth);
        }

        #[divan::bench(args = DEPTHS)]
        fn file(bencher: Bencher<'_, '_>, depth: u32) {
            super::file(bencher, true, depth);
        }

        #[divan::bench(args = DEPTHS)]
        fn uring(bencher: Bencher<'_, '_>, depth: u32) {
            super::uring(bencher, true, false, depth);
        }

        #[divan::bench(args = DEPTHS)]
        fn uring_direct(bencher: Bencher<'_, '_>, depth: u32) {
            super::uring(bencher, true, true, depth);
        }
    }
}

fn main() {
    divan::main();
}
