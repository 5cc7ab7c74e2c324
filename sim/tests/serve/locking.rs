//! Who else may have a file or block device that is served: QEMU's programs, the host itself, and
//! what is no disk at all.

use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

use crate::daemon::{Daemon, LONG, Place, output, refused};
use crate::guest::{Guest, PIECE, PLAIN};
use crate::judged::skipped;

/// A command that serves this.
fn serve(place: &Place, file: &Path, socket: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_powerfail"));
    command.arg("serve").arg("--socket").arg(place.path().join(socket));
    command.arg("--file").arg(file).args(more);
    command
}

/// Whether QEMU's tools are there. It is said aloud if they are not.
fn has_qemu() -> bool {
    let tools = ["qemu-io", "qemu-img", "qemu-storage-daemon"];
    let missing = tools.iter().find(|tool| Command::new(tool).arg("--version").output().is_err());
    if let Some(tool) = missing {
        skipped(&format_args!("there is no {tool}; it is in Debian's package qemu-utils"));
    }
    missing.is_none()
}

fn qemu(tool: &str, arguments: &[&str], disk: &Path) -> Output {
    let mut command = Command::new(tool);
    command.args(arguments).arg(disk);
    output(command)
}

/// `qemu-storage-daemon` with a disk, exported so that it may be written or not.
fn storage_daemon(disk: &Path, socket: &Path, writable: bool) -> Command {
    let (writable, read_only) = if writable { ("on", "off") } else { ("off", "on") };
    let (disk, socket) = (disk.display(), socket.display());
    let mut command = Command::new("qemu-storage-daemon");
    command.arg("--blockdev");
    command.arg(format!("file,node-name=disk,read-only={read_only},filename={disk}"));
    command.arg("--export");
    command.arg(format!(
        "vhost-user-blk,id=export,node-name=disk,writable={writable},addr.type=unix,addr.path={socket}"
    ));
    command
}

/// A program of QEMU's that has a disk open, until this is dropped.
struct Holder {
    child: Child,
    /// Nobody reads on, but it may write.
    _stdout: Option<ChildStdout>,
}

impl Holder {
    /// `qemu-io`, at its prompt.
    fn io(disk: &Path, arguments: &[&str]) -> Holder {
        let mut command = Command::new("qemu-io");
        command.args(["-f", "raw"]).args(arguments).arg(disk);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // It reads commands once it has the disk.
        child.stdin.as_mut().unwrap().write_all(b"length\n").unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut said = String::new();
        while !said.contains("KiB") {
            let mut byte = [0];
            assert_eq!(stdout.read(&mut byte).unwrap(), 1, "qemu-io ended: {said}");
            said.push(byte[0].into());
        }
        Holder { child, _stdout: Some(stdout) }
    }

