//! Saved traces outlive the code that found them: after changes of the device, the generator or the
//! guest's habits that keep the promises, a trace still fails on its mutant and passes on the
//! shipped device.
//!
//! Not here: how a line finds its new place (`powerfail::run::rebase`).

use std::fs;
use std::path::Path;

use powerfail::devices::blk::Blk;
use powerfail::devices::faulty::{Wrong, WrongDevice, WrongDisk, WrongMemory};
use powerfail::devices::pmem::Pmem;
use powerfail::dut::Spec;
use powerfail::dut::{DeviceUnderTest, End, Host, Managed, Mapping, Medium, Profile, Progress};
use powerfail::guest::Kind;
use powerfail::guest::wire::feature;
use powerfail::guest::{Layout, RingPlan};
use powerfail::host::disk::SimDisk;
use powerfail::run::{Judged, Replayed, judge};
use powerfail::run::{Plan, replay, run_seed, unfold, world};
use powerfail::trace::Trace;
use powerfail::world::World;
use powerfail::world::action::{Action, Until};

/// The division of a rewritten device's work into steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Pace {
    /// Unchanged.
    #[default]
    Same,
    /// An empty step before every other.
    BeforeEach,
    /// An empty step after each signal, and after each submission to the host.
    AfterWork,
    /// Two steps in one, unless the first ends a sequence.
    Joined,
}

/// A device with another division into steps.
#[derive(Clone, Debug)]
struct Rewritten<D> {
    inner: D,
    pace: Pace,
    /// A queue's thread is paused iff its next step does nothing.
    paused: [bool; 4],
    live: bool,
}

impl<D: DeviceUnderTest> Rewritten<D> {
    fn of(inner: D, pace: Pace) -> Rewritten<D> {
        Rewritten { inner, pace, paused: [pace == Pace::BeforeEach; 4], live: false }
    }
}

impl<D: DeviceUnderTest> DeviceUnderTest for Rewritten<D> {
    type Setup = (Pace, D::Setup);

    const MEDIUM: Medium = D::MEDIUM;
    const KINDS: [Kind; 2] = D::KINDS;
    const PROFILE: Profile = D::PROFILE;
    const RING_BASE: bool = D::RING_BASE;

    fn open((pace, setup): &Self::Setup, spec: &Spec, disk: &SimDisk, device: u8) -> Self {
        Rewritten::of(D::open(setup, spec, disk, device), *pace)
    }

    fn restart(&mut self, setup: &Self::Setup, spec: &Spec, host: &mut Host<'_>, end: End) {
        self.inner.restart(&setup.1, spec, host, end);
        self.paused = [self.pace == Pace::BeforeEach; 4];
        self.live = false;
    }

    fn offered(&self) -> u64 {
        self.inner.offered()
    }

    fn negotiate(&mut self, accept: u64) -> bool {
        self.inner.negotiate(accept)
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        self.inner.config_read(offset, out);
    }

    fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        self.inner.config_write(offset, bytes);
    }

    fn start(&mut self, rings: &[RingPlan]) {
        self.inner.start(rings);
        self.live = true;
    }

    fn kick(&mut self, queue: u16) {
        self.inner.kick(queue);
    }

    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        let paused = &mut self.paused[usize::from(queue)];
        if self.live && std::mem::take(paused) {
            return Progress::Busy;
        }
        let before = host.disk.submitted();
        let progress = self.inner.step(queue, host);
        let worked = progress == Progress::Signal || host.disk.submitted() > before;
        match self.pace {
            Pace::BeforeEach => *paused = true,
            Pace::AfterWork => *paused = worked && progress != Progress::Idle,
            Pace::Joined if progress == Progress::Busy => return self.inner.step(queue, host),
            Pace::Same | Pace::Joined => {}
        }
        progress
    }

    fn begin_reset(&mut self, host: &mut Host<'_>) {
        self.inner.begin_reset(host);
        self.live = false;
    }

    fn reset_done(&mut self) -> bool {
        self.inner.reset_done()
    }

    fn needs_reset(&mut self) -> bool {
        self.inner.needs_reset()
    }

    fn lifecycle(&mut self) -> Option<&mut impl Managed> {
        self.inner.lifecycle()
    }

    fn mapping(&mut self) -> Option<&mut impl Mapping> {
        self.inner.mapping()
    }
}

/// A change of the code, and so of the world in which a trace is replayed. `None` if it does not
/// apply there.
type Change = fn(&Trace) -> Option<Trace>;

