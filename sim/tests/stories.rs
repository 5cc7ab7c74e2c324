//! Reports fit the width, lose nothing, point to their own lines, and name the point of no return.

use std::fs;
use std::process::Command;

use powerfail::devices::faulty::{Wrong, WrongDevice, WrongDisk, WrongMemory};
use powerfail::dut::DeviceUnderTest;
use powerfail::host::disk::OpKind;
use powerfail::report::{Provenance, Style, tell};
use powerfail::run::certainty::{Certainty, FUTURES, certainty, steps};
use powerfail::run::judge;
use powerfail::run::{Plan, replay, run_seed, world};
use powerfail::schedule::options::Preset;
use powerfail::trace::Trace;
use powerfail::world::action::{Action, CrashKind};
use powerfail::world::{Event, Failure, World, WorldShape};

const WIDTHS: [usize; 5] = [60, 72, 80, 100, 140];

/// A check of these tests for a failed world.
type GuestRequest<'a> = &'a mut dyn FnMut(&str, &dyn Fn(Style) -> String, &Failure);

/// Silences mutants, which may panic thousands of times.
fn quiet() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.location().is_some_and(|at| at.file().ends_with("tests/stories.rs")) {
            loud(info);
        }
    }));
}

fn provenance(from: &str) -> Provenance {
    Provenance {
        from: from.to_owned(),
        shrunk: Some((1234, 17)),
        replay: Some(format!("powerfail replay out/{from}/with/a/long/path.trace")),
        only_if: Some("w1 is answered before f2 is sent".to_owned()),
        certainty: Some(Certainty { from: Some(2), before: 12, futures: FUTURES }),
    }
}

fn ask<D: DeviceUnderTest>(
    name: &str,
    world: &World<D>,
    failure: &Failure,
    asked: GuestRequest<'_>,
) {
    asked(name, &|look| tell(world, failure, &provenance(name), look), failure);
}

fn seeds<D: DeviceUnderTest>(setup: D::Setup, name: &str, asked: GuestRequest<'_>) {
    for (preset, seeds) in [(Preset::Swarm, 0..120), (Preset::Calm, 0..40)] {
        let plan = Plan { preset, ..Plan::default() };
        let mut told = 0;
        for seed in seeds {
            let mut world = world::<D>(&setup, plan, seed);
            world.keep_journal();
            if let Some(failure) = run_seed(&mut world, plan, seed, |_| {}).failure {
                ask(&format!("{name}-{seed}"), &world, &failure, asked);
                told += 1;
            }
            if told == 3 {
                break;
            }
        }
    }
}

fn traced<D: DeviceUnderTest>(setup: D::Setup, name: &str, trace: &Trace, asked: GuestRequest<'_>) {
    let mut world = World::<D>::new(setup, trace.shape, trace.run);
    let failure = judge(&mut world, trace).failure.expect("saved traces fail");
    ask(name, &world, &failure, asked);
}

/// Every saved trace, and failures of every mutant: two devices, several queues and lives.
fn every_story(asked: GuestRequest<'_>) {
    quiet();
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../traces");
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let Ok(trace) = fs::read_to_string(&path).unwrap().parse::<Trace>() else { continue };
        let wrong = [&trace.device, &trace.disk].into_iter().find_map(|n| n.strip_prefix("wrong:"));
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        match wrong.and_then(Wrong::from_name) {
            Some(Wrong::Disk(fault)) => traced::<WrongDisk>(fault, &name, &trace, asked),
            Some(Wrong::Device(fault)) => traced::<WrongDevice>(fault, &name, &trace, asked),
            Some(Wrong::Memory(fault)) => traced::<WrongMemory>(fault, &name, &trace, asked),
            None => {}
        }
    }
    for wrong in Wrong::all() {
        match wrong {
            Wrong::Disk(fault) => seeds::<WrongDisk>(fault, wrong.name(), asked),
            Wrong::Device(fault) => seeds::<WrongDevice>(fault, wrong.name(), asked),
            Wrong::Memory(fault) => seeds::<WrongMemory>(fault, wrong.name(), asked),
        }
    }
}

