//! The shipped device keeps its promises on a file under power cuts, and a disk mutant on it does
//! not.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use powerfail::devices::blk_file::FileLane;
use powerfail::devices::blk_power_cut::BlkPowerCut;
use powerfail::devices::faulty::{DiskFault, FaultyDisk};
use powerfail::devices::files::Files;
use powerfail::run::campaign::{Orders, Progress, Report, campaign};
use powerfail::run::{Plan, run_seed, world};
use powerfail_device::host::{FileDisk, SerialUring};
use powerfail_model::Rule;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::skipped;

/// Files with power cuts; `None` without FUSE.
fn files() -> Option<(Files, TempDir)> {
    let place = tempfile::tempdir().expect("a place for files");
    let files = Files::with_power_cuts(place.path().join("disk"));
    Some((files.inspect_err(skipped).ok()?, place))
}

fn run<L: FileLane>(files: Files, seeds: u64) -> Report {
    let plan = Plan::default();
    let orders = Orders { jobs: 2, keep_going: true, ..Orders::new(plan, seeds) };
    let report = campaign::<BlkPowerCut<L>>(&(files, ()), orders, &Progress::default(), |_| {});
    println!("{:?}", report.stats);
    for (signature, finding) in &report.findings {
        println!("{signature}: {} times, seed {}", finding.count, finding.seed);
    }
    assert!(report.divergence.is_none(), "not reproducible: {:?}", report.divergence);
    report
}

fn a_thousand_cuts<L: FileLane>() {
    let Some((files, _place)) = files() else { return };
    let report = run::<L>(files, 1024);
    assert_eq!(report.failures, 0);
    let stats = report.stats;
    assert!(stats.volatile_losses >= 1000, "there was something to lose");
    assert!(stats.sectors_lost > 1000 && stats.sectors_kept > 1000, "and some of it survived");
    assert!(stats.kills > 0 && stats.resets > 0 && stats.failures > 0);
}

#[test]
fn a_thousand_cuts_break_no_promise() {
    a_thousand_cuts::<FileDisk>();
}

#[test]
fn a_thousand_cuts_below_io_uring_break_no_promise() {
    a_thousand_cuts::<SerialUring>();
}

/// Mutants of durability, none of which a file without power cuts would show.
const WRONG: [DiskFault; 5] = [
    DiskFault::EarlyFlush,
    DiskFault::SyncErrorSwallowed,
    DiskFault::SyncRetried,
    DiskFault::CleanAfterReset,
    DiskFault::DiscardRoundsOut,
];

/// Most seeds until a mutant is caught.
const PATIENCE: u64 = 1000;

