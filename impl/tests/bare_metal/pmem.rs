//! A minimal driver of persistent memory on the ring of `virtio-drivers`, which has none.

use crate::memory::Dma;
use crate::transport::InProcess;
use powerfail_device::host::MappedFile;
use powerfail_device::pmem::wire::{CONFIG_BYTES, F_SHMEM_REGION, R_FAILED, R_OK, T_FLUSH};
use powerfail_device::wire::{F_EVENT_IDX, F_INDIRECT_DESC, F_VERSION_1};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceStatus, Transport};
use vm_memory::Bytes;

const SIZE: u64 = 1 << 16;

#[test]
fn a_driver_elsewhere_flushes_what_it_stored() {
    for bits in 0..8_u64 {
        let (indirect, event_idx, shared) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
        let mut features = F_VERSION_1;
        for (wanted, bit) in
            [(indirect, F_INDIRECT_DESC), (event_idx, F_EVENT_IDX), (shared, F_SHMEM_REGION)]
        {
            features |= if wanted { bit } else { 0 };
        }
        let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a file");
        file.as_file().set_len(SIZE).expect("room for it");
        let map = Arc::new(MappedFile::open(file.path()).expect("it was just made"));
        let mut transport = InProcess::mapped(Arc::clone(&map), features);

        transport.set_status(DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER);
        let offered = transport.read_device_features();
        assert_eq!(offered, features);
        transport.write_driver_features(offered);
        let ready = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER | DeviceStatus::FEATURES_OK;
        transport.set_status(ready);
        assert_eq!(transport.get_status(), ready);
        let range: [u64; CONFIG_BYTES / 8] = [
            transport.read_config_space(0).expect("start"),
            transport.read_config_space(8).expect("size"),
        ];
        assert_eq!(range, if shared { [0, 0] } else { [1 << 32, SIZE] });
        let mut queue = VirtQueue::<Dma, 16>::new(&mut transport, 0, indirect, event_idx)
            .expect("a queue where one may be");
        transport.set_status(ready | DeviceStatus::DRIVER_OK);

        for nth in 0..100_u64 {
            map.memory().write_obj(nth, nth as usize * 8).expect("inside");
            // Every seventh request is of an unknown type.
            let kind = if nth % 7 == 6 { 1 + nth as u32 } else { T_FLUSH };
            let mut response = [0xee; 4];
            let request = kind.to_le_bytes();
            let len = queue
                .add_notify_wait_pop(&[&request], &mut [&mut response], &mut transport)
                .expect("it comes back");
            assert_eq!(len, 4);
            let wanted = if kind == T_FLUSH { R_OK } else { R_FAILED };
            assert_eq!(u32::from_le_bytes(response), wanted, "request {nth}");
        }
        let mut word = [0; 8];
        File::open(file.path())
            .and_then(|file| file.read_exact_at(&mut word, 99 * 8))
            .expect("there");
        assert_eq!(u64::from_ne_bytes(word), 99);
    }
}
