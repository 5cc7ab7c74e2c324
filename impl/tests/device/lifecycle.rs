//! Pause, save, restore, resize, and the reset of one queue.

use crate::support::guest::{flush, read, write, zeroes};
use crate::support::host::Fault;
use crate::support::{ALL, Rig, layout, rig};
use powerfail_device::RegisterSurface;
use powerfail_device::wire::*;
use powerfail_device::{
    Config, Device, DeviceState, Errno, Limits, QueueError, QueueLayout, ResizeError, RestoreError,
    SaveError,
};

fn config(queues: u16) -> Config {
    let usual = Config::default();
    Config { queues, queue_size: 16, features: usual.features | F_RING_RESET, ..usual }
}

/// A rig whose queues can be reset one by one.
fn ring_reset_rig(queues: u16) -> Rig {
    let mut rig = Rig::new(config(queues), Limits::plain(64 * 512));
    rig.boot(ALL | F_RING_RESET);
    rig
}

/// Pauses, drains and saves; then another process continues.
fn move_on(rig: &mut Rig, config: Config) -> Result<(), SaveError> {
    rig.device.pause();
    rig.run();
    rig.device.begin_save()?;
    rig.run();
    let saved = rig.device.save()?;
    let bytes = saved.to_bytes();
    let saved = DeviceState::from_bytes(&bytes).expect("the state reads back");
    rig.device = Device::restore(config, Limits::plain(64 * 512), &saved).expect("as it was");
    Ok(())
}

#[test]
fn a_paused_device_ends_what_it_took_and_takes_nothing_more() {
    let mut rig = rig(1);
    rig.host.hold();
    let taken = rig.send(0, &write(1, 7, 1));
    rig.run();
    rig.device.pause();
    let later = rig.send(0, &write(2, 8, 1));
    rig.run();
    assert!(!rig.device.is_drained());
    assert_eq!(rig.device.begin_save(), Err(SaveError::Busy));
    rig.host.release();
    rig.run();
    assert!(rig.device.is_drained());
    assert_eq!(rig.statuses(&[&taken, &later]), "o?");
    rig.device.resume();
    rig.run();
    assert_eq!(rig.statuses(&[&taken, &later]), "oo", "the kick was remembered");
}

#[test]
fn a_save_syncs_what_its_driver_was_told_is_complete() {
    let mut rig = rig(1);
    assert_eq!(rig.device.begin_save(), Err(SaveError::NotPaused));
    rig.send(0, &write(1, 7, 1));
    rig.run();
    rig.device.pause();
    assert_eq!(rig.device.save(), Err(SaveError::NotSynced));
    rig.host.log();
    rig.host.hold();
    rig.device.begin_save().expect("it is drained");
    rig.run();
    assert_eq!(rig.host.log(), "sync");
    assert_eq!(rig.device.save(), Err(SaveError::Busy), "the sync goes on");
    rig.host.release();
    rig.run();
    assert!(rig.device.save().is_ok());
    rig.device.resume();
    rig.device.pause();
    assert_eq!(rig.device.save(), Err(SaveError::NotSynced), "each pause syncs anew");
}

#[test]
fn a_save_that_cannot_sync_fails_and_its_state_says_so() {
    let mut rig = rig(1);
    rig.send(0, &write(1, 7, 1));
    rig.run();
    rig.device.pause();
    rig.device.begin_save().expect("it is drained");
    rig.host.fail([Fault::Errno(Errno::EIO)]);
    rig.run();
    let Err(SaveError::NotStable(state)) = rig.device.save() else { panic!("it is not stable") };
    assert!(state.failed);
    let mut again = Device::restore(
        Config { queue_size: 16, ..Config::default() },
        Limits::plain(64 * 512),
        &state,
    )
    .expect("a device that has failed");
    std::mem::swap(&mut rig.device, &mut again);
    rig.guests[0].reap(&rig.memory);
    assert_eq!(rig.do_one(&flush()), S_IOERR, "it has not forgotten");
}