fn each_wrong_disk_is_caught<L: FileLane>() {
    let mut bad = Vec::new();
    for fault in WRONG {
        let Some((files, _place)) = files() else { return };
        let plan = Plan::default();
        let mut world = world::<BlkPowerCut<L, FaultyDisk>>(&(files, fault), plan, 0);
        let caught = (0..PATIENCE).find_map(|seed| {
            run_seed(&mut world, plan, seed, |_| {}).failure.map(|failure| (seed, failure))
        });
        match caught {
            None => bad.push(format!("{} passes {PATIENCE} seeds", fault.name())),
            Some((seed, failure)) => {
                let rule = failure.violation.rule;
                println!("{:22} seed {seed:5}  {}", fault.name(), rule.name());
                if !fault.caught_by().contains(&rule) {
                    bad.push(format!("{} is caught by {}", fault.name(), rule.name()));
                }
            }
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn each_wrong_disk_on_a_file_is_caught() {
    each_wrong_disk_is_caught::<FileDisk>();
}

#[test]
fn each_wrong_disk_over_io_uring_is_caught() {
    each_wrong_disk_is_caught::<SerialUring>();
}

#[test]
fn a_copy_of_a_world_goes_on_like_the_world() {
    let Some((files, place)) = files() else { return };
    let plan = Plan::default();
    let setup = (files, ());
    let mut one = world::<BlkPowerCut>(&setup, plan, 0);
    for seed in 0..40 {
        // The run is cut off in the middle: sectors that are dirty then are dirty in the copy.
        let mut actions = Vec::new();
        let whole = run_seed(&mut one, plan, seed, |action| actions.push(*action));
        let (shape, run) = (*one.shape(), one.run());
        one.restart(shape, run);
        let (first, rest) = actions.split_at(actions.len() / 2);
        let done = |world: &mut powerfail::world::World<BlkPowerCut>, actions: &[_]| {
            actions.iter().for_each(|action| assert!(world.step(action).expect("it passes")));
            (world.event_hash(), world.dirty())
        };
        let before = done(&mut one, first);
        let mut other = one.clone();
        assert_eq!((other.event_hash(), other.dirty()), before, "seed {seed}");
        assert_eq!(done(&mut other, rest).0, whole.hash, "seed {seed}");
        assert_eq!((one.event_hash(), one.dirty()), before, "the copy shares nothing");
        assert_eq!(done(&mut one, rest).0, whole.hash, "seed {seed}");
    }
    drop((one, setup));
    let left = std::fs::read_dir(place.path()).expect("the place is there").count();
    assert_eq!(left, 0, "nothing stays that the run has made");
}

fn powerfail(place: &TempDir, args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_powerfail");
    Command::new(program).args(args).current_dir(place.path()).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_program_cuts_the_power_of_files_and_replays_what_it_finds() {
    let Some((_files, place)) = files() else { return };
    let cuts = ["--disk", "file:x.img", "--power-cuts"];
    let args = [&["run", "--seeds", "40", "--jobs", "2"][..], &cuts].concat();
    let output = powerfail(&place, &args);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("dirty sectors lost"));

    let args = [&["run", "--seeds", "200", "--device", "wrong:early-flush"][..], &cuts].concat();
    let output = powerfail(&place, &args);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains(Rule::StableWriteLost.promise()), "{said}");
    let output = powerfail(&place, &["replay", "out/0001-stable-write-lost.trace"]);
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(": flush"), "{said}");
    assert!(!said.contains("no sync"), "no line shows the effect of this host: {said}");
    assert!(!place.path().join("x.img").exists(), "nothing stays that the run has made");
}

#[test]
fn power_cuts_of_what_is_no_file_are_refused_in_a_line() {
    let place = tempfile::tempdir().expect("a place");
    std::fs::write(place.path().join("precious"), "data").expect("a file");
    for (args, says) in [
        (&["run", "--power-cuts"][..], "one with --disk file:PATH"),
        (&["run", "--power-cuts", "--disk", "wrong:early-flush"], "--disk file:PATH"),
        (&["run", "--power-cuts", "--disk", "file:precious"], "precious exists"),
        (&["run", "--power-cuts", "--disk", "file:"], "needs a path"),
        (&["replay", "--seed", "1", "--power-cuts"], "--disk file:PATH"),
    ] {
        let output = powerfail(&place, args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?} said {said}");
        assert!(said.contains(says) && said.lines().count() == 1, "{args:?} said {said}");
    }
    let kept = std::fs::read(place.path().join("precious")).expect("it is there");
    assert_eq!(kept, b"data");
}

#[test]
fn what_a_process_leaves_mounted_is_taken_away() {
    let Some((_files, place)) = files() else { return };
    let args = ["run", "--disk", "file:x.img", "--power-cuts", "--jobs", "2"];
    let start = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_powerfail"))
            .args(args)
            .current_dir(place.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts")
    };
    let mounted = || -> Vec<PathBuf> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("the list of mounts");
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1).map(PathBuf::from));
        let is_ours =
            |path: &PathBuf| path.parent() == Some(place.path()) && !path.ends_with("disk");
        places.filter(is_ours).collect()
    };
    let until_mounted = |process: &mut std::process::Child, count: usize| {
        while mounted().len() < count {
            assert!(
                process.try_wait().expect("a child process").is_none(),
                "it ended before it began"
            );
            std::thread::yield_now();
        }
    };
    let left = || {
        let entries = std::fs::read_dir(place.path()).expect("the place is there");
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
        entries.map(name).filter(|name| name != "out" && name != "disk").count()
    };
    // After a signal that can be handled no file is left.
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        let mut process = start(&args);
        until_mounted(&mut process, 2);
        kill_process(Pid::from_child(&process), signal).expect("a child process");
        let status = process.wait().expect("it ends");
        assert!(matches!(status.code(), Some(0 | 4)), "{status}");
        assert_eq!((mounted().len(), left()), (0, 0), "{signal:?}");
    }
    // The next process removes the mounts that a killed one has left, and leaves other files alone.
    for args in [&args[..], &["run", "--device", "pmem", "--disk", "map:x.img", "--power-cuts"]] {
        let mut process = start(args);
        until_mounted(&mut process, 2);
        process.kill().expect("a child process");
        process.wait().expect("it ends, though it served its own requests");
        assert!(!mounted().is_empty());
        std::fs::write(place.path().join("x.img.9"), "precious").expect("a file");
        let output = powerfail(&place, &[args, &["--seeds", "300"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(mounted().is_empty());
        let precious = std::fs::read(place.path().join("x.img.9")).expect("it is there");
        assert_eq!(precious, b"precious");
        std::fs::remove_file(place.path().join("x.img.9")).expect("it is there");
    }
}