/// The visible text on a terminal.
fn seen(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            chars.by_ref().find(|c| *c == 'm');
        } else {
            out.push(c);
        }
    }
    out
}

/// The content of a report without its line breaks: every character except spaces, the rule of a
/// power loss and the dot before the command, sorted.
fn letters(text: &str) -> Vec<char> {
    let mut letters: Vec<char> =
        text.chars().filter(|c| !c.is_whitespace() && !"-·".contains(*c)).collect();
    letters.sort_unstable();
    letters
}

#[test]
fn no_line_is_too_wide_and_nothing_is_lost_by_breaking_lines() {
    let (mut told, mut devices, mut queues, mut lives) = (0, 0, 0, 0);
    every_story(&mut |name, tell, _| {
        told += 1;
        for all in [false, true] {
            let whole = tell(Style { width: 4000, colour: false, all });
            devices += u32::from(whole.contains("start b"));
            queues += u32::from(whole.contains(" on q1"));
            lives += u32::from(whole.contains("life 3"));
            for width in WIDTHS {
                let text = tell(Style { width, colour: false, all });
                for line in text.lines() {
                    let columns = line.chars().count();
                    assert!(columns <= width, "{name} at {width} is {columns} wide: {line}");
                }
                assert_eq!(letters(&text), letters(&whole), "{name} at {width}:\n{text}\n{whole}");
                let coloured = tell(Style { width, colour: true, all });
                assert_eq!(seen(&coloured), text, "{name} at {width} in colours");
            }
        }
    });
    assert!(told > 150 && devices > 0 && queues > 0 && lives > 0, "{told} stories are few");
}

#[test]
fn below_sixty_columns_a_story_is_sixty_wide() {
    let failing = Case::new("early-flush", LOST);
    let text = |width| failing.told(Style { width, ..Style::default() });
    assert_eq!(text(10), text(60));
    assert_ne!(text(60), text(72));
}

#[test]
fn every_story_has_a_cross_a_reason_and_points_at_its_own_lines() {
    every_story(&mut |name, tell, failure| {
        let text = tell(Style::default());
        let table = text.lines().filter_map(|line| line.get(..5)?.trim().parse::<usize>().ok());
        let last = table.max().unwrap_or(0);
        assert!(last > 0, "{name} has no table:\n{text}");
        assert_eq!(text.matches('✗').count(), 1, "{name}:\n{text}");
        let below = text.split_once('✗').unwrap().1;
        assert!(below.contains(failure.violation.rule.name()), "{name}:\n{text}");
        for number in below.split('(').filter_map(|part| part.split_once(')')?.0.parse().ok()) {
            // The clause has a separate number, between parentheses.
            assert!((1..=last).contains(&number), "{name} points at line {number}:\n{text}");
        }
        let silent = failure.violation.rule == powerfail_model::Rule::DevicePanicked;
        let reason = below.split("It fails if and only if").next().unwrap().trim();
        assert!(silent || !reason.is_empty(), "{name} does not say why:\n{text}");
        let all = tell(Style { all: true, ..Style::default() });
        assert!(all.lines().count() >= text.lines().count(), "{name}:\n{all}\n{text}");
    });
}

/// A handwritten run on a mutant.
struct Case {
    wrong: Wrong,
    shape: WorldShape,
    actions: Vec<Action>,
}

const LOST: &str = "start a accept=flush,version-1; send q0 w1 out 0+1; rest; send q0 f2 flush; rest; \
                    crash power survivors=none; start a accept=flush,version-1; send q0 r3 in 0+1; rest";

struct Told {
    events: Vec<Event>,
    certainty: Certainty,
    text: String,
}

impl Case {
    fn new(wrong: &str, actions: &str) -> Case {
        let wrong = Wrong::from_name(wrong).expect("a known name");
        let shape = WorldShape::default();
        let parse = |line: &str| line.trim().parse::<Action>().unwrap_or_else(|e| panic!("{e}"));
        Case { wrong, shape, actions: actions.split(';').map(parse).collect() }
    }

    fn run(&self, look: Style) -> Told {
        match self.wrong {
            Wrong::Disk(fault) => self.run_on::<WrongDisk>(fault, look),
            Wrong::Device(fault) => self.run_on::<WrongDevice>(fault, look),
            Wrong::Memory(fault) => self.run_on::<WrongMemory>(fault, look),
        }
    }

