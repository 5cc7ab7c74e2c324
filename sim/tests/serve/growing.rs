//! A disk that grows under a guest.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::Signal;

use crate::daemon::{Daemon, Place};
use crate::front::{DATA, Front, GET_CONFIG, SET_BACKEND_REQ_FD};

const OK: u8 = 0;
const IOERR: u8 = 1;

fn resize(place: &Place, sectors: u64) {
    OpenOptions::new().write(true).open(place.disk()).unwrap().set_len(sectors * 512).unwrap();
}

fn look(daemon: &mut Daemon) -> String {
    daemon.signal(Signal::USR1);
    daemon.until("sectors now")
}

fn capacity(front: &mut Front) -> u64 {
    let mut body = [0_u32, 8, 0].map(u32::to_le_bytes).concat();
    body.extend([0xee; 8]);
    let answer = front.ask(GET_CONFIG, &body).unwrap();
    u64::from_le_bytes(*answer.last_chunk().unwrap())
}

/// A front-end that receives configuration changes, and its end of the channel.
fn listening(place: &Place) -> (Front, UnixStream) {
    let mut front = Front::ready(&place.socket());
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    front.tell(SET_BACKEND_REQ_FD, &[], &[theirs.as_fd()]).unwrap();
    (front, ours)
}

#[test]
fn a_guest_is_told_and_has_the_new_sectors_at_once() {
    let place = Place::new(64 * 512);
    let mut daemon = place.serve(&[]);
    let (mut front, mut channel) = listening(&place);
    for n in 0..20_u16 {
        let old = 64 + u64::from(n);
        front.publish(old, 1, DATA);
        front.finish();
        assert_eq!(front.status(2 * n), IOERR, "it is not there yet");
        // Half a sector does not count.
        let file = OpenOptions::new().write(true).open(place.disk()).unwrap();
        file.set_len((old + 1) * 512 + 256).unwrap();
        assert!(look(&mut daemon).contains(&format!("has {} sectors now", old + 1)));
        let mut message = [0; 12];
        channel.read_exact(&mut message).unwrap();
        assert_eq!(message, *[2_u32, 1, 0].map(u32::to_ne_bytes).as_flattened());
        assert_eq!(capacity(&mut front), old + 1);
        front.publish(old, 7, DATA);
        front.finish();
        assert_eq!(front.status(2 * n + 1), OK);
    }
    let image = std::fs::read(place.disk()).unwrap();
    assert!(image[64 * 512..84 * 512].iter().all(|byte| *byte == 7));
}

#[test]
fn a_guest_that_cannot_be_told_has_them_too() {
    let place = Place::new(64 * 512);
    let mut daemon = place.serve(&[]);
    // The front-end passed no channel, passed one and closed it, or passed an invalid one.
    let mut front = Front::ready(&place.socket());
    resize(&place, 65);
    assert!(!look(&mut daemon).contains("could not be notified"));
    assert_eq!(capacity(&mut front), 65);
    drop(front);
    let (mut front, channel) = listening(&place);
    drop(channel);
    resize(&place, 66);
    assert!(look(&mut daemon).contains("could not be notified"));
    assert_eq!(capacity(&mut front), 66);
    let file = front.memory.try_clone().unwrap();
    assert!(front.tell(SET_BACKEND_REQ_FD, &[], &[file.as_fd()]).is_err());
    daemon.until("SET_BACKEND_REQ_FD: a channel must be a local socket");
}

#[test]
fn a_file_that_shrinks_stays_as_large_as_it_was_shown() {
    let place = Place::new(64 * 512);
    let mut daemon = place.serve(&[]);
    let mut front = Front::ready(&place.socket());
    resize(&place, 32);
    daemon.signal(Signal::USR1);
    daemon.until("as large as it was");
    assert_eq!(capacity(&mut front), 64);
    front.publish(0, 3, DATA);
    front.finish();
    assert_eq!(front.status(0), OK);
}
