//! The trace reader: any bytes are a trace or are rejected with one line; a trace is written and
//! read again without a change, and its replay ends in a verdict.
//!
//! A file may encode any run, also one whose host fails although its options exclude it. So a
//! broken promise is a verdict and no finding. Findings are a panic of the device or of the
//! simulator, a run that does not end, and a text that changes its meaning when it is written.

use std::cell::RefCell;

use powerfail::devices::blk::Blk;
use powerfail::devices::pmem::Pmem;
use powerfail::dut::DeviceUnderTest;
use powerfail::guest::Kind;
use powerfail::run::judge;
use powerfail::run::{MOST_STEPS, replay};
use powerfail::trace::Trace;
use powerfail::world::{Failure, World};
use powerfail_model::Rule;

/// The most characters of an error; its quotation is cut.
const MOST_TOLD: usize = 300;

/// The most actions of a trace that is judged, which may take a run for each shift of each line;
/// longer ones are only replayed.
const FEW_ACTIONS: usize = 24;

/// The most actions of a trace that is replayed; longer ones are only read and written. The fuzzer
/// has shorter ones.
const MOST_ACTIONS: usize = 300;

thread_local! {
    static DISK: RefCell<Option<World<Blk>>> = const { RefCell::new(None) };
    static MEMORY: RefCell<Option<World<Pmem>>> = const { RefCell::new(None) };
}

/// Reads the bytes as a trace. If they are one, writes, reads and replays it.
///
/// # Panics
/// If any of these fails.
pub fn target(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let trace: Trace = match text.parse() {
        Ok(trace) => trace,
        Err(error) => {
            let told = error.to_string();
            let one_line = told.lines().count() == 1 && !told.contains(char::is_control);
            assert!(one_line, "more than a line: {told:?}");
            assert!(told.chars().count() < MOST_TOLD, "too long: {told:?}");
            assert!(error.line <= text.lines().count().max(1), "no such line: {told:?}");
            return;
        }
    };
    let written = trace.to_string();
    match written.parse::<Trace>() {
        Ok(again) => {
            assert_eq!(again, trace, "the written trace reads differently:\n{written}");
            assert_eq!(again.to_string(), written, "the trace read again is written differently");
        }
        Err(error) => panic!("the written text is not a trace: {error}\n{written}"),
    }
    if trace.actions.len() > MOST_ACTIONS {
        return;
    }
    match trace.shape.kind(0) {
        Kind::Disk => DISK.with_borrow_mut(|world| follow(world, &trace)),
        Kind::Memory => MEMORY.with_borrow_mut(|world| follow(world, &trace)),
    }
}

fn follow<D: DeviceUnderTest>(kept: &mut Option<World<D>>, trace: &Trace) {
    let make = || World::new(D::Setup::default(), trace.shape, trace.run);
    let world = kept.get_or_insert_with(make);
    let before = world.stats().steps;
    let failure = if trace.actions.len() <= FEW_ACTIONS {
        judge(world, trace).failure
    } else {
        replay(world, trace.shape, trace.run, &trace.actions, |_| {}).failure
    };
    let steps = world.stats().steps - before;
    // A single line may take as many steps again beyond the bound.
    assert!(steps <= 2 * MOST_STEPS + 2_000_000, "{steps} steps");
    let panicked = |failure: &Failure| failure.violation.rule == Rule::DevicePanicked;
    if let Some(failure) = failure.filter(|failure| panicked(failure)) {
        *kept = None;
        panic!("{:?}\n{trace}", failure.violation.note);
    }
    world_after(kept);
}

/// The next replay does not need the journal that was kept for a verdict.
fn world_after<D: DeviceUnderTest>(kept: &mut Option<World<D>>) {
    if kept.as_ref().is_some_and(|world| world.journal().is_some()) {
        *kept = None;
    }
}