#[test]
fn a_save_at_every_moment_goes_on_as_if_there_had_been_none() {
    for moment in 0..60 {
        let mut rig = ring_reset_rig(2);
        rig.writeback((moment % 2) as u8);
        let mut sent = Vec::new();
        for request in [write(1, 3, 4), read(0, 2), flush(), zeroes(2, 9)] {
            sent.push(rig.send(0, &request));
            sent.push(rig.send(1, &request));
        }
        for turn in 0..moment {
            rig.step(turn % 2);
        }
        rig.device.pause();
        // A kick while the device is paused must not be lost.
        sent.push(rig.send(1, &write(20, 5, 1)));
        move_on(&mut rig, config(2)).expect("a host that does not fail");
        let before = rig.signals.clone();
        rig.run();
        assert!(rig.signals.iter().zip(before).all(|(now, then)| *now > then));
        assert_eq!(rig.statuses(&sent.iter().collect::<Vec<_>>()), "ooooooooo", "{moment}");
        let used: usize = (0..2).map(|queue| rig.guests[queue].reap(&rig.memory).len()).sum();
        assert_eq!(used, 9, "each once, after {moment} steps");
        let mut mode = [0];
        rig.device.config_read(32, &mut mode);
        assert_eq!(mode, [(moment % 2) as u8]);
    }
}

#[test]
fn a_device_that_is_not_live_can_be_saved_and_syncs_all_the_same() {
    let mut rig = rig(1);
    rig.send(0, &write(1, 7, 1));
    rig.run();
    rig.device.set_status(0);
    assert_eq!(rig.device.status(), 0);
    rig.host.log();
    move_on(&mut rig, Config { queue_size: 16, ..Config::default() }).expect("nothing fails");
    assert_eq!(rig.host.log(), "sync");
    rig.boot(ALL);
    assert_eq!(rig.do_one(&read(1, 1)), S_OK);
}

#[test]
fn a_reset_while_paused_ends_and_the_next_life_waits_for_the_resume() {
    let mut rig = rig(1);
    rig.host.hold();
    rig.send(0, &write(1, 7, 1));
    rig.run();
    rig.device.pause();
    rig.device.set_status(0);
    rig.host.release();
    rig.run();
    assert_eq!(rig.device.status(), 0);
    rig.boot(ALL);
    let waits = rig.send(0, &write(1, 7, 1));
    rig.run();
    assert_eq!(rig.statuses(&[&waits]), "?");
    rig.device.resume();
    rig.run();
    assert_eq!(rig.statuses(&[&waits]), "o");
}

#[test]
fn a_state_that_no_device_can_be_in_is_refused() {
    let mut rig = rig(1);
    rig.device.pause();
    rig.device.begin_save().expect("it is drained");
    rig.run();
    let good = rig.device.save().expect("nothing fails");
    let usual = Config { queue_size: 16, ..Config::default() };
    let restore = |change: &dyn Fn(&mut DeviceState)| {
        let mut state = good.clone();
        change(&mut state);
        Device::restore(usual.clone(), Limits::plain(64 * 512), &state).map(|_| ())
    };
    assert_eq!(restore(&|_| {}), Ok(()));
    assert_eq!(restore(&|s| s.offered |= F_RING_RESET), Err(RestoreError::Offer(F_RING_RESET)));
    assert_eq!(restore(&|s| s.queues.clear()), Err(RestoreError::Queues(0)));
    assert_eq!(restore(&|s| s.max_queue_size = 8), Err(RestoreError::QueueSize(8)));
    assert_eq!(restore(&|s| s.capacity += 512), Err(RestoreError::Capacity(65 * 512)));
    assert_eq!(restore(&|s| s.capacity -= 1), Err(RestoreError::Capacity(64 * 512 - 1)));
    assert_eq!(restore(&|s| s.status = 4), Err(RestoreError::Invalid("device status")));
    assert_eq!(restore(&|s| s.status = 3), Err(RestoreError::Invalid("negotiation")));
    assert_eq!(restore(&|s| s.negotiated = 1), Err(RestoreError::Invalid("negotiation")));
    let misplaced = restore(&|s| s.queues[0].used = 2);
    assert_eq!(misplaced, Err(RestoreError::Queue(QueueError::Address(2))));
}

