//! Call descriptors of front-ends: eventfds that block or not, and the pipes and sockets of User
//! Mode Linux.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{EventfdFlags, eventfd};

use crate::daemon::Place;
use crate::front::{DATA, Front, SET_VRING_CALL, words};

#[test]
fn a_call_may_be_an_eventfd_a_pipe_or_a_socket() {
    let place = Place::new(64 * 512);
    let _daemon = place.serve(&[]);
    let event = |flags| {
        let event = eventfd(0, flags).unwrap();
        (event.try_clone().unwrap(), event)
    };
    let (pipe, writer) = std::io::pipe().unwrap();
    let (ours, socket) = UnixStream::pair().unwrap();
    let pairs: [(OwnedFd, OwnedFd); 4] = [
        event(EventfdFlags::NONBLOCK),
        event(EventfdFlags::empty()),
        (pipe.into(), writer.into()),
        (ours.into(), socket.into()),
    ];
    for (hears, called) in pairs {
        let mut front = Front::ready(&place.socket());
        front.tell(SET_VRING_CALL, &words(&[0]), &[called.as_fd()]).unwrap();
        front.call = hears;
        for sector in 0..3 {
            front.publish(sector, 1, DATA);
            front.finish();
        }
    }
}

#[test]
fn a_call_that_blocks_goes_on_blocking() {
    let place = Place::new(64 * 512);
    let _daemon = place.serve(&[]);
    let mut front = Front::ready(&place.socket());
    let call = eventfd(0, EventfdFlags::empty()).unwrap();
    front.tell(SET_VRING_CALL, &words(&[0]), &[call.as_fd()]).unwrap();
    let flags = rustix::fs::fcntl_getfl(&call).unwrap();
    assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK), "a front-end may read it and sleep");
}