    fn run_on<D: DeviceUnderTest>(&self, setup: D::Setup, look: Style) -> Told {
        quiet();
        let mut world = World::<D>::new(setup, self.shape, 7);
        world.keep_journal();
        let verdict = replay(&mut world, self.shape, 7, &self.actions, |_| {});
        let failure = verdict.failure.expect("it fails");
        let certainty = certainty(&world).expect("it is short");
        let events = world.journal().unwrap().events().to_vec();
        let from = Provenance { certainty: Some(certainty), ..Provenance::default() };
        let text = tell(&world, &failure, &from, look);
        Told { events, certainty, text }
    }

    fn told(&self, look: Style) -> String {
        self.run(look).text
    }
}

impl Told {
    /// The number of steps done when the first such event occurs.
    fn done_when(&self, is: impl Fn(&Event) -> bool) -> usize {
        let at = self.events.iter().position(is).expect("it happens");
        steps(&self.events[..=at]).count()
    }

    /// The number of steps done when the last such event occurs.
    fn done_last(&self, is: impl Fn(&Event) -> bool) -> usize {
        let at = self.events.iter().rposition(is).expect("it happens");
        steps(&self.events[..=at]).count()
    }
}

#[test]
fn an_early_flush_is_certain_only_from_the_power_loss_on() {
    let told = Case::new("early-flush", LOST).run(Style::default());
    // Until then the write is in the cache. The sync of a later flush never comes, but a run
    // without a power loss, or one that the sector survives, breaks no promise.
    let lost = told.done_when(|event| matches!(event, Event::Did(Action::Crash(_))));
    assert_eq!(told.certainty.from, Some(lost), "{}", told.text);
    assert!((1..FUTURES).contains(&told.certainty.before), "{}", told.text);
    assert!(
        told.text.contains("on, every sampled continuation fails: 300 of 300;"),
        "{}",
        told.text
    );
}

#[test]
fn zeroes_that_are_nowhere_are_certain_once_they_are_stable() {
    let run = |features: &str| {
        let actions = format!(
            "start a accept={features}; send q0 z1 write-zeroes 0+1; rest; send q0 r2 in 0+1; rest"
        );
        Case::new("zeroes-nothing", &actions).run(Style::default())
    };
    // In write-back mode a power loss before the read excuses the loss, so only the read shows it.
    let volatile = run("flush,write-zeroes,version-1");
    assert_eq!(volatile.certainty.from, None, "{}", volatile.text);
    assert!((1..FUTURES).contains(&volatile.certainty.before), "{}", volatile.text);
    // If FLUSH was not accepted the zeroes are stable when they are answered, and a power loss is
    // no excuse.
    let stable = run("write-zeroes,version-1");
    let answered = stable.done_when(|event| matches!(event, Event::Completed { id: 1, .. }));
    assert_eq!(stable.certainty.from, Some(answered), "{}", stable.text);
}

#[test]
fn a_stable_write_in_the_wrong_place_is_certain_once_it_has_landed() {
    let writes: Vec<String> =
        (1..=6).map(|n| format!("send q0 w{n} out {}+1; rest", n * 8)).collect();
    let actions = format!(
        "start a accept=version-1; {}; send q0 r9 in 0+8; rest; send q0 r10 in 8+8; rest; send q0 r11 in 16+8; rest; send q0 r12 in 24+8; rest; send q0 r13 in 32+8; rest; send q0 r14 in 40+8; rest; send q0 r15 in 48+8; rest",
        writes.join("; ")
    );
    let told = Case::new("misdirected-up", &actions).run(Style::default());
    // The sync makes stable the data that landed in the wrong sector; from then on no power loss
    // can undo it. The power may go between the two, which happens in few of the tested futures.
    let done = |kind: OpKind| {
        told.done_last(
            |event| matches!(event, Event::Did(Action::Complete { op, .. }) if op.kind == kind),
        )
    };
    let from = told.certainty.from.expect("there is a point of no return");
    assert!((done(OpKind::Write)..=done(OpKind::Sync)).contains(&from), "{}", told.text);
    assert!(told.certainty.before < FUTURES, "{}", told.text);
}

