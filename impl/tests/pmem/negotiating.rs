//! Location of the memory, and negotiation.

use crate::support::{ALL, REGION, Rig};
use powerfail_device::RegisterSurface;
use powerfail_device::pmem::wire::*;
use powerfail_device::pmem::{PmemConfig, PmemConfigError, PmemDevice, Region};
use powerfail_device::wire::{
    F_FLUSH, F_VERSION_1, STATUS_ACKNOWLEDGE, STATUS_DRIVER, STATUS_DRIVER_OK, STATUS_FEATURES_OK,
};

/// `start` and `size` of the configuration space.
fn space(rig: &Rig) -> (u64, u64) {
    let mut bytes = [0xaa; 24];
    rig.device.config_read(0, &mut bytes);
    assert_eq!(bytes[CONFIG_BYTES..], [0; 8], "past its end are zeroes");
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    (word(0), word(8))
}

const IN_CONFIG: (u64, u64) = (REGION.start, REGION.size);

#[test]
fn where_shmem_region_is_negotiated_the_memory_is_region_0_and_start_and_size_are_zero() {
    let mut rig = Rig::new(ALL);
    assert_eq!(space(&rig), IN_CONFIG, "before anything is negotiated");
    let before = rig.device.config_generation();
    rig.boot(ALL);
    assert_eq!(space(&rig), (0, 0));
    assert_ne!(rig.device.config_generation(), before, "the content changed");
    assert_eq!(rig.device.shared_memory(0), Some(REGION));
    assert_eq!(rig.device.shared_memory(1), None);
    rig.reset();
    assert_eq!(space(&rig), IN_CONFIG, "negotiation is per life");
}

#[test]
fn where_it_is_not_the_memory_is_at_start_for_size_bytes() {
    for offer in [ALL, ALL & !F_SHMEM_REGION] {
        let mut rig = Rig::new(offer);
        let before = rig.device.config_generation();
        rig.boot(F_VERSION_1);
        assert_eq!(space(&rig), IN_CONFIG);
        assert_eq!(rig.device.config_generation(), before);
        let announced = (offer & F_SHMEM_REGION != 0).then_some(REGION);
        assert_eq!(rig.device.shared_memory(0), announced);
    }
}

#[test]
fn a_part_of_the_configuration_space_reads_as_it_lies_in_the_whole() {
    let rig = Rig::new(ALL);
    let mut whole = [0; CONFIG_BYTES];
    rig.device.config_read(0, &mut whole);
    for offset in 0..20 {
        let mut part = [0xaa; 4];
        rig.device.config_read(offset, &mut part);
        let wanted: Vec<u8> =
            (0..4).map(|at| whole.get(offset as usize + at).copied().unwrap_or(0)).collect();
        assert_eq!(part[..], wanted);
    }
}

#[test]
fn what_was_not_offered_is_refused() {
    for (offer, accept) in [(ALL & !F_SHMEM_REGION, ALL), (ALL, ALL & !F_VERSION_1), (ALL, 1 << 9)]
    {
        let mut rig = Rig::new(offer);
        rig.device.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER);
        rig.device.set_driver_features(accept);
        rig.device.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
        assert_eq!(rig.device.status() & STATUS_FEATURES_OK, 0);
        rig.device.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_DRIVER_OK);
        assert!(rig.device.queue_mut().is_none(), "no life begins");
    }
}

#[test]
fn there_is_one_queue() {
    let mut rig = Rig::new(ALL);
    assert!(rig.device.set_queue(0, crate::support::layout()).is_err(), "not before FEATURES_OK");
    rig.device.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    rig.device.set_driver_features(ALL);
    rig.device.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
    assert!(rig.device.set_queue(1, crate::support::layout()).is_err());
    assert!(rig.device.set_queue(0, crate::support::layout()).is_ok());
}

#[test]
fn a_memory_that_cannot_be_is_not_made() {
    let at = |start, size| PmemDevice::new(PmemConfig::at(Region { start, size })).err();
    assert_eq!(at(0, 4096), None);
    assert_eq!(at(u64::MAX - 8191, 4096), None);
    assert_eq!(at(2048, 4096), Some(PmemConfigError::Start(2048)));
    for size in [0, 1, 4095, 6000] {
        assert_eq!(at(4096, size), Some(PmemConfigError::Size(size)));
    }
    assert_eq!(at(u64::MAX - 4095, 4096), Some(PmemConfigError::Size(4096)), "past all addresses");
    let with = |features, queue_size| {
        PmemDevice::new(PmemConfig { features, queue_size, ..PmemConfig::at(REGION) }).err()
    };
    assert_eq!(with(F_FLUSH | ALL, 16), Some(PmemConfigError::UnknownFeatures(F_FLUSH)));
    assert_eq!(with(ALL & !F_VERSION_1, 16), Some(PmemConfigError::NotVersion1));
    assert_eq!(with(ALL, 12), Some(PmemConfigError::QueueSize(12)));
}
