//! Front-ends that pass their own end of the connection to the server: the server still notices
//! that they are gone.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::protocol::{
    End, GET_CONFIG, GET_FEATURES, SET_BACKEND_REQ_FD, SET_VRING_CALL, VERSION, config, message,
    words,
};
use super::right;
use crate::daemon::Place;

/// Connects, calls `what` and disconnects; then a correct client is served.
fn is_gone_after(what: impl Fn(&mut End, &UnixStream)) {
    let place = Place::new(1 << 20);
    let _daemon = place.serve(&[]);
    let connect = || UnixStream::connect(place.socket()).unwrap();
    let stream = connect();
    let mut end = End::new(stream.try_clone().unwrap());
    what(&mut end, &stream);
    drop((end, stream));
    right::client(connect(), 1).unwrap();
}

#[test]
fn as_the_channel_on_which_the_server_is_to_speak() {
    is_gone_after(|end, own| {
        end.send(&message(SET_BACKEND_REQ_FD, VERSION, &[]), &[own.as_fd()]);
    });
}

#[test]
fn in_the_queue_of_the_channel() {
    is_gone_after(|end, own| {
        let (to, channel) = UnixStream::pair().unwrap();
        End::new(to).send(&[1], &[own.as_fd()]);
        end.send(&message(SET_BACKEND_REQ_FD, VERSION, &[]), &[channel.as_fd()]);
    });
}

#[test]
fn with_half_a_message() {
    for len in [1, 11, 12, 13] {
        is_gone_after(|end, own| {
            let message = message(SET_VRING_CALL, VERSION, &words(&[0]));
            end.send(&message[..len], &[own.as_fd()]);
        });
    }
}

#[test]
fn behind_answers_that_are_not_read() {
    is_gone_after(|end, own| {
        let mut bytes = Vec::new();
        for _ in 0..500 {
            bytes.extend(message(GET_CONFIG, VERSION, &config(0, &[0; 60])));
        }
        end.send(&bytes, &[]);
        end.send(&message(GET_FEATURES, VERSION, &[]), &[own.as_fd()]);
    });
}