    /// `qemu-storage-daemon`, once it listens.
    fn daemon(disk: &Path, socket: &Path, writable: bool) -> Holder {
        // The last one may have left it.
        let _ = fs::remove_file(socket);
        let mut child = storage_daemon(disk, socket, writable).spawn().unwrap();
        let begun = Instant::now();
        while !socket.exists() {
            assert!(child.try_wait().unwrap().is_none(), "qemu-storage-daemon ended");
            assert!(begun.elapsed() < LONG, "qemu-storage-daemon does not listen");
            std::thread::park_timeout(Duration::from_millis(5));
        }
        Holder { child, _stdout: None }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn qemu_refuses_a_file_that_is_served() {
    if !has_qemu() {
        return;
    }
    for more in [&["--queues", "3"][..], &["--direct"]] {
        let place = Place::holding(&[0; 8 * PIECE]);
        let daemon = place.serve(more);
        let mut guest = Guest::connect(&place.socket(), PLAIN, 1).unwrap();
        guest.write(0, 0, 7);
        let socket = place.path().join("qemu.sock");
        let mut resize = Command::new("qemu-img");
        resize.args(["resize", "-f", "raw"]).arg(place.disk()).arg("1M");
        let refusals = [
            qemu("qemu-io", &["-f", "raw", "-c", "write -P 1 0 512"], &place.disk()),
            qemu("qemu-io", &["-f", "raw", "-c", "discard 0 4096"], &place.disk()),
            qemu("qemu-io", &["-f", "raw", "-r", "-c", "read 0 512"], &place.disk()),
            output(resize),
            output(storage_daemon(&place.disk(), &socket, true)),
            output(storage_daemon(&place.disk(), &socket, false)),
        ];
        for output in refusals {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{said}");
            assert!(said.contains("lock"), "{said}");
        }
        assert_eq!(fs::metadata(place.disk()).unwrap().len(), 8 * PIECE as u64);
        assert_eq!(guest.read(0, 0), [7; PIECE]);
        drop(guest);
        assert_eq!(daemon.end(Signal::TERM).0.code(), Some(0));
        let output = qemu("qemu-io", &["-f", "raw", "-c", "write -P 1 0 512"], &place.disk());
        assert!(output.status.success(), "it is free again");
    }
}

#[test]
fn a_file_that_qemu_has_is_refused() {
    if !has_qemu() {
        return;
    }
    let place = Place::new(8 * PIECE as u64);
    let socket = place.path().join("qemu.sock");
    let holders: [&dyn Fn() -> Holder; 2] =
        [&|| Holder::io(&place.disk(), &[]), &|| Holder::daemon(&place.disk(), &socket, true)];
    for holder in holders {
        let holder = holder();
        for more in [&[][..], &["--readonly"]] {
            let said = refused(place.command(more));
            assert!(said.contains("QEMU") && said.contains("disk.img"), "{said}");
            assert!(!place.socket().exists());
        }
        drop(holder);
        assert_eq!(place.serve(&[]).end(Signal::TERM).0.code(), Some(0), "it is free again");
    }
}

#[test]
fn readers_share_a_file_with_readers_of_qemu() {
    if !has_qemu() {
        return;
    }
    let place = Place::new(8 * PIECE as u64);
    let daemon = place.serve(&["--readonly"]);
    let second = Daemon::start(serve(&place, &place.disk(), "second.sock", &["--readonly"]));
    let read = ["-f", "raw", "-r", "-c", "read 0 512"];
    assert!(qemu("qemu-io", &read, &place.disk()).status.success(), "a reader beside readers");
    let write = ["-f", "raw", "-c", "write 0 512"];
    assert!(!qemu("qemu-io", &write, &place.disk()).status.success(), "a writer beside readers");
    drop((daemon, second));

    let holder = Holder::daemon(&place.disk(), &place.path().join("qemu.sock"), false);
    let daemon = place.serve(&["--readonly"]);
    assert_eq!(Guest::connect(&place.socket(), PLAIN, 1).unwrap().read(0, 0), [0; PIECE]);
    drop(daemon);
    drop(holder);
}

/// A loop device, until it is dropped.
struct Loop(PathBuf);

impl Loop {
    /// `None` if this host gives none. That is said aloud.
    fn over(file: &Path) -> Option<Loop> {
        let output = Command::new("losetup").args(["--show", "--find"]).arg(file).output();
        match output {
            Ok(output) if output.status.success() => {
                Some(Loop(String::from_utf8(output.stdout).unwrap().trim().into()))
            }
            Ok(output) => {
                skipped(&String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                skipped(&format_args!("losetup: {error}"));
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // What is still open is taken away when it is closed.
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

/// A file system over a folder, until this is dropped.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        run("umount", &[self.0]);
    }
}

fn run(command: &str, arguments: &[&Path]) -> Option<bool> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = [path, "/usr/sbin".into(), "/sbin".into()].join(":".as_ref());
    let mut words = command.split(' ');
    let output = Command::new(words.next()?).env("PATH", path).args(words).args(arguments).output();
    output.ok().map(|output| output.status.success())
}

#[test]
fn a_block_device_that_the_host_uses_is_refused_and_one_that_is_served_is_not_mounted() {
    let place = Place::new(16 << 20);
    let Some(device) = Loop::over(&place.disk()) else { return };
    let device = &*device.0;
    let point = place.path().join("mounted");
    fs::create_dir(&point).unwrap();
    if run("mkfs.ext4 -q", &[device]) != Some(true) || run("mount", &[device, &point]) != Some(true)
    {
        skipped(&"no ext4 can be made and mounted here");
        return;
    }
    let mounted = Mounted(&point);
    for more in [&[][..], &["--readonly"], &["--direct"]] {
        let said = refused(serve(&place, device, "blk.sock", more));
        assert!(said.contains("mounted") && said.contains("/dev/loop"), "{said}");
    }
    drop(mounted);

    let daemon = Daemon::start(serve(&place, device, "blk.sock", &["--queues", "3"]));
    let mut guest = Guest::connect(&place.socket(), PLAIN, 3).unwrap();
    for queue in 0..3 {
        guest.write(queue, PIECE as u64, 5 + queue as u8);
        assert_eq!(guest.read((queue + 1) % 3, PIECE as u64), [5 + queue as u8; PIECE]);
    }
    assert_eq!(run("mount", &[device, &point]), Some(false), "it is served");
    for more in [&[][..], &["--readonly"]] {
        let said = refused(serve(&place, device, "other.sock", more));
        assert!(said.contains("/dev/loop"), "{said}");
    }
    drop(guest);
    assert_eq!(daemon.end(Signal::TERM).0.code(), Some(0));
    let readers = ["blk.sock", "other.sock"]
        .map(|socket| Daemon::start(serve(&place, device, socket, &["--readonly"])));
    for socket in ["blk.sock", "other.sock"] {
        let mut guest = Guest::connect(&place.path().join(socket), PLAIN, 1).unwrap();
        assert_eq!(guest.read(0, PIECE as u64), [7; PIECE]);
    }
    drop(readers);
    let mut bytes = [0; PIECE];
    fs::File::open(device).unwrap().read_exact_at(&mut bytes, PIECE as u64).unwrap();
    assert_eq!(bytes, [7; PIECE]);
}

#[test]
fn what_is_no_disk_is_refused_by_what_it_is() {
    let place = Place::new(8192);
    let at = |name: &str| place.path().join(name);
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    fs::create_dir(at("folder")).unwrap();
    symlink("elsewhere", at("link")).unwrap();
    symlink("loop", at("loop")).unwrap();
    let cases: [(PathBuf, &[&str], &[&str]); 14] = [
        (at("fifo"), &[], &["fifo: is a FIFO"]),
        (at("fifo"), &["--readonly"], &["fifo: is a FIFO"]),
        (at("fifo"), &["--create", "1M"], &["fifo exists already, and is not a file"]),
        (at("folder"), &[], &["folder: is a directory"]),
        (at("folder"), &["--create", "1M"], &["folder exists already, and is not a file"]),
        ("/dev/null".into(), &[], &["/dev/null: is a character device"]),
        ("/dev/null".into(), &["--readonly", "--direct"], &["/dev/null: is a character device"]),
        ("/dev/zero".into(), &["--create", "1M"], &["/dev/zero exists already, and is not a file"]),
        (at("link"), &[], &["link is a symbolic link to elsewhere, which does not exist"]),
        (at("link"), &["--create", "1M"], &["link to elsewhere", "--create follows no link"]),
        (at("loop"), &[], &["Too many levels of symbolic links"]),
        (at("missing"), &[], &["missing does not exist: --create SIZE creates it"]),
        (at("none/disk"), &[], &["the folder", "none does not exist"]),
        (at("none/disk"), &["--create", "1M"], &["the folder", "none does not exist"]),
    ];
    for (file, more, expected) in cases {
        let said = refused(serve(&place, &file, "blk.sock", more));
        for words in expected {
            assert!(said.contains(words), "{}, {more:?}: {said}", file.display());
        }
    }
    assert_eq!(place.names(), ["disk.img", "fifo", "folder", "link", "loop"]);
    let said = refused(serve(&place, &place.disk(), "none/blk.sock", &[]));
    assert!(said.contains("none does not exist: create it first"), "{said}");
}
