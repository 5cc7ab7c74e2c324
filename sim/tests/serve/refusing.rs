//! An invalid command is rejected with one line and exit code 2, and changes nothing.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::Command;

use crate::daemon::{Place, refused};
use crate::guest::{Guest, GuestRequest, PIECE, PLAIN};

#[test]
fn a_file_that_is_no_disk() {
    let place = Place::new(1000);
    assert!(refused(place.command(&[])).contains("512-byte sectors"));
    fs::remove_file(place.disk()).unwrap();
    assert!(refused(place.command(&[])).contains("does not exist"));
    assert!(!place.socket().exists() && !place.disk().exists());
}

#[test]
fn a_file_that_is_served_already() {
    let place = Place::new(8192);
    let other = place.path().join("other.sock");
    let _daemon = place.serve(&[]);
    for more in [&[][..], &["--readonly"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_powerfail"));
        command.arg("serve").arg("--socket").arg(&other).arg("--file").arg(place.disk());
        command.args(more);
        assert!(refused(command).contains("another server has it open"));
    }
    assert!(!other.exists());
}

#[test]
fn a_socket_that_is_taken() {
    let place = Place::new(8192);
    let mut daemon = place.serve(&[]);
    let spare = place.path().join("spare.img");
    let mut command = Command::new(env!("CARGO_BIN_EXE_powerfail"));
    command.arg("serve").arg("--socket").arg(place.socket());
    command.arg("--file").arg(&spare).args(["--create", "1M"]);
    assert!(refused(command).contains("blk.sock is in use by another server"));
    assert!(!spare.exists(), "no file was made");
    daemon.until("is gone");
    let mut guest = Guest::connect(&place.socket(), PLAIN, 1).unwrap();
    guest.write(0, 0, 1);
}

#[test]
fn a_socket_that_is_something_else() {
    let place = Place::new(8192);
    fs::write(place.socket(), "precious").unwrap();
    assert!(refused(place.command(&[])).contains("is not a socket"));
    assert_eq!(fs::read_to_string(place.socket()).unwrap(), "precious");
}

#[test]
fn a_socket_that_nobody_listens_on_is_replaced() {
    let place = Place::new(8192);
    drop(UnixListener::bind(place.socket()).unwrap());
    assert!(place.socket().exists(), "a dead server leaves it behind");
    let _daemon = place.serve(&[]);
    Guest::connect(&place.socket(), PLAIN, 1).unwrap().write(0, 0, 1);
}

#[test]
fn a_file_to_make_that_is_there() {
    let place = Place::new(8192);
    fs::write(place.disk(), [7; 512]).unwrap();
    assert!(refused(place.command(&["--create", "64M"])).contains("exists already"));
    assert_eq!(fs::read(place.disk()).unwrap(), [7; 512]);
    fs::remove_file(place.disk()).unwrap();
    let daemon = place.serve(&["--create", "64M"]);
    assert_eq!(fs::metadata(place.disk()).unwrap().len(), 64 << 20);
    let guest = Guest::connect(&place.socket(), PLAIN, 1).unwrap();
    assert_eq!(u64::from(guest.config().capacity), (64 << 20) / 512);
    drop(daemon);
}

#[test]
fn a_socket_that_cannot_be_bound_leaves_no_file_behind() {
    let place = Place::new(512);
    fs::remove_file(place.disk()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_powerfail"));
    command.arg("serve").arg("--socket").arg(place.path().join("missing/blk.sock"));
    command.arg("--file").arg(place.disk()).args(["--create", "1M"]);
    refused(command);
    assert!(!place.disk().exists());
}

#[test]
fn readers_share_a_file_and_write_nothing() {
    let place = Place::new(8192);
    let _daemon = place.serve(&["--readonly"]);
    let mut guest = Guest::connect(&place.socket(), PLAIN, 1).unwrap();
    assert_eq!(guest.features() & 1 << 5, 1 << 5, "RO is offered");
    assert!(guest.run(0, 0, GuestRequest::Write(0)) < 0, "a write is an error");
    assert_eq!(guest.read(0, 0), [0; PIECE]);
    let mut other = place.command(&["--readonly"]);
    other.arg("--serial").arg("a serial of more than twenty bytes");
    let output = other.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_cache_mode_is_what_was_asked_for() {
    for (mode, byte) in [("writeback", 1), ("writethrough", 0)] {
        let place = Place::new(8192);
        let _daemon = place.serve(&["--cache", mode, "--queues", "3"]);
        let guest = Guest::connect(&place.socket(), PLAIN, 3).unwrap();
        let config = guest.config();
        assert_eq!((config.writeback, u16::from(config.num_queues)), (byte, 3));
    }
}
