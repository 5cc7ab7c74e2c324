//! Effect of a failed request on later requests of any front-end: none, unless a sync failed.

use powerfail::base::sectors::SectorSet;
use powerfail_device::Errno;

use crate::daemon::Place;
use crate::front::{DATA, Front, MEMORY, SET_CONFIG};
use crate::guest::{Guest, GuestRequest, PIECE, PLAIN};
use crate::lives::mount_over;

const THROUGH: [&str; 2] = ["--cache", "writethrough"];

/// Checks that the next front-end can write through and flush.
fn next_is_served(place: &Place) {
    let mut guest = Guest::connect(&place.socket(), PLAIN, 1).unwrap();
    guest.write(0, 0, 3);
    assert_eq!(guest.run(0, 0, GuestRequest::Flush), 0, "nothing was lost that it could miss");
}

/// Checks that a write-through write fails, and only it, after `harm` has changed its memory.
fn fails_alone(data: u64, harm: impl Fn(&Front)) {
    let place = Place::new(64 * PIECE as u64);
    let mut daemon = place.serve(&[]);
    let mut front = Front::ready(&place.socket());
    let writeback_off = [32_u32.to_le_bytes(), 1_u32.to_le_bytes(), [0; 4]].concat();
    front.tell(SET_CONFIG, &[&writeback_off[..], &[0]].concat(), &[]).unwrap();
    front.publish(0, 1, data);
    harm(&front);
    front.finish();
    assert_eq!(front.status(0), 1, "IOERR");
    drop(front);
    daemon.until("is gone");
    next_is_served(&place);
}

#[test]
fn a_write_of_memory_that_was_taken_away_fails_alone() {
    fails_alone(DATA, |front| front.memory.set_len(DATA).unwrap());
}

#[test]
fn a_write_of_memory_that_was_never_shared_fails_alone() {
    fails_alone(MEMORY + 0x1000, |_| {});
}

#[test]
fn a_write_that_the_host_refuses_fails_alone() {
    let place = Place::new(0);
    let Some(mount) = mount_over(&place) else { return };
    mount.power().fill(&[0; 64 * 512]);
    let _daemon = place.serve(&THROUGH);
    for errno in [Errno::ENOSPC, Errno::EDQUOT, Errno::EFBIG, Errno::EIO] {
        let mut guest = Guest::connect(&place.socket(), PLAIN, 1).unwrap();
        mount.power().refuse_next_write(errno);
        assert_ne!(guest.run(0, 0, GuestRequest::Write(0)), 0, "{errno:?}");
        assert_eq!(guest.run(0, 0, GuestRequest::Write(0)), 0, "{errno:?}: there is room again");
        assert_eq!(guest.run(0, 0, GuestRequest::Flush), 0, "{errno:?}");
        drop(guest);
        next_is_served(&place);
    }
}

#[test]
fn a_sync_that_fails_is_told_to_every_later_front_end() {
    for errno in [Errno::ENOSPC, Errno::EDQUOT, Errno::EIO] {
        let place = Place::new(0);
        let Some(mount) = mount_over(&place) else { return };
        mount.power().fill(&[0; 64 * 512]);
        let _daemon = place.serve(&THROUGH);
        let mut guest = Guest::connect(&place.socket(), PLAIN, 1).unwrap();
        guest.write(0, 0, 1);
        mount.power().fail_next_sync(errno, SectorSet::range(0, 64));
        assert_ne!(
            guest.run(0, 0, GuestRequest::Write(0)),
            0,
            "{errno:?}: it is written and not stable"
        );
        drop(guest);
        let mut guest = Guest::connect(&place.socket(), PLAIN, 1).unwrap();
        assert_ne!(guest.run(0, 0, GuestRequest::Flush), 0, "{errno:?}");
        assert_ne!(guest.run(0, 0, GuestRequest::Write(0)), 0, "{errno:?}");
        assert_eq!(guest.run(0, 0, GuestRequest::Read(0)), 0, "{errno:?}");
    }
}