const CHANGES: [(&str, Pace, &[Change]); 16] = [
    ("nothing", Pace::Same, &[]),
    ("a step before each", Pace::BeforeEach, &[]),
    ("a step after work", Pace::AfterWork, &[]),
    ("steps joined", Pace::Joined, &[]),
    ("rings doubled", Pace::Same, &[rings_doubled]),
    ("rings halved", Pace::Same, &[rings_halved]),
    ("rings near the wrap", Pace::Same, &[near_the_wrap]),
    ("chains cut finer", Pace::Same, &[cut_finer]),
    ("chains in tables", Pace::Same, &[in_tables]),
    ("transfers of a granule", Pace::Same, &[transfers_of_a_granule]),
    ("transfers of any size", Pace::Same, &[transfers_of_any_size]),
    ("another queue", Pace::Same, &[another_queue]),
    ("requests renumbered", Pace::Same, &[renumbered]),
    ("a step before each, other rings", Pace::BeforeEach, &[rings_doubled, near_the_wrap]),
    ("steps joined, small transfers", Pace::Joined, &[transfers_of_a_granule]),
    ("a step after work, renumbered, tables", Pace::AfterWork, &[renumbered, in_tables]),
];

/// Mutants whose situation cannot survive a change, and the reason.
const LOST: [(&str, &[&str], &str); 4] = [
    ("cut-short", &SMALL_TRANSFERS, NEVER_SHORT),
    ("short-believed", &SMALL_TRANSFERS, NEVER_SHORT),
    ("write-repeated", &SMALL_TRANSFERS, NEVER_SHORT),
    ("wants-reset", &["another queue"], "it counts the steps of all its threads"),
];
const SMALL_TRANSFERS: [&str; 2] = ["transfers of a granule", "steps joined, small transfers"];
const NEVER_SHORT: &str = "a transfer of one granule cannot be short";

fn changed(trace: &Trace, change: impl FnOnce(&mut Trace)) -> Option<Trace> {
    let mut changed = trace.clone();
    change(&mut changed);
    // The trace reader checks that such a world is possible.
    let possible = changed.to_string().parse::<Trace>().is_ok();
    (possible && changed != *trace).then_some(changed)
}

fn rings_doubled(trace: &Trace) -> Option<Trace> {
    changed(trace, |trace| trace.shape.spec.ring_size *= 2)
}

/// A ring of two has no room for a request without an indirect table.
fn rings_halved(trace: &Trace) -> Option<Trace> {
    changed(trace, |trace| {
        let halved = (trace.shape.spec.ring_size / 2).max(4);
        trace.shape.spec.ring_size = halved;
    })
}

fn near_the_wrap(trace: &Trace) -> Option<Trace> {
    changed(trace, |trace| {
        for action in &mut trace.actions {
            if let Action::Start { base, .. } = action {
                *base = base.wrapping_sub(2);
            }
        }
    })
}

/// Changes the layout of every well-formed chain.
fn laid_out(trace: &Trace, cut: impl Fn(bool) -> Layout) -> Option<Trace> {
    changed(trace, |trace| {
        let mut tables = [false; 2];
        for action in &mut trace.actions {
            match action {
                Action::Start { device, accept, .. } => {
                    tables[usize::from(*device)] = *accept & feature::INDIRECT_DESC != 0;
                }
                Action::Send { to, layout, .. } => *layout = cut(tables[usize::from(to.device)]),
                _ => {}
            }
        }
    })
}

fn cut_finer(trace: &Trace) -> Option<Trace> {
    let roomy = trace.shape.spec.ring_size >= 8;
    laid_out(trace, |tables| match (tables, roomy) {
        (true, _) => Layout { header: 3, data: 2, glued: 1, indirect: 3, empty: 1 },
        (false, true) => Layout { header: 1, data: 3, glued: 1, indirect: 0, empty: 0 },
        (false, false) => Layout { glued: 1, ..Layout::PLAIN },
    })
}

fn in_tables(trace: &Trace) -> Option<Trace> {
    laid_out(trace, |tables| Layout { indirect: u8::from(tables), ..Layout::PLAIN })
}

fn transfers_of_a_granule(trace: &Trace) -> Option<Trace> {
    changed(trace, |trace| {
        trace.shape.spec.disk.max_transfer = trace.shape.spec.disk.granule;
    })
}

fn transfers_of_any_size(trace: &Trace) -> Option<Trace> {
    changed(trace, |trace| trace.shape.spec.disk.max_transfer = 1 << 20)
}

fn another_queue(trace: &Trace) -> Option<Trace> {
    let uses_others = trace.actions.iter().any(|action| match action {
        Action::Send { to, .. } => to.queue > 0,
        _ => false,
    });
    let offers = trace.shape.spec.offer & feature::MQ != 0;
    let queues = trace.shape.spec.queues;
    if uses_others || !offers {
        return None;
    }
    changed(trace, |trace| trace.shape.spec.queues = if queues == 1 { 2 } else { 1 })
}

fn renumbered(trace: &Trace) -> Option<Trace> {
    let new = |id: u32| 1 + (id * 7919) % 1_000_003;
    changed(trace, |trace| {
        for action in &mut trace.actions {
            match action {
                Action::Send { id, .. }
                | Action::SendAgain { id, .. }
                | Action::Await { id, .. }
                | Action::Crank { until: Until::Used(id), .. } => *id = new(*id),
                _ => {}
            }
        }
        for (name, _) in &mut trace.witness {
            let (letter, id) = name.split_at(1);
            *name = format!("{letter}{}", new(id.parse().expect("a witness is a request")));
        }
    })
}

