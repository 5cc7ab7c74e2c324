//! Wrong twins of our server: the same device and the same server over a disk with one mistake.
//! Each is a process of its own, this test program started again, and must be caught. With
//! `POWERFAIL_TWINS=8` all of them are run.

use std::fmt::Debug;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use powerfail_device::host::vhost_user::{Memory, QueueDisk, Server};
use powerfail_device::host::{FileDisk, Shown};
use powerfail_device::{Completion, Config, Disk, Limits, Op, Submission};

use crate::{attach, can_mount, skipped, stderr, stdout};

/// The mistakes that are seen in the rows, and those that are found in runs of seeds.
const ROWS: [&str; 3] = ["no-sync", "late-sync", "first-sync"];
const SEEDS: [&str; 8] = [
    "dropped-write",
    "read-elsewhere",
    "sync-error-swallowed",
    "second-sync",
    "write-error-swallowed",
    "misdirected-write",
    "zeroes-nothing",
    "wide-discard",
];

/// A disk on a file with one mistake.
struct Twin {
    disk: FileDisk,
    mistake: String,
    syncs: u32,
    writes: u32,
    late: Option<Submission>,
    done: Vec<Completion>,
}

impl Twin {
    fn is(&self, mistake: &str) -> bool {
        self.mistake == mistake
    }

    /// Whether a sync is left out.
    fn skips_sync(&mut self) -> bool {
        self.syncs += 1;
        self.is("no-sync")
            || (self.is("first-sync") && self.syncs == 1)
            || (self.is("second-sync") && self.syncs.is_multiple_of(2))
    }

    fn has_room_behind(&self, end: u64) -> bool {
        end + 512 <= Disk::<Memory>::limits(&self.disk).capacity
    }

    /// The operation that is done in place of the one that was asked for; `None` if none is.
    fn mistaken(&mut self, op: &mut Op) -> bool {
        match op {
            Op::Sync => return !self.skips_sync(),
            Op::Write { offset, from } => {
                self.writes += 1;
                if self.is("dropped-write") && self.writes.is_multiple_of(5) {
                    return false;
                }
                if self.is("misdirected-write")
                    && self.writes.is_multiple_of(5)
                    && self.has_room_behind(*offset + u64::from(from.len()))
                {
                    *offset += 512;
                }
            }
            Op::Read { offset, into } => {
                if self.is("read-elsewhere")
                    && self.has_room_behind(*offset + u64::from(into.len()))
                {
                    *offset += 512;
                }
            }
            Op::WriteZeroes { .. } => return !self.is("zeroes-nothing"),
            Op::Discard { offset, len } => {
                if self.is("wide-discard") && self.has_room_behind(*offset + *len) {
                    *len += 512;
                }
            }
        }
        true
    }
}

impl Disk<Memory> for Twin {
    fn limits(&self) -> Limits {
        Disk::<Memory>::limits(&self.disk)
    }

    fn room(&self) -> u32 {
        Disk::<Memory>::room(&self.disk)
    }

    fn submit(&mut self, memory: &Memory, mut submission: Submission) {
        if let Some(late) = self.late.take() {
            self.disk.submit(memory, late);
            while Disk::<Memory>::complete(&mut self.disk, memory).is_some() {}
        }
        let (token, result) = (submission.token, Ok(0));
        let is_sync = submission.op == Op::Sync;
        if is_sync && self.is("late-sync") {
            self.late = Some(submission);
            return self.done.push(Completion { token, result, buffer: None });
        }
        if self.mistaken(&mut submission.op) {
            return self.disk.submit(memory, submission);
        }
        let (result, buffer) = match submission.op {
            Op::Write { from, .. } => (Ok(from.len()), Some(from)),
            _ => (result, None),
        };
        self.done.push(Completion { token, result, buffer });
    }

    fn complete(&mut self, memory: &Memory) -> Option<Completion> {
        if let Some(done) = self.done.pop() {
            return Some(done);
        }
        let mut done = Disk::<Memory>::complete(&mut self.disk, memory)?;
        let len = done.buffer.as_ref().map(powerfail_device::Buffer::len);
        if done.result.is_err() && self.is("sync-error-swallowed") && len.is_none() {
            done.result = Ok(0);
        }
        if done.result.is_err() && self.is("write-error-swallowed") {
            done.result = Ok(len.unwrap_or(0));
        }
        Some(done)
    }
}

impl QueueDisk for Twin {
    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// The value of a variable in the environment of a twin.
fn variable(name: &str) -> Option<String> {
    std::env::var(format!("POWERFAIL_TWIN_{name}")).ok()
}

fn must<T, E: Debug>(result: Result<T, E>) -> T {
    result.expect("a twin can serve")
}

/// The process of a twin. Without its variables it is no twin, and does nothing.
#[test]
fn serves_as_a_twin() {
    let Some(mistake) = variable("MISTAKE") else { return };
    let (socket, file) = (variable("SOCKET").unwrap(), variable("FILE").unwrap());
    let disk = must(FileDisk::open(Path::new(&file), false));
    let (syncs, writes, late, done) = (0, 0, None, Vec::new());
    let twin = Twin { disk, mistake, syncs, writes, late, done };
    let config = Config { queue_size: 1 << 10, ..Config::default() };
    let mut server = must(Server::new(config, vec![twin], Box::new(|_| {})));
    must(server.run(must(UnixListener::bind(socket))));
}

/// The command line of a twin.
fn command(mistake: &str) -> String {
    let this = std::env::current_exe().unwrap();
    format!(
        "env POWERFAIL_TWIN_MISTAKE={mistake} POWERFAIL_TWIN_SOCKET={{socket}} \
         POWERFAIL_TWIN_FILE={{file}} '{}' --exact twins::serves_as_a_twin --nocapture",
        Shown(&this)
    )
}

fn exit_code(mistake: &str, seeds: &str) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let command = command(mistake);
    let strict = ["--contract", "strict", "--seeds", seeds, "--spawn", &command];
    let output = attach(dir.path(), &strict);
    (output.status.code(), format!("{mistake}: {}{}", stdout(&output), stderr(&output)))
}

#[test]
fn a_twin_without_a_mistake_is_silent() {
    if !can_mount() {
        return skipped("a file below a backend needs FUSE and root");
    }
    let (code, said) = exit_code("none", "48");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn mistakes_in_syncs_are_seen_in_the_rows() {
    if !can_mount() {
        return skipped("a file below a backend needs FUSE and root");
    }
    for mistake in ROWS {
        let (code, said) = exit_code(mistake, "1");
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("BROKEN"), "{said}");
    }
}

#[test]
fn other_mistakes_are_caught_in_runs_of_seeds() {
    if !can_mount() {
        return skipped("a file below a backend needs FUSE and root");
    }
    // All of them take two minutes.
    let most = std::env::var("POWERFAIL_TWINS").map_or(3, |most| most.parse().expect("a number"));
    for mistake in SEEDS.into_iter().take(most) {
        let (code, said) = exit_code(mistake, "2000");
        assert_eq!(code, Some(1), "{said}");
    }
}
