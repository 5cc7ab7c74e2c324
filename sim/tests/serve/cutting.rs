//! Power cuts under a busy server: its file is on a file system that loses unsynced data.
//!
//! After the cut the client receives no further answers, and the server exits. It starts again on
//! the remaining data.

use powerfail::host::power_cut_fs::IgnoredSync;
use powerfail_device::Errno;
use powerfail_model::{Oracle, Rule, Violation};
use rustix::process::Signal;

use crate::daemon::{Daemon, Place};
use crate::judged::{Judge, times};
use crate::lives::{FOUR_QUEUES, connect, expect, mount_over};

/// Most power cuts until a mutant of the file system is caught.
const PATIENCE: u32 = 500;

/// Lives of servers with these arguments, most of which end with a power cut. Returns the number of
/// cuts until the oracle reported a violation; `None` without FUSE.
fn cut(
    judge: &mut Judge,
    cuts: u32,
    ignored: IgnoredSync,
    more: &[&str],
) -> Option<Result<(), (u32, Violation)>> {
    let place = Place::new(0);
    let mount = mount_over(&place)?;
    let power = mount.power();
    power.fill(&judge.image());
    power.ignore_syncs(ignored);
    let mut done = 0;
    // A server that has outlived its last client.
    let mut left: Option<Daemon> = None;
    loop {
        let serve = || place.serve(&[&FOUR_QUEUES, more].concat());
        let mut daemon = left.take().unwrap_or_else(serve);
        let lived = connect(&place, judge).and_then(|mut guest| {
            if judge.host_may_fail && judge.draw(3) == 0 {
                power.fail_next_sync(Errno::EIO, judge.draw_set());
            }
            let requests = 40 + judge.draw(120);
            judge.load(&mut guest, requests).map(|()| guest)
        });
        let guest = match lived {
            Ok(guest) if done < cuts => guest,
            Ok(_) => return Some(Ok(())),
            Err(violation) => return Some(Err((done, violation))),
        };
        match judge.draw(8) {
            0 => {
                daemon.end(Signal::KILL);
                // It is unknown whether the server had received the error of a failed sync; the
                // next life begins without it.
                power.fail_no_sync();
                power.remember();
                judge.end(Oracle::backend_kill);
            }
            1 => {
                drop(guest);
                daemon.until("is gone");
                judge.end(Oracle::reset_shown);
                left = Some(daemon);
            }
            _ => {
                judge.end(|oracle| oracle.power_loss().expect("it is judged when it is read"));
                power.cut(judge.draw_set());
                daemon.end(Signal::KILL);
                done += 1;
            }
        }
    }
}

fn keeps_its_promises(seed: u32, more: &[&str]) {
    let cuts = times("POWERFAIL_CUTS", 40);
    let mut judge = Judge::new(seed);
    let Some(verdict) = cut(&mut judge, cuts, IgnoredSync::None, more) else { return };
    println!("{cuts} power cuts {more:?}, {judge}");
    expect(verdict.map_err(|(_, violation)| violation));
    assert!(
        judge.cut_short >= cuts / 2 && judge.unanswered >= 4 * cuts,
        "there was much in flight"
    );
}

#[test]
fn power_cuts_take_nothing_that_was_flushed() {
    keeps_its_promises(21, &[]);
}

#[test]
fn power_cuts_take_nothing_that_was_written_through() {
    keeps_its_promises(22, &["--cache", "writethrough"]);
}

#[test]
fn power_cuts_below_direct_transfers_take_nothing_that_was_flushed() {
    keeps_its_promises(23, &["--direct"]);
}

#[test]
fn power_cuts_after_failed_syncs_take_nothing_that_is_said_to_be_flushed() {
    let cuts = times("POWERFAIL_CUTS", 40);
    let mut judge = Judge::new(26);
    judge.host_may_fail = true;
    let Some(verdict) = cut(&mut judge, cuts, IgnoredSync::None, &[]) else { return };
    println!("{cuts} power cuts with failed syncs, {judge}");
    expect(verdict.map_err(|(_, violation)| violation));
    assert!(judge.failed >= cuts, "flushes were refused");
}

#[test]
fn a_deaf_file_system_is_caught() {
    // The rule depends on the negotiated features.
    let lost = [Rule::StableWriteLost, Rule::WriteThroughLost, Rule::FlushlessWriteLost];
    for (seed, cache) in [(24, "writeback"), (25, "writethrough")] {
        let verdict = cut(&mut Judge::new(seed), PATIENCE, IgnoredSync::All, &["--cache", cache]);
        let Some(verdict) = verdict else { return };
        let (done, violation) = verdict.expect_err("nothing was stable");
        println!("{cache}: after {done} power cuts, {violation}");
        assert!(lost.contains(&violation.rule), "{violation}");
    }
}
