//! Unusable standard error. The server serves guests and ends correctly whether or not its lines
//! can be written.

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, Signal, kill_process};

use crate::daemon::{Daemon, LONG, Place};
use crate::front::{Front, GET_FEATURES};
use crate::guest::{Guest, GuestRequest, PIECE, PLAIN};
use crate::limits::fails;

/// A server with redirected output; dropping it kills it.
struct Mute(Child);

impl Mute {
    fn start(mut command: Command, stderr: impl Into<Stdio>) -> Mute {
        Mute(command.stderr(stderr).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < LONG, "it does not end");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        // The server may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a server listens that cannot print so.
fn listens(socket: &Path) {
    let begun = Instant::now();
    while UnixStream::connect(socket).is_err() {
        assert!(begun.elapsed() < LONG, "no server listens");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Uses a server as guests do, with signals that make it print lines; then ends it.
fn serves_and_ends(place: &Place, server: &mut Mute) {
    listens(&place.socket());
    for byte in 1..=3 {
        let mut guest = Guest::connect(&place.socket(), PLAIN, 1).unwrap();
        guest.write(0, 0, byte);
        server.signal(Signal::USR1);
        assert_eq!(guest.run(0, 0, GuestRequest::Flush), 0);
        assert_eq!(guest.read(0, 0), [byte; PIECE]);
        // An invalid message is reported too.
        drop(guest);
        Front::negotiated(&place.socket()).babble(&[0xff; 64]);
    }
    let guest = Guest::connect(&place.socket(), PLAIN, 1).unwrap();
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0));
    assert!(!place.socket().exists(), "its socket is removed");
    drop(guest);
}

/// A pipe of the smallest size.
fn small_pipe() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    fcntl_setpipe_size(&writer, 4096).unwrap();
    (reader, writer)
}

#[test]
fn a_server_whose_standard_error_is_closed_serves_and_ends_well() {
    let place = Place::new(16 * PIECE as u64);
    let serve = place.command(&[]);
    let mut command = Command::new("sh");
    command.args(["-c", r#"exec "$0" "$@" 2>&- >&- <&-"#]).arg(serve.get_program());
    command.args(serve.get_args());
    serves_and_ends(&place, &mut Mute::start(command, Stdio::null()));
}

#[test]
fn a_server_whose_standard_error_is_full_serves_and_ends_well() {
    let place = Place::new(16 * PIECE as u64);
    let full = File::options().write(true).open("/dev/full").unwrap();
    serves_and_ends(&place, &mut Mute::start(place.command(&[]), full));
}

#[test]
fn a_server_whose_standard_error_has_lost_its_reader_serves_and_ends_well() {
    let place = Place::new(16 * PIECE as u64);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut server = Mute::start(place.command(&[]), writer);
    listens(&place.socket());
    // The pipe breaks while a guest is served.
    let mut guest = Guest::connect(&place.socket(), PLAIN, 1).unwrap();
    drop(reader);
    guest.write(0, 0, 9);
    drop(guest);
    serves_and_ends(&place, &mut server);
}

#[test]
fn a_server_whose_standard_error_nobody_reads_serves_and_ends_well() {
    let place = Place::new(16 * PIECE as u64);
    let (reader, writer) = small_pipe();
    let mut server = Mute::start(place.command(&[]), writer);
    listens(&place.socket());
    for _ in 0..300 {
        let mut front = Front::silent(&place.socket());
        front.stream.set_read_timeout(Some(LONG)).unwrap();
        front.ask(GET_FEATURES, &[]).unwrap();
    }
    serves_and_ends(&place, &mut server);
    drop(reader);
}

#[test]
fn what_is_refused_is_refused_with_a_standard_error_of_no_use() {
    let place = Place::new(1000);
    let full = File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(Mute::start(place.command(&[]), full).ended().code(), Some(2));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(Mute::start(place.command(&[]), writer).ended().code(), Some(2));
}

/// An io_uring that worked and cannot be entered any more is a bug of the program or of the host.
/// The first poll of the ring waits for one operation; submission waits for none.
#[test]
fn a_server_that_panics_ends_at_once_and_says_why_if_it_can() {
    let broken = |place: &Place| {
        let mut command = place.command(&[]);
        fails(&mut command, libc::SYS_io_uring_enter, Some((2, 0)), libc::EPERM);
        command
    };
    let panic = |place: &Place| {
        let mut guest = Guest::connect(&place.socket(), PLAIN, 1).unwrap();
        guest.submit(0, 0, GuestRequest::Flush);
        guest.kick(0);
        guest
    };
    let place = Place::new(16 * PIECE as u64);
    let mut child = broken(&place);
    let mut daemon = Daemon::of(child.stderr(Stdio::piped()).spawn().unwrap());
    let first = daemon.line();
    if first.contains("no io_uring") {
        crate::judged::skipped(&first);
        return;
    }
    let guest = panic(&place);
    let said = daemon.until("panicked at");
    assert!(said.contains("the ring cannot be entered"), "in one line: {said}");
    drop((guest, daemon));

    let place = Place::new(16 * PIECE as u64);
    let (reader, writer) = small_pipe();
    let mut server = Mute::start(broken(&place), writer);
    listens(&place.socket());
    for _ in 0..200 {
        Front::silent(&place.socket()).ask(GET_FEATURES, &[]).unwrap();
    }
    let guest = panic(&place);
    assert_eq!(server.ended().signal(), Some(libc::SIGABRT));
    drop((guest, reader));
}

#[test]
fn a_flood_of_front_ends_writes_little_and_hides_nothing_else() {
    let place = Place::new(16 * PIECE as u64);
    let path = place.path().join("log");
    let mut server = Mute::start(place.command(&[]), File::create(&path).unwrap());
    listens(&place.socket());
    const FRONT_ENDS: usize = 5000;
    for _ in 0..FRONT_ENDS {
        drop(UnixStream::connect(place.socket()).unwrap());
    }
    // Once this client is served, all earlier ones were.
    let mut guest = Guest::connect(&place.socket(), PLAIN, 1).unwrap();
    guest.write(0, 0, 1);
    server.signal(Signal::USR1);
    let begun = Instant::now();
    while !fs::read_to_string(&path).unwrap().contains("as large as it was") {
        assert!(begun.elapsed() < LONG, "the answer to a signal is hidden");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    drop(guest);
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0));
    let log = fs::read_to_string(&path).unwrap();
    let mut lines = log.lines();
    assert!(lines.next().unwrap().contains("is served on"), "the first line");
    // Each connection is one of the lines, or is counted as left out.
    let left_out: usize = lines
        .clone()
        .filter_map(|line| line.strip_prefix("powerfail: ")?.strip_suffix(" lines left out"))
        .map(|count| count.parse::<usize>().unwrap())
        .sum();
    let told = lines.filter(|line| line.contains("front-end")).count();
    assert_eq!(told + left_out, 2 * (FRONT_ENDS + 2), "{left_out} left out");
    assert!(left_out > FRONT_ENDS && log.len() < 256 << 10, "{} bytes", log.len());
}

#[test]
fn names_of_any_kind_stay_in_their_line() {
    let place = Place::new(8192);
    let odd = place.path().join("a \u{1b}[2J\npowerfail: all is well");
    fs::rename(place.disk(), &odd).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_powerfail"));
    command.arg("serve").arg("--socket").arg(place.socket()).arg("--file").arg(&odd);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    listens(&place.socket());
    let mut server = Mute(child);
    server.signal(Signal::USR1);
    drop(Guest::connect(&place.socket(), PLAIN, 1).unwrap());
    let begun = Instant::now();
    server.signal(Signal::TERM);
    server.ended();
    assert!(begun.elapsed() < LONG);
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    assert!(said.chars().all(|c| c == '\n' || !c.is_control()), "{said:?}");
    assert!(!said.lines().any(|line| line.starts_with("powerfail: all is well")), "{said}");
    assert!(
        said.contains(r#"a \u{1b}[2J\npowerfail: all is well" (16 sectors) is served on"#),
        "{said}"
    );
}
