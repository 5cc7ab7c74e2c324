//! Cache modes: the view of a queue while another thread changes the mode.
//!
//! A write is promised to be stable if its guest read `writeback` as 0 before sending it and after
//! its answer, so the queue must take it as one that has to be stable. A queue reads the mode once
//! for each write, in between.

use crate::explore::{Reach, explore, sync::Arc, thread};
use powerfail_device::wire::{F_CONFIG_WCE, F_FLUSH, F_VERSION_1};
use powerfail_device::{Config, Limits, Shared, WRITEBACK_OFFSET};

fn shared() -> Arc<Shared> {
    let config = Config { queues: 2, ..Config::default() };
    Arc::new(Shared::new(config, Limits::plain(1 << 16)).unwrap())
}

fn in_mode(writeback: u8) -> Arc<Shared> {
    let shared = shared();
    shared.negotiate(F_VERSION_1 | F_FLUSH | F_CONFIG_WCE).unwrap();
    shared.config_write(WRITEBACK_OFFSET, &[writeback]);
    shared
}

fn writeback(shared: &Shared) -> u8 {
    let mut byte = [0];
    shared.config_read(WRITEBACK_OFFSET, &mut byte);
    byte[0]
}

/// One thread changes the mode from `old`; each of `takers` others takes a write between two reads
/// of the byte.
fn a_change_from(old: u8, takers: usize) {
    let shared = in_mode(old);
    let generation = shared.generation();
    let taker = move |shared: Arc<Shared>| {
        let before = writeback(&shared);
        let stable = shared.write_through();
        let after = writeback(&shared);
        if before == 0 && after == 0 {
            assert!(stable, "a write between two reads of 0 is stable");
        }
    };
    let others: Vec<_> = (0..takers)
        .map(|_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || taker(shared))
        })
        .collect();
    shared.config_write(WRITEBACK_OFFSET, &[1 - old]);
    assert_eq!(shared.write_through(), old == 1, "a write after the change is of the new mode");
    for other in others {
        other.join().unwrap();
    }
    assert_ne!(shared.generation(), generation, "another content is another generation");
}

#[test]
fn a_write_between_two_reads_of_0_is_stable() {
    explore("modes, to write-back", Reach::All, || a_change_from(0, 1));
    explore("modes, to write-back, two queues", Reach::Preemptions(3), || a_change_from(0, 2));
}

#[test]
fn a_write_after_the_guest_saw_0_is_stable() {
    explore("modes, to write-through", Reach::All, || a_change_from(1, 1));
    explore("modes, to write-through, two queues", Reach::Preemptions(3), || a_change_from(1, 2));
}

#[test]
fn whoever_sees_the_features_sees_the_mode_they_make() {
    explore("modes, negotiation", Reach::All, || {
        let shared = shared();
        let queue = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let served = shared.negotiated() != 0;
                // The guest did not accept FLUSH, so it relies on every completed write.
                assert!(!served || shared.write_through(), "features come after their mode");
            })
        };
        shared.negotiate(F_VERSION_1).unwrap();
        queue.join().unwrap();
    });
}
