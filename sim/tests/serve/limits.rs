//! A host at its limits: descriptors, memory, file sizes, system calls. The server continues as
//! soon as it can.

use std::fs;
use std::io::{self, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit, setrlimit};

use crate::daemon::{Daemon, Place, refused};
use crate::front::{Front, GET_FEATURES};
use crate::guest::{Guest, GuestRequest, PIECE, PLAIN};

const EACH: u64 = PIECE as u64;

/// Makes a system call of the command fail with this errno: always, or if the argument with this
/// index has this value.
pub(crate) fn fails(
    command: &mut Command,
    call: libc::c_long,
    argument: Option<(u32, u32)>,
    errno: i32,
) {
    let filter = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let (load, is, end) = (
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    );
    // The number of the call is at offset 0, and the lower halves of its arguments at 16, 24 and so
    // on.
    let mut program = vec![filter(load, 0, 0, 0)];
    if let Some((index, value)) = argument {
        program.extend([
            filter(is, 0, 3, call as u32),
            filter(load, 0, 0, 16 + 8 * index),
            filter(is, 0, 1, value),
        ]);
    } else {
        program.push(filter(is, 0, 1, call as u32));
    }
    program.push(filter(end, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32));
    program.push(filter(end, 0, 0, libc::SECCOMP_RET_ALLOW));
    let install = move || {
        let program =
            libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        // SAFETY: the call takes numbers, and changes only the privileges that this process may
        // gain later.
        let unprivileged = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        // SAFETY: the program is valid for the call, which copies it.
        let filtered = unsafe {
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
        };
        if unprivileged == 0 && filtered == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec it makes two system calls, and nothing else.
    unsafe { command.pre_exec(install) };
}

/// Lowers a limit of the command.
fn limited(command: &mut Command, resource: Resource, most: u64) {
    let limit = move || {
        let limit = Rlimit { current: Some(most), ..getrlimit(resource) };
        Ok(setrlimit(resource, limit)?)
    };
    // SAFETY: between fork and exec it makes two system calls, and nothing else.
    unsafe { command.pre_exec(limit) };
}

/// Allows a running server only this many more descriptors; `None` restores the limit.
fn spare_descriptors(daemon: &Daemon, spare: Option<usize>) {
    let all = getrlimit(Resource::Nofile);
    let open: Vec<u64> = fs::read_dir(format!("/proc/{}/fd", daemon.id()))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap().parse().unwrap())
        .collect();
    let free = |spare| (0..).filter(|number| !open.contains(number)).nth(spare).unwrap();
    let current = spare.map_or(all.current, |spare| Some(free(spare)));
    let limit = Rlimit { current, maximum: all.maximum };
    prlimit(Pid::from_raw(daemon.id() as i32), Resource::Nofile, limit).unwrap();
}

#[test]
fn a_server_without_descriptors_waits_for_them() {
    // With no descriptor it cannot accept, and with one it cannot serve the accepted client.
    for spare in 0..=1 {
        let place = Place::new(16 * EACH);
        let mut daemon = place.serve(&[]);
        let mut guest = Guest::connect(&place.socket(), PLAIN, 1).unwrap();
        guest.write(0, 0, 7);
        drop(guest);
        daemon.until("is gone");
        spare_descriptors(&daemon, Some(spare));
        let mut waiting = UnixStream::connect(place.socket()).unwrap();
        let said = daemon.until("cannot be accepted");
        assert!(said.contains("Too many open files"), "{said}");
        if spare > 0 {
            assert_eq!(waiting.read(&mut [0]).unwrap(), 0, "it is hung up on");
        }
        spare_descriptors(&daemon, None);
        if spare == 0 {
            // The waiting client is served.
            let mut front = Front::over(waiting);
            front.ask(GET_FEATURES, &[]).unwrap();
        }
        assert_eq!(Guest::connect(&place.socket(), PLAIN, 1).unwrap().read(0, 0), [7; PIECE]);
        let (status, said) = daemon.end(Signal::TERM);
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(!place.socket().exists());
    }
}

#[test]
fn a_front_end_that_there_are_too_few_descriptors_for_is_hung_up_on() {
    let place = Place::new(16 * EACH);
    let daemon = place.serve(&["--queues", "2"]);
    let mut served = [0, 0];
    for spare in 2..16 {
        spare_descriptors(&daemon, Some(spare));
        // A client that is not served sees the end of the connection instead of waiting.
        let done = Guest::connect(&place.socket(), PLAIN, 2).map(|mut guest| {
            guest.submit(1, 0, GuestRequest::Flush);
            guest.kick(1);
            guest.wait(1)
        });
        served[usize::from(matches!(done, Ok(Ok(_))))] += 1;
        spare_descriptors(&daemon, None);
        let mut guest = Guest::connect(&place.socket(), PLAIN, 2).unwrap();
        guest.write(1, 0, spare as u8);
        assert_eq!(guest.read(0, 0), [spare as u8; PIECE], "the next one is served");
    }
    assert!(served.into_iter().all(|times| times > 0), "{served:?}");
    assert_eq!(daemon.end(Signal::TERM).0.code(), Some(0));
}

