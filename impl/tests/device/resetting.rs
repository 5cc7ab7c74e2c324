//! Reset, negotiation, and the lives in between.

use crate::support::guest::{flush, write, zeroes};
use crate::support::host::Fault;
use crate::support::{ALL, Rig, layout, rig, rig_with};
use powerfail_device::wire::*;
use powerfail_device::{Config, ConfigError, Device, Errno, Limits, QueueError, QueueLayout};

const LIVE: u8 = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK;

/// Everything guest memory holds.
fn memory(rig: &Rig) -> Vec<u8> {
    use vm_memory::{Bytes, GuestAddress};
    let mut bytes = vec![0; 0x10_0000];
    rig.memory.read_slice(&mut bytes, GuestAddress(0)).unwrap();
    bytes
}

#[test]
fn a_reset_waits_for_the_host_and_then_nobody_hears_of_the_old_requests() {
    let limits = Limits {
        granule: 1024,
        discard_granularity: 1024,
        write_zeroes_granularity: 1024,
        ..Limits::plain(64 * 512)
    };
    let mut rig = rig_with(3, limits, ALL);
    rig.host.hold();
    // In the host's hands, waiting for a lock, leading a sync, waiting for it, and still on the ring.
    rig.send(0, &write(0, 1, 1));
    rig.send(0, &write(2, 1, 2));
    rig.run();
    rig.send(1, &write(1, 1, 1));
    rig.send(1, &flush());
    rig.run();
    rig.send(2, &flush());
    rig.send(2, &flush());
    rig.run();
    rig.send(0, &zeroes(8, 8));
    let before = memory(&rig);
    rig.device.set_status(0);
    assert_eq!(rig.device.status(), LIVE, "the host still works");
    rig.device.set_status(STATUS_ACKNOWLEDGE);
    rig.device.set_status(0);
    rig.run();
    assert_eq!(rig.device.status(), LIVE);
    assert_eq!(rig.host.pending(), 3, "nothing new is handed over");
    rig.host.release();
    rig.run();
    assert_eq!(rig.device.status(), 0);
    assert!(rig.device.queue_mut(0).is_none());
    assert!(memory(&rig) == before, "neither ring nor status is touched");
    assert_eq!(rig.signals, [0, 0, 0]);
    rig.boot(ALL);
    assert_eq!(rig.do_one(&write(1, 7, 1)), S_OK);
    assert_eq!(rig.do_one(&flush()), S_OK);
}

#[test]
fn a_reset_at_every_moment_leaves_nothing_behind() {
    for moment in 0..120 {
        let limits = Limits {
            granule: 1024,
            discard_granularity: 1024,
            write_zeroes_granularity: 2048,
            ..Limits::plain(64 * 512)
        };
        let mut rig = rig_with(2, limits, ALL);
        rig.writeback((moment % 2) as u8);
        for queue in [0, 1, 0, 1] {
            rig.send(queue, &write(1, 3, 4));
            rig.send(queue, &zeroes(2, 9));
            rig.send(queue, &flush());
        }
        rig.host.fail([Fault::None, Fault::Errno(Errno::EINTR), Fault::None, Fault::Short(512)]);
        rig.host.hold();
        for turn in 0..moment {
            rig.step(turn % 2);
            if turn % 3 == 0 {
                let lane = (turn / 3) % 2;
                if rig.host.pending_of(lane) > 0 {
                    let done = rig.lanes[usize::from(lane)].complete_held(&rig.memory, 0);
                    let (queue, ring) = rig.device.queue_mut(lane).unwrap();
                    queue.handle_completion(ring, &rig.memory, done);
                }
            }
        }
        rig.device.set_status(0);
        rig.host.release();
        rig.run();
        assert_eq!(rig.device.status(), 0, "moment {moment}");
        rig.boot(ALL);
        assert_eq!(rig.do_one(&write(1, 9, 3)), S_OK, "moment {moment}");
        assert_eq!(rig.do_one(&zeroes(2, 1)), S_OK, "moment {moment}");
        assert_eq!(rig.do_one(&flush()), S_OK, "moment {moment}");
        assert_eq!(rig.host.sectors()[1..4], [9, 0, 9], "moment {moment}");
    }
}