#[test]
fn a_queue_is_reset_alone_and_placed_anew() {
    let mut rig = ring_reset_rig(2);
    rig.host.hold();
    let ended = rig.send(0, &write(1, 7, 1));
    let other = rig.send(1, &write(2, 8, 1));
    rig.run();
    rig.device.reset_queue(0).expect("it is live");
    assert!(rig.device.is_queue_resetting(0));
    assert_eq!(rig.device.set_queue(0, layout(0, 8)), Err(QueueError::NotNow));
    rig.host.release();
    rig.run();
    assert!(!rig.device.is_queue_resetting(0));
    assert!(rig.device.queue_mut(0).is_none(), "it is not placed");
    assert_eq!(rig.statuses(&[&ended, &other]), "?o");
    assert_eq!(rig.signals, [0, 1]);
    let smaller = QueueLayout { size: 8, ..layout(4, 16) };
    rig.guests[0] = crate::support::guest::Guest::new(&rig.memory, smaller, true);
    rig.device.set_queue(0, smaller).expect("another place and size");
    assert_eq!(rig.device.set_queue(0, smaller), Err(QueueError::NotNow), "once");
    assert_eq!(rig.do_one(&read(1, 1)), S_OK);
    let (_, ring) = rig.device.queue_mut(0).expect("it is live again");
    assert!(ring.event_idx() && ring.size() == 8);
}

#[test]
fn queues_are_reset_only_where_that_was_negotiated() {
    let mut rig = Rig::new(config(1), Limits::plain(64 * 512));
    rig.boot(ALL);
    assert_eq!(rig.device.reset_queue(0), Err(QueueError::NotNow));
    assert_eq!(Config::default().features & F_RING_RESET, 0, "nor offered unasked");
}

#[test]
fn a_resize_is_shown_signalled_and_served() {
    let mut rig = Rig::new(config(1), Limits::plain(64 * 512));
    rig.boot(ALL);
    let beyond = write(64, 1, 1);
    assert_eq!(rig.do_one(&beyond), S_IOERR);
    let generation = rig.device.config_generation();
    assert_eq!(rig.device.resize(63 * 512), Err(ResizeError::Shrinks(64 * 512)));
    assert_eq!(rig.device.resize(64 * 512 + 1), Err(ResizeError::Unaligned(512)));
    rig.device.resize(64 * 512).expect("as it is");
    assert!(!rig.device.take_config_signal());
    assert_eq!(rig.device.config_generation(), generation);
    rig.host.grow(80 * 512);
    rig.device.resize(80 * 512).expect("the disk has grown");
    assert!(rig.device.take_config_signal());
    assert_ne!(rig.device.config_generation(), generation);
    let mut sectors = [0; 8];
    rig.device.config_read(0, &mut sectors);
    assert_eq!(u64::from_le_bytes(sectors), 80);
    assert_eq!(rig.do_one(&beyond), S_OK);
    assert_eq!(rig.do_one(&write(80, 1, 1)), S_IOERR);
}

#[test]
fn a_queue_that_is_reset_leaves_its_sync_to_another_queue() {
    let mut rig = ring_reset_rig(2);
    rig.host.set_room(0);
    rig.send(0, &flush());
    rig.run();
    let waiting = rig.send(1, &flush());
    rig.run();
    rig.device.reset_queue(0).expect("it is live");
    rig.host.set_room(1);
    rig.run();
    assert!(!rig.device.is_queue_resetting(0));
    assert_eq!(rig.statuses(&[&waiting]), "o");
}

#[test]
fn a_save_that_was_given_up_leaves_nobody_waiting() {
    for reset_first in [false, true] {
        let mut rig = ring_reset_rig(2);
        rig.host.set_room(0);
        rig.device.pause();
        if reset_first {
            rig.device.reset_queue(0).expect("it is live");
            assert!(!rig.device.is_queue_resetting(0));
        }
        rig.device.begin_save().expect("it is drained");
        rig.run();
        rig.device.resume();
        let waiting = rig.send(1, &flush());
        rig.run();
        if !reset_first {
            rig.device.reset_queue(0).expect("it is live");
        }
        rig.host.set_room(1);
        rig.run();
        assert_eq!(rig.statuses(&[&waiting]), "o");
    }
}
