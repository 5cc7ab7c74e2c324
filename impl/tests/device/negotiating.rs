//! Features, configuration space and queue set-up.

use crate::support::{ALL, Rig, layout};
use powerfail_device::RegisterSurface;
use powerfail_device::wire::*;
use powerfail_device::{Config, ConfigError, Device, Limits, QueueError, QueueLayout};

const LIVE: u8 = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK;

#[test]
fn negotiation_refuses_what_was_not_offered_in_every_life() {
    let offer = F_VERSION_1 | F_FLUSH | F_CONFIG_WCE;
    let config = Config { features: offer, ..Config::default() };
    let mut device = Device::new(config, Limits::plain(1 << 20)).unwrap();
    let start = STATUS_ACKNOWLEDGE | STATUS_DRIVER;
    for bits in 0..1_u64 << 5 {
        let bit = |n: u64, feature: u64| if bits >> n & 1 != 0 { feature } else { 0 };
        let accept = bit(0, F_VERSION_1)
            | bit(1, F_FLUSH)
            | bit(2, F_CONFIG_WCE)
            | bit(3, F_DISCARD)
            | bit(4, 1 << 40);
        let right = accept & !offer == 0 && accept & F_VERSION_1 != 0;
        device.set_status(start);
        device.set_driver_features(accept);
        assert_eq!(device.negotiated(), 0);
        device.set_status(start | STATUS_FEATURES_OK);
        assert_eq!(device.status() & STATUS_FEATURES_OK != 0, right, "{accept:#x}");
        assert_eq!(device.negotiated(), if right { accept } else { 0 });
        device.set_driver_features(0);
        device.set_status(start | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
        assert_eq!(device.status() & STATUS_DRIVER_OK != 0, right);
        device.set_status(0);
        assert_eq!((device.status(), device.negotiated()), (0, 0));
    }
}

#[test]
fn the_cache_mode_starts_anew_in_every_life() {
    let mode = |rig: &Rig| {
        let mut byte = [7];
        rig.device.config_read(32, &mut byte);
        byte[0]
    };
    let mut rig = Rig::new(Config { queue_size: 16, ..Config::default() }, Limits::plain(1 << 20));
    assert_eq!(mode(&rig), 1, "it can be read before FEATURES_OK");
    rig.writeback(0);
    assert_eq!(mode(&rig), 1, "and not written");
    for (accept, start) in [
        (ALL, 1),
        (F_VERSION_1 | F_CONFIG_WCE, 0),
        (F_VERSION_1 | F_CONFIG_WCE | F_FLUSH, 1),
        (F_VERSION_1, 1),
    ] {
        rig.boot(accept);
        assert_eq!(mode(&rig), start, "{accept:#x}");
        let generation = rig.device.config_generation();
        rig.writeback(0);
        let writable = accept & F_CONFIG_WCE != 0;
        assert_eq!(mode(&rig) == 0, writable || start == 0);
        let changed = rig.device.config_generation() != generation;
        assert_eq!(changed, writable && start == 1, "generation changes with content");
        rig.device.config_write(32, &[200]);
        assert_eq!(mode(&rig), 1);
        rig.device.config_write(32, &[0, 0]);
        rig.device.config_write(31, &[0]);
        rig.device.config_write(0, &[0]);
        assert_eq!(mode(&rig), 1, "nothing else can be written");
        rig.writeback(0);
        rig.device.set_status(0);
        assert_eq!(rig.device.status(), 0);
        assert_eq!(mode(&rig), 1);
    }
}

#[test]
fn the_configuration_space_is_as_the_standard_has_it() {
    let config = Config { queues: 3, queue_size: 16, ..Config::default() };
    let limits = Limits {
        granule: 4096,
        discard_granularity: 8192,
        max_discard: 8192,
        write_zeroes_granularity: 4096,
        ..Limits::plain(123 * 4096)
    };
    let device = Device::new(config, limits).unwrap();
    let mut space = [0xff; 120];
    device.config_read(0, &mut space);
    let le = |at: usize, len: usize| {
        (0..len).map(|byte| u64::from(space[at + byte]) << (8 * byte)).sum::<u64>()
    };
    let fields = [
        (0, 8, 123 * 8),
        (8, 4, 1 << 20),
        (12, 4, 14),
        (16, 4, 0),
        (20, 4, 512),
        (24, 1, 3),
        (25, 1, 0),
        (26, 2, 8),
        (28, 4, 8),
        (32, 1, 1),
        (33, 1, 0),
        (34, 2, 3),
        (36, 4, 1 << 22),
        (40, 4, 32),
        (44, 4, 16),
        (48, 4, 1 << 22),
        (52, 4, 32),
        (56, 1, 1),
        (57, 3, 0),
    ];
    for (at, len, value) in fields {
        assert_eq!(le(at, len), value, "offset {at}");
    }
    assert!(space[57..].iter().all(|byte| *byte == 0), "the rest is zero");
    let mut far = [1; 16];
    device.config_read(u64::MAX - 7, &mut far);
    assert_eq!(far, [0; 16]);
    device.config_read(31, &mut far[..2]);
    assert_eq!(far[..2], [0, 1], "reads may have any width and place");
}

#[test]
fn a_device_that_contradicts_itself_is_refused_in_one_line() {
    let plain = Limits::plain(1 << 20);
    let base = Config::default();
    let wce = base.features & !F_FLUSH;
    for (config, limits, error) in [
        (Config { features: wce, ..base.clone() }, plain, ConfigError::ConfigWceWithoutFlush),
        (Config { queues: 0, ..base.clone() }, plain, ConfigError::Queues(0)),
        (Config { queues: 257, ..base.clone() }, plain, ConfigError::Queues(257)),
        (
            Config { queues: 2, features: base.features & !F_MQ, ..base.clone() },
            plain,
            ConfigError::Queues(2),
        ),
        (Config { queue_size: 3, ..base.clone() }, plain, ConfigError::QueueSize(3)),
        (
            Config { max_discard_seg: 0, ..base.clone() },
            plain,
            ConfigError::ZeroLimit("max_discard_seg"),
        ),
        (
            Config { features: 1 << 17 | base.features, ..base.clone() },
            plain,
            ConfigError::UnknownFeatures(1 << 17),
        ),
        (Config { features: F_FLUSH, ..base.clone() }, plain, ConfigError::NotVersion1),
        (base.clone(), Limits { granule: 256, ..plain }, ConfigError::Granule(256)),
        (base.clone(), Limits { capacity: 1000, ..plain }, ConfigError::Unaligned("capacity")),
        (base.clone(), Limits { max_transfer: 0, ..plain }, ConfigError::ZeroLimit("max_transfer")),
    ] {
        let refused = Device::new(config, limits).expect_err("it contradicts itself");
        assert_eq!(refused, error);
        assert_eq!(refused.to_string().lines().count(), 1);
    }
}

#[test]
fn queues_are_placed_between_features_ok_and_driver_ok() {
    let mut device = Device::new(
        Config { queues: 2, queue_size: 16, ..Config::default() },
        Limits::plain(1 << 20),
    )
    .unwrap();
    let place = layout(0, 8);
    assert_eq!(device.set_queue(0, place), Err(QueueError::NotNow));
    device.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    device.set_driver_features(F_VERSION_1);
    device.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
    for (index, layout, error) in [
        (1, place, QueueError::NoSuchQueue),
        (2, place, QueueError::NoSuchQueue),
        (0, QueueLayout { size: 32, ..place }, QueueError::Size(32)),
        (0, QueueLayout { size: 6, ..place }, QueueError::Size(6)),
        (0, QueueLayout { size: 0, ..place }, QueueError::Size(0)),
        (0, QueueLayout { descriptors: 0x1008, ..place }, QueueError::Address(0x1008)),
        (0, QueueLayout { available: 0x1601, ..place }, QueueError::Address(0x1601)),
        (0, QueueLayout { available: 0, ..place }, QueueError::Address(0)),
        (0, QueueLayout { used: 0x1902, ..place }, QueueError::Address(0x1902)),
    ] {
        assert_eq!(device.set_queue(index, layout), Err(error));
    }
    assert!(device.queue_mut(0).is_none());
    assert_eq!(device.set_queue(0, place), Ok(()));
    assert!(device.queue_mut(0).is_none(), "not live before DRIVER_OK (ST-01)");
    device.set_status(LIVE);
    assert!(device.queue_mut(0).is_some());
    assert!(device.queue_mut(1).is_none(), "never placed");
    assert_eq!(device.set_queue(0, place), Err(QueueError::NotNow));
}