fn traces() -> Vec<(String, Trace)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../traces");
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "trace"));
    paths.sort();
    let read = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let trace = fs::read_to_string(&path).unwrap().parse();
        (name.clone(), trace.unwrap_or_else(|e| panic!("{name}: {e}")))
    };
    let found_on_ours = |trace: &Trace| trace.device == "blk" && trace.disk == "sim";
    paths.into_iter().map(read).filter(|(_, trace)| !found_on_ours(trace)).collect()
}

fn wrong(trace: &Trace) -> Wrong {
    let name = [&trace.device, &trace.disk].into_iter().find_map(|n| n.strip_prefix("wrong:"));
    name.and_then(Wrong::from_name).expect("a saved trace names something wrong")
}

fn judged<D: DeviceUnderTest>(setup: D::Setup, pace: Pace, trace: &Trace) -> Judged {
    judge(&mut World::<Rewritten<D>>::new((pace, setup), trace.shape, trace.run), trace)
}

fn there(pace: Pace, trace: &Trace) -> Judged {
    match wrong(trace) {
        Wrong::Disk(fault) => judged::<WrongDisk>(fault, pace, trace),
        Wrong::Device(fault) => judged::<WrongDevice>(fault, pace, trace),
        Wrong::Memory(fault) => judged::<WrongMemory>(fault, pace, trace),
    }
}

const UNFOLDED: &str = ", unfolded";

/// The trace with every wait expanded into steps, as a run is recorded.
fn unfolded(trace: &Trace) -> Trace {
    fn actions<D: DeviceUnderTest>(setup: D::Setup, trace: &Trace) -> Vec<Action> {
        let mut world = World::<D>::new(setup, trace.shape, trace.run);
        unfold(&mut world, trace.shape, trace.run, &trace.actions)
    }
    let actions = match wrong(trace) {
        Wrong::Disk(fault) => actions::<WrongDisk>(fault, trace),
        Wrong::Device(fault) => actions::<WrongDevice>(fault, trace),
        Wrong::Memory(fault) => actions::<WrongMemory>(fault, trace),
    };
    Trace { actions, ..trace.clone() }
}

#[test]
fn traces_survive_refactorings() {
    let mut lost = Vec::new();
    let both = |(name, trace): (String, Trace)| {
        let unfolded = unfolded(&trace);
        [(name.clone(), trace), (format!("{name}{UNFOLDED}"), unfolded)]
    };
    for (name, trace) in traces().into_iter().flat_map(both) {
        for (what, pace, changes) in CHANGES {
            let changed = changes.iter().try_fold(trace.clone(), |trace, change| change(&trace));
            let Some(changed) = changed else { continue };
            let there = there(pace, &changed);
            let here = match changed.shape.kind(0) {
                Kind::Disk => judged::<Blk>((), pace, &changed),
                Kind::Memory => judged::<Pmem>((), pace, &changed),
            };
            let of = changed.actions.len();
            println!(
                "{name:48} {what:38} rebased: {:2} of {of}, on ours {:2} of {of}",
                there.moved, here.moved
            );
            let survives = (there.replayed, here.replayed);
            match survives {
                (Replayed::Fails, Replayed::Passes) => continue,
                // Steps recorded on a mutant may leave out steps that the shipped device needs.
                (Replayed::Fails, Replayed::NotReached(_)) if name.ends_with(UNFOLDED) => continue,
                _ => {}
            }
            let wrong = wrong(&trace).name();
            match LOST.iter().find(|row| row.0 == wrong && row.1.contains(&what)) {
                Some((.., why)) => println!("{name:48} {what:38} does not survive: {why}"),
                None => lost.push(format!("{name}, {what}: {survives:?}")),
            }
        }
    }
    assert!(lost.is_empty(), "did not survive:\n{}", lost.join("\n"));
}

#[test]
fn a_replay_does_not_depend_on_earlier_runs() {
    fn hashes<D: DeviceUnderTest>(setup: D::Setup, trace: &Trace) -> (u64, u64) {
        let hash = |world: &mut World<D>, trace: &Trace| {
            replay(world, trace.shape, trace.run, &trace.actions, |_| {}).hash
        };
        let fresh = hash(&mut World::new(setup.clone(), trace.shape, trace.run), trace);
        let mut used = world::<D>(&setup, Plan::default(), 11);
        run_seed(&mut used, Plan::default(), 11, |_| {});
        (fresh, hash(&mut used, trace))
    }
    for (name, trace) in traces() {
        let (fresh, used) = match wrong(&trace) {
            Wrong::Disk(fault) => hashes::<WrongDisk>(fault, &trace),
            Wrong::Device(fault) => hashes::<WrongDevice>(fault, &trace),
            Wrong::Memory(fault) => hashes::<WrongMemory>(fault, &trace),
        };
        assert_eq!(fresh, used, "{name} on its wrong thing");
        let (fresh, used) = match trace.shape.kind(0) {
            Kind::Disk => hashes::<Blk>((), &trace),
            Kind::Memory => hashes::<Pmem>((), &trace),
        };
        assert_eq!(fresh, used, "{name} on ours");
    }
}