#[test]
fn a_stopped_leader_leaves_the_sync_to_another_queue() {
    let mut rig = rig(2);
    rig.host.set_room(0);
    rig.send(0, &flush());
    rig.run();
    let waiting = rig.send(1, &flush());
    rig.run();
    let (queue, _) = rig.device.queue_mut(0).unwrap();
    queue.stop();
    rig.host.set_room(1);
    rig.run();
    assert_eq!(rig.statuses(&[&waiting]), "o");
    assert_eq!(rig.host.log(), "sync");
}

#[test]
fn a_sync_that_fails_during_a_reset_still_counts() {
    let mut rig = rig(1);
    rig.host.hold();
    rig.send(0, &flush());
    rig.run();
    rig.device.set_status(0);
    rig.host.fail([Fault::Errno(Errno::EIO)]);
    rig.host.release();
    rig.run();
    rig.boot(ALL);
    assert_eq!(rig.do_one(&flush()), S_IOERR);
}

#[test]
fn a_stable_write_that_fails_during_a_reset_still_counts() {
    for (fault, after) in [(Errno::EIO, S_IOERR), (Errno::EINTR, S_OK)] {
        let mut rig = rig(1);
        rig.writeback(0);
        rig.host.hold();
        rig.send(0, &write(0, 1, 1));
        rig.run();
        rig.device.set_status(0);
        rig.host.fail([Fault::Errno(fault)]);
        rig.host.release();
        rig.run();
        rig.boot(ALL);
        assert_eq!(rig.do_one(&flush()), after);
    }
}

#[test]
fn the_end_of_a_stopped_queues_sync_is_heard_by_those_who_waited() {
    for fault in [Fault::None, Fault::Errno(Errno::EINTR)] {
        let mut rig = rig(2);
        rig.host.hold();
        rig.send(0, &flush());
        rig.run();
        let waiting = rig.send(1, &flush());
        rig.run();
        let (queue, _) = rig.device.queue_mut(0).unwrap();
        queue.stop();
        rig.host.log();
        rig.host.fail([fault]);
        rig.host.release();
        rig.run();
        assert_eq!(rig.statuses(&[&waiting]), "o");
        assert_eq!(rig.host.log(), "sync", "one of its own, which began after it");
    }
}

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
    assert!(space[57..].iter().all(|byte| *byte == 0), "what means nothing is zero");
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

#[test]
fn a_clone_shares_nothing_with_its_original() {
    let limits = Limits {
        granule: 1024,
        discard_granularity: 1024,
        write_zeroes_granularity: 1024,
        ..Limits::plain(64 * 512)
    };
    let mut rig = rig_with(2, limits, ALL);
    rig.host.hold();
    rig.send(0, &write(0, 1, 1));
    rig.run();
    let waiting = rig.send(1, &write(1, 2, 1));
    rig.send(1, &flush());
    rig.run();
    let copy = rig.device.clone();
    rig.writeback(0);
    rig.host.release();
    rig.run();
    assert_eq!(rig.statuses(&[&waiting]), "o");
    let original = std::mem::replace(&mut rig.device, copy);
    let mut mode = [9];
    rig.device.config_read(32, &mut mode);
    assert_eq!(mode, [1]);
    let in_flight = |device: &mut Device, queue| device.queue_mut(queue).unwrap().0.in_flight();
    let mut original = original;
    assert_eq!((in_flight(&mut rig.device, 0), in_flight(&mut rig.device, 1)), (1, 2));
    assert_eq!((in_flight(&mut original, 0), in_flight(&mut original, 1)), (0, 0));
}
