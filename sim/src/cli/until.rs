//! `powerfail replay --until`: a replay up to an action, and the state of the world there.

use rustix::process::{Signal, getpid, kill_process};

use super::target::Visit;
use super::{PASSED, VIOLATED, say};
use crate::dut::DeviceUnderTest;
use crate::report::{Style, snapshot};
use crate::run::{guarded, replay};
use crate::trace::Trace;
use crate::world::World;

pub(super) struct Stop<'a> {
    pub(super) trace: &'a Trace,
    pub(super) name: String,
    /// The action to stop before, counted from 1.
    pub(super) before: usize,
    pub(super) style: Style,
}

impl Visit for Stop<'_> {
    type Out = Result<u8, String>;

    fn visit<D: DeviceUnderTest>(self, setup: D::Setup) -> Result<u8, String> {
        let Stop { trace, name, before, style } = self;
        let actions = &trace.actions;
        let Some(next) = before.checked_sub(1).and_then(|at| actions.get(at)) else {
            let count = actions.len();
            return Err(format!(
                "{name} has no action {before}: give --until a number from 1 to {count}"
            ));
        };
        let mut world = World::<D>::new(setup, trace.shape, trace.run);
        let mut skipped = 0;
        let done = &actions[..before - 1];
        let verdict = replay(&mut world, trace.shape, trace.run, done, |_| skipped += 1);
        if let Some(failure) = verdict.failure {
            say::line(format_args!("{name} fails before action {before}: {}", failure.violation));
            return Ok(VIOLATED);
        }
        say::line(format_args!("{name} before action {before} of {}: {next}", actions.len()));
        if skipped > 0 {
            say::line(format_args!("skipped {skipped} actions before it that were not enabled"));
        }
        say::line(format_args!("\n{}", snapshot(&world, style)));
        if !is_traced() {
            return Ok(PASSED);
        }
        // A debugger stops here; the call of `World::step` below does the action.
        let _ = kill_process(getpid(), Signal::TRAP);
        let verdict = guarded(&mut world, |world| world.step(next).map(|_| false));
        match verdict.failure {
            Some(failure) => {
                say::line(format_args!("action {before} fails: {}", failure.violation));
                Ok(VIOLATED)
            }
            None => Ok(PASSED),
        }
    }
}

/// Whether a debugger is attached to this process.
fn is_traced() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|pid| pid.trim() != "0")
}