#[test]
fn a_panic_is_survived_and_counts() {
    let told = Case::new("panics", "start a accept=version-1; send q0 i1 get-id; rest")
        .run(Style::default());
    assert!(told.text.contains("panics"), "{}", told.text);
    // The power may go at any time before the step that panics, so only that step is certain.
    assert_eq!(told.certainty.from, None, "{}", told.text);
    assert!((1..FUTURES).contains(&told.certainty.before), "{}", told.text);
}

#[test]
fn lives_and_power_losses_are_numbered_where_there_are_several() {
    let actions = format!("start a accept=flush,version-1; crash power survivors=none; {LOST}");
    let text = Case::new("early-flush", &actions).told(Style::default());
    for part in ["life 1: start", "life 3: start", " power loss 1 -", " power loss 2 -"] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    let once = Case::new("early-flush", LOST).told(Style::default());
    assert!(once.contains(" power loss -"), "{once}");
}

#[test]
fn what_does_not_touch_the_sector_is_told_only_if_everything_is() {
    let actions = LOST.replacen("rest;", "rest; send q0 w7 out 9+1; send q0 i8 get-id; rest;", 1);
    let case = Case::new("early-flush", &actions);
    let text = case.told(Style::default());
    assert!(!text.contains("w7") && !text.contains("i8") && !text.contains("kick"), "{text}");
    let all = case.told(Style { all: true, ..Style::default() });
    for part in ["w7: out 9+1", "i8: get-id", "kick", "signal", "runs", "reaps"] {
        assert!(all.contains(part), "{part}:\n{all}");
    }
}

fn powerfail(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_powerfail")).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn saved_trace(dir: &tempfile::TempDir) -> String {
    let path = dir.path().join("lost.trace");
    let case = Case::new("early-flush", LOST);
    let trace = Trace {
        device: "blk".to_owned(),
        disk: "wrong:early-flush".to_owned(),
        broke: "stable-write-lost/lost/out".parse().unwrap(),
        seed: "1 bench uniform".to_owned(),
        run: 7,
        shape: case.shape,
        witness: Vec::new(),
        only_if: String::new(),
        events: 0,
        actions: case.actions,
    };
    fs::write(&path, trace.to_string()).unwrap();
    path.display().to_string()
}

#[test]
fn a_replay_stops_before_an_action_and_shows_the_world() {
    let dir = tempfile::tempdir().unwrap();
    let trace = saved_trace(&dir);
    let (code, out, _) = powerfail(&["replay", &trace, "--until", "6"]);
    assert_eq!(code, Some(0), "{out}");
    for part in [
        "before action 6 of 9: crash power",
        "device a: live",
        "q0: out: nothing",
        "sector 0: dirty taken; cache w1, medium initial; a power loss may leave w1\n",
        "in flight: nothing",
    ] {
        assert!(out.contains(part), "{part}:\n{out}");
    }
    let (_, out, _) = powerfail(&["replay", &trace, "--until", "3"]);
    assert!(out.contains("out: w1: out 0+1"), "{out}");
    for wrong in ["0", "10"] {
        let (code, _, err) = powerfail(&["replay", &trace, "--until", wrong]);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(&format!("no action {wrong}")) && err.contains("1 to 9"), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}

#[test]
fn a_pipe_gets_no_colours_unless_it_asks_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let trace = saved_trace(&dir);
    let (code, plain, _) = powerfail(&["replay", &trace]);
    assert_eq!(code, Some(1), "{plain}");
    assert!(!plain.contains('\u{1b}'), "{plain}");
    let (_, coloured, _) = powerfail(&["replay", &trace, "--color", "always"]);
    assert!(coloured.contains("\u{1b}[33m") && coloured.contains("\u{1b}[1m"), "{coloured}");
    assert_eq!(seen(&coloured), plain);
    let crash = |kind: &CrashKind| matches!(kind, CrashKind::Power { .. });
    assert!(
        Case::new("early-flush", LOST)
            .actions
            .iter()
            .any(|a| matches!(a, Action::Crash(k) if crash(k)))
    );
}