#[test]
fn no_refusal_of_the_host_to_accept_ends_a_server() {
    let lasting =
        [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS, libc::EPERM, libc::EPROTO];
    let passing = [libc::EAGAIN, libc::EINTR, libc::ECONNABORTED];
    for errno in lasting.into_iter().chain(passing) {
        let place = Place::new(16 * EACH);
        let mut command = place.command(&[]);
        fails(&mut command, libc::SYS_accept4, None, errno);
        let mut daemon = Daemon::start(command);
        let mut front = Front::silent(&place.socket());
        if lasting.contains(&errno) {
            let said = daemon.until("cannot be accepted");
            assert!(said.contains(&io::Error::from_raw_os_error(errno).to_string()), "{said}");
        }
        // Long enough for a few retries.
        front.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let heard = front.stream.read(&mut [0]).map_err(|error| error.kind());
        assert_eq!(heard, Err(io::ErrorKind::WouldBlock), "errno {errno}: it waits");
        let (status, said) = daemon.end(Signal::TERM);
        assert_eq!(status.code(), Some(0), "errno {errno}: {said}");
        assert_eq!(said, "", "errno {errno}: it is reported once");
        assert!(!place.socket().exists());
    }
}

#[test]
fn a_limit_of_the_size_of_files_is_an_error_of_the_request() {
    const LIMIT: u64 = 16 * EACH;
    for more in [&[][..], &["--direct"], &["--queues", "2"]] {
        let place = Place::holding(&[0; 32 * PIECE]);
        let mut command = place.command(more);
        limited(&mut command, Resource::Fsize, LIMIT);
        let daemon = Daemon::start(command);
        let mut guest = Guest::connect(&place.socket(), PLAIN, 1).unwrap();
        guest.write(0, LIMIT - EACH, 1);
        for beyond in [LIMIT, LIMIT + 4 * EACH] {
            assert_eq!(guest.run(0, 0, GuestRequest::Write(beyond)), -libc::EIO, "{more:?}");
        }
        assert_eq!(guest.read(0, LIMIT), [0; PIECE]);
        guest.write(0, 0, 2);
        drop(guest);
        let (status, said) = daemon.end(Signal::TERM);
        assert_eq!(status.code(), Some(0), "{said}");
        let image = fs::read(place.disk()).unwrap();
        assert_eq!((image[0], image[15 * PIECE], image[16 * PIECE]), (2, 1, 0));
    }
}

#[test]
fn a_file_to_make_beyond_the_limit_is_refused_and_removed() {
    let place = Place::new(0);
    fs::remove_file(place.disk()).unwrap();
    let mut command = place.command(&["--create", "8M"]);
    limited(&mut command, Resource::Fsize, 4 << 20);
    let said = refused(command);
    assert!(said.contains("8388608 bytes") && said.contains("File too large"), "{said}");
    assert_eq!(place.names(), [""; 0], "nothing is left");
}

/// Starts the command without the descriptors that other tests have open, so that it gives its own
/// the same numbers each time.
fn inherits_nothing(command: &mut Command) {
    let close = || {
        let flags = libc::CLOSE_RANGE_CLOEXEC as libc::c_int;
        // SAFETY: the call takes numbers, and only marks descriptors to be closed by exec.
        let marked = unsafe { libc::close_range(3, libc::c_uint::MAX, flags) };
        if marked == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: between fork and exec it makes one system call, and nothing else.
    unsafe { command.pre_exec(close) };
}

/// The descriptor number of the failing sync shows which syncs are made.
#[test]
fn a_file_to_make_is_stable_with_its_name() {
    let mut syncs = 0;
    for descriptor in 3..32 {
        let place = Place::new(0);
        fs::remove_file(place.disk()).unwrap();
        let mut command = place.command(&["--create", "1M"]);
        inherits_nothing(&mut command);
        fails(&mut command, libc::SYS_fsync, Some((0, descriptor)), libc::EIO);
        command.stderr(Stdio::piped());
        let mut daemon = Daemon::of(command.spawn().unwrap());
        let said = daemon.line();
        if said.contains("is served on") {
            assert_eq!(daemon.end(Signal::TERM).0.code(), Some(0));
            continue;
        }
        assert!(said.contains("cannot sync the new"), "{said}");
        assert_eq!(daemon.ended().0.code(), Some(2));
        assert_eq!(place.names(), [""; 0], "nothing is left");
        syncs += 1;
    }
    assert_eq!(syncs, 2, "of the file, and of the folder that has its name");
}

#[test]
fn a_server_removes_only_its_own_socket() {
    let place = Place::new(8192);
    let daemon = place.serve(&[]);
    fs::remove_file(place.socket()).unwrap();
    fs::write(place.socket(), "precious").unwrap();
    assert_eq!(daemon.end(Signal::TERM).0.code(), Some(0));
    assert_eq!(fs::read_to_string(place.socket()).unwrap(), "precious");

    fs::remove_file(place.socket()).unwrap();
    let daemon = place.serve(&[]);
    fs::remove_file(place.socket()).unwrap();
    let _other = UnixListener::bind(place.socket()).unwrap();
    assert_eq!(daemon.end(Signal::TERM).0.code(), Some(0));
    UnixStream::connect(place.socket()).expect("the other one is still there");
}

/// A filter may reject any of the three calls of an io_uring: the server then serves without one.
#[test]
fn a_server_does_without_an_io_uring_that_it_may_not_use() {
    for call in [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register] {
        let place = Place::new(16 * EACH);
        let mut command = place.command(&[]);
        fails(&mut command, call, None, libc::EPERM);
        command.stderr(Stdio::piped());
        let mut daemon = Daemon::of(command.spawn().unwrap());
        daemon.until("no io_uring");
        daemon.until("is served on");
        let mut guest = Guest::connect(&place.socket(), PLAIN, 1).unwrap();
        guest.write(0, EACH, 7);
        assert_eq!(guest.read(0, EACH), [7; PIECE], "system call {call}");
        drop(guest);
        let (status, said) = daemon.end(Signal::TERM);
        assert_eq!(status.code(), Some(0), "system call {call}: {said}");
    }
}
