//! A whole run of the simulator whose choices are the bytes: guests, schedules, host faults and
//! power cuts, judged by the oracle.
//!
//! The first byte selects the devices; the rest is a tape of choices. A tape ends before the run
//! does, so the choices after its end decide which states a fuzzer can reach. Zeroes, which
//! [`Tape`] supplies, always choose the first option: such a run ends only at its step limit. So a
//! generator with a *fixed* seed continues the tape: every input is a whole and typical run, it
//! costs as much as in a campaign, and a byte added or removed at the end changes nothing before
//! it.
//!
//! Runs are small, so that there are many of them: up to 24 requests where a campaign has up to 54.
//! World and allocations are kept from one execution to the next, as in a campaign.
//!
//! A finding is a broken promise, so the panic prints the report, and the run is saved as a trace
//! beside the artifact.

use std::cell::RefCell;
use std::path::PathBuf;

use powerfail::base::choose::{Choose, Seeded, Site, Tape};
use powerfail::devices::blk::Blk;
use powerfail::devices::blk_pmem::BlkPmem;
use powerfail::devices::pmem::Pmem;
use powerfail::dut::DeviceUnderTest;
use powerfail::report::{Provenance, Style, tell};
use powerfail::run::{Plan, Verdict, lead, replay};
use powerfail::schedule::Schedule;
use powerfail::schedule::options::Preset;
use powerfail::trace::{Signature, Trace};
use powerfail::world::action::Action;
use powerfail::world::{World, WorldShape};

/// The most requests of a run, without those of recovery.
const MOST_REQUESTS: u32 = 24;

/// The number that names the run in its payloads.
const RUN: u32 = 0x0f22;

/// A tape that continues after its end.
struct Endless<'a> {
    tape: Tape<'a>,
    after: Seeded,
}

impl Endless<'_> {
    fn new(bytes: &[u8]) -> Endless<'_> {
        Endless { tape: Tape::new(bytes), after: Seeded::new(0) }
    }
}

impl Choose for Endless<'_> {
    #[inline]
    fn below(&mut self, n: u32, site: Site) -> u32 {
        if self.tape.is_spent() { self.after.below(n, site) } else { self.tape.below(n, site) }
    }
}

thread_local! {
    static DISK: RefCell<Option<World<Blk>>> = const { RefCell::new(None) };
    static MEMORY: RefCell<Option<World<Pmem>>> = const { RefCell::new(None) };
    static BOTH: RefCell<Option<World<BlkPmem>>> = const { RefCell::new(None) };
}

/// Runs the choices that the bytes encode.
///
/// # Panics
/// If a promise is broken, with the report.
pub fn target(bytes: &[u8]) {
    let Some((&which, bytes)) = bytes.split_first() else { return };
    match which % 8 {
        0 => MEMORY.with_borrow_mut(|world| run("pmem", world, bytes)),
        1 => BOTH.with_borrow_mut(|world| run("blk+pmem", world, bytes)),
        _ => DISK.with_borrow_mut(|world| run("blk", world, bytes)),
    }
}

fn run<D: DeviceUnderTest>(device: &str, kept: &mut Option<World<D>>, bytes: &[u8]) {
    let mut choose = Endless::new(bytes);
    let schedule = choose.pick(
        &[Schedule::Uniform, Schedule::Uniform, Schedule::Pct, Schedule::Naive],
        Site::Option,
    );
    let setup = D::Setup::default();
    let mut options = Preset::Swarm.draw(D::KINDS, &mut choose);
    options.requests = 1 + options.requests % MOST_REQUESTS;
    let plan = Plan { preset: Preset::Swarm, schedule, contract: None };
    let world = kept.get_or_insert_with(|| World::new(setup, options.shape, RUN));
    let mut actions = Vec::new();
    let verdict = lead(world, plan, options, RUN, &mut choose, |action| actions.push(*action));
    if verdict.failure.is_some() {
        *kept = None;
        report::<D>(device, options.shape, actions, &verdict);
    }
}

/// Prints the report of a failed run and saves its trace.
#[cold]
fn report<D: DeviceUnderTest>(
    device: &str,
    shape: WorldShape,
    actions: Vec<Action>,
    verdict: &Verdict,
) {
    let failure = verdict.failure.as_deref().expect("the verdict has a failure");
    let mut world = World::<D>::new(D::Setup::default(), shape, RUN);
    world.keep_journal();
    replay(&mut world, shape, RUN, &actions, |_| {});
    let trace = Trace {
        device: device.to_owned(),
        disk: "sim".to_owned(),
        broke: Signature::of(&failure.violation),
        seed: String::new(),
        run: RUN,
        shape: *world.shape(),
        witness: Vec::new(),
        only_if: String::new(),
        events: verdict.hash,
        actions,
    };
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join(format!("artifacts/run-{:016x}.trace", verdict.hash));
    let written = std::fs::create_dir_all(path.parent().expect("in a folder"))
        .and_then(|()| std::fs::write(&path, trace.to_string()));
    let provenance = Provenance { from: "the bytes".to_owned(), ..Provenance::default() };
    let story = tell(&world, failure, &provenance, Style::default());
    match written {
        Ok(()) => panic!("{story}\n  powerfail shrink {}\n", path.display()),
        Err(e) => panic!("{story}\n  cannot write {}: {e}\n", path.display()),
    }
}
