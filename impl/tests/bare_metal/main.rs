//! A third-party driver, in process: `virtio-drivers`, which bare-metal guests use, on a [`Device`]
//! over a file.
//!
//! The driver has an independent reading of the specification: negotiation, rings, requests.
//! Between it and the device is only a [`Transport`] that passes registers through and steps the
//! queue at each notification.

mod memory;
mod pmem;
mod transport;

use memory::Dma;
use powerfail_device::host::FileDisk;
use std::io::{Read, Seek, SeekFrom};
use transport::{Block, InProcess, Offer};
use virtio_drivers::device::blk::{BlkReq, BlkResp, SECTOR_SIZE, VirtIOBlk};

const SECTORS: usize = 256;

fn file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.as_file().set_len((SECTORS * SECTOR_SIZE) as u64).expect("room for it");
    file
}

fn driver(file: &tempfile::NamedTempFile, offer: Offer) -> VirtIOBlk<Dma, InProcess<Block>> {
    let disk = FileDisk::open(file.path(), offer.read_only).expect("it was just made");
    VirtIOBlk::new(InProcess::new(disk, offer)).expect("the driver accepts the offer")
}

fn pattern(seed: usize, sectors: usize) -> Vec<u8> {
    (0..sectors * SECTOR_SIZE)
        .map(|at| (at.wrapping_mul(31) ^ seed.wrapping_mul(97)) as u8)
        .collect()
}

/// Every combination of features that this driver can negotiate.
fn offers() -> impl Iterator<Item = Offer> {
    (0..8).map(|bits| Offer {
        event_idx: bits & 1 != 0,
        indirect: bits & 2 != 0,
        flush: bits & 4 != 0,
        read_only: false,
    })
}

#[test]
fn what_is_written_is_read_and_in_the_file() {
    for offer in offers() {
        let mut file = file();
        let mut blk = driver(&file, offer);
        assert_eq!(blk.capacity(), SECTORS as u64);
        assert!(!blk.readonly());
        for (sector, sectors) in [(0, 1), (1, 7), (SECTORS - 8, 8), (100, 64)] {
            let written = pattern(sector, sectors);
            blk.write_blocks(sector, &written).unwrap_or_else(|e| panic!("{offer:?}: {e}"));
            let mut read = vec![0; written.len()];
            blk.read_blocks(sector, &mut read).unwrap_or_else(|e| panic!("{offer:?}: {e}"));
            assert!(read == written, "{offer:?}: {sectors} sectors from {sector}");
        }
        blk.flush().unwrap_or_else(|e| panic!("{offer:?}: {e}"));
        drop(blk);
        let mut bytes = vec![0; 64 * SECTOR_SIZE];
        file.seek(SeekFrom::Start(100 * SECTOR_SIZE as u64)).unwrap();
        file.read_exact(&mut bytes).unwrap();
        assert!(bytes == pattern(100, 64), "{offer:?}: the file");
    }
}

#[test]
fn many_requests_are_out_at_a_time() {
    for offer in offers() {
        let file = file();
        let mut blk = driver(&file, offer);
        // Without indirect tables a request takes three of the ring's descriptors.
        let most = if offer.indirect { 16 } else { 5 };
        for round in 0..40 {
            let written: Vec<Vec<u8>> = (0..most).map(|nth| pattern(round * 16 + nth, 2)).collect();
            let mut out: Vec<(u16, BlkReq, BlkResp)> = Vec::new();
            for (nth, data) in written.iter().enumerate() {
                let (mut req, mut resp) = (BlkReq::default(), BlkResp::default());
                // SAFETY: the driver's memory is a copy, so the device does not access any object
                // that is moved here.
                let token = unsafe { blk.write_blocks_nb(nth * 2, &mut req, data, &mut resp) };
                out.push((token.unwrap_or_else(|e| panic!("{offer:?}: {e}")), req, resp));
            }
            for (data, (token, req, mut resp)) in written.iter().zip(out) {
                assert_eq!(blk.peek_used(), Some(token), "{offer:?}: a file answers in order");
                // SAFETY: these are the header and the data of this token.
                let done = unsafe { blk.complete_write_blocks(token, &req, data, &mut resp) };
                done.unwrap_or_else(|e| panic!("{offer:?}: {e}"));
            }
            let mut read = vec![0; most * 2 * SECTOR_SIZE];
            blk.read_blocks(0, &mut read).unwrap_or_else(|e| panic!("{offer:?}: {e}"));
            assert!(read == written.concat(), "{offer:?}: round {round}");
        }
    }
}

#[test]
fn the_indices_of_the_rings_go_round() {
    let file = file();
    let offer = Offer { event_idx: true, indirect: true, flush: true, read_only: false };
    let mut blk = driver(&file, offer);
    let mut sector = vec![0; SECTOR_SIZE];
    for nth in 0..70_000usize {
        let at = nth % SECTORS;
        if nth % 2 == 0 {
            blk.write_blocks(at, &[nth as u8; SECTOR_SIZE])
                .unwrap_or_else(|e| panic!("{nth}: {e}"));
        } else {
            blk.read_blocks(at - 1, &mut sector).unwrap_or_else(|e| panic!("{nth}: {e}"));
            assert!(sector.iter().all(|&byte| byte == (nth - 1) as u8), "request {nth}");
        }
    }
}

#[test]
fn the_serial_number_and_the_limits_are_told() {
    let file = file();
    let mut blk =
        driver(&file, Offer { event_idx: false, indirect: true, flush: true, read_only: false });
    let mut id = [0; 20];
    let len = blk.device_id(&mut id).expect("GET_ID");
    assert_eq!(&id[..len], b"bare-metal");
    let mut past = vec![0; SECTOR_SIZE];
    assert!(blk.read_blocks(SECTORS, &mut past).is_err(), "beyond the end");
    assert!(blk.write_blocks(SECTORS - 1, &[1; 2 * SECTOR_SIZE]).is_err(), "over the end");
    blk.read_blocks(SECTORS - 1, &mut past).expect("the last sector");
    assert!(past.iter().all(|&byte| byte == 0), "a refused write leaves nothing");
}

#[test]
fn a_read_only_disk_is_not_written() {
    let file = file();
    let mut blk =
        driver(&file, Offer { event_idx: true, indirect: true, flush: true, read_only: true });
    assert!(blk.readonly());
    assert!(blk.write_blocks(3, &[1; SECTOR_SIZE]).is_err());
    let mut read = vec![1; SECTOR_SIZE];
    blk.read_blocks(3, &mut read).expect("reading is allowed");
    assert!(read.iter().all(|&byte| byte == 0));
}
