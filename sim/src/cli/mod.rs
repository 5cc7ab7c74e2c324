//! The command line.
//!
//! It is generic over the devices under test, so that a binary with another device offers every
//! command: see [`main()`]. Exit codes are the same for all commands:
//!
//! | code | meaning |
//! |---|---|
//! | 0 | no promise was broken |
//! | 1 | a promise was broken |
//! | 2 | the input is invalid, or an output cannot be written and there is no other result |
//! | 3 | a run was not reproducible |
//! | 4 | no power loss hit volatile data, or a situation was never reached: nothing was measured |
//! | 5 | a replay did not reach the situation of its trace |
//! | 6 | a search was stopped before it was complete |
//! | 7 | powerfail itself failed, and reports where |
//!
//! They do not depend on whether the output is read: see [`say`]. A command that a signal ends at
//! once has no exit code; see [`interrupt`].

mod attach;
mod explain;
mod explore;
mod export;
mod found;
mod image;
mod interrupt;
mod output;
mod replay;
mod run;
mod say;
mod serve;
mod shrink;
mod statement;
mod style;
mod target;
mod until;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::dut::caught::is_of_a_device;
use crate::dut::{DeviceUnderTest, Profile};
use crate::run::Plan;
use crate::schedule::Schedule;
use crate::schedule::options::Preset;
use crate::trace::Trace;
use interrupt::Stopped;
use target::{Builtin, Own, Targets};

/// No promise was broken.
const PASSED: u8 = 0;
/// A promise was broken.
const VIOLATED: u8 = 1;
/// The input is invalid.
const USAGE: u8 = 2;
/// A run was not reproducible.
const NOT_REPRODUCIBLE: u8 = 3;
/// No power loss hit volatile data.
const NOT_MEASURED: u8 = 4;
/// The situation was not reached.
const NOT_REACHED: u8 = 5;
/// A search was stopped before it was complete.
const NOT_COMPLETE: u8 = 6;
/// Powerfail itself failed.
const MISTAKEN: u8 = 7;
/// The code by which `git bisect run` skips a commit that cannot be tested.
const BISECT_SKIP: u8 = 125;

/// Pulls the plug on a virtio disk, a million times a minute, and says which promise it broke.
/// The exit codes, for `--help`.
const CODES: &str = "Exit codes:
  0  no promise was broken
  1  a promise was broken
  2  the input is invalid, or an output cannot be written
  3  a run was not reproducible
  4  no power loss hit volatile data, or a situation was never reached
  5  a replay did not reach the situation of its trace
  6  a search was stopped before it was complete
  7  powerfail itself failed";

#[derive(Debug, Parser)]
#[command(name = "powerfail", version, max_term_width = 100, after_help = CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// When to colour stories.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    color: style::Colour,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run seeds.
    Run(RunArgs),
    /// Judge the backend that another project ships: a program that serves vhost-user-blk.
    Attach(attach::AttachArgs),
    /// Check every schedule within a scope.
    Explore(explore::ExploreArgs),
    /// Replay a trace or a seed, and print its story.
    Replay(ReplayArgs),
    /// Shorten a failing trace or seed as far as possible.
    Shrink(ShrinkArgs),
    /// Write the disk image that a power loss in a trace may leave.
    Image(image::ImageArgs),
    /// Write the disk operations of a trace in a format that other programs replay.
    Export(export::ExportArgs),
    /// Serve a file as a disk to a guest in another process, over vhost-user.
    Serve(serve::ServeArgs),
    /// Explain a requirement, a row of the stability table or a rule, as stories cite them.
    Explain(explain::ExplainArgs),
    /// List the mutants that `wrong:NAME` selects: disks, devices and memories.
    Wrong,
    /// Print the event hash of a seed.
    #[command(hide = true)]
    Hash(ReplayArgs),
}

/// The device and disk under test, and the way runs are drawn.
#[derive(Clone, Debug, clap::Args)]
struct Subject {
    /// The device: `blk`, `pmem`, `blk+pmem` for a guest with both, or `wrong:NAME`. In a program
    /// with a device of its own, the name of a set-up.
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// The disk below it: `sim`, `wrong:NAME`, `file:PATH`, `uring:PATH`, or `map:PATH` for a
    /// `pmem`.
    #[arg(long, value_name = "NAME")]
    disk: Option<String>,
    /// Cut the power below the file of `--disk`: put it on a file system that drops unsynced data
    /// (needs FUSE).
    #[arg(long)]
    power_cuts: bool,
    /// The kind of runs: swarm, calm or bench.
    #[arg(long, default_value_t)]
    profile: Preset,
    /// The order of steps: uniform, pct or naive.
    #[arg(long, default_value_t)]
    schedule: Schedule,
    /// The contract to judge by: strict or literal; by default that of the device, or of the trace.
    #[arg(long, value_name = "NAME", value_parser = contract)]
    contract: Option<Profile>,
}

impl Subject {
    /// How the runs of seeds are made.
    fn plan(&self) -> Plan {
        Plan { preset: self.profile, schedule: self.schedule, contract: self.contract }
    }

    /// A trace, to be judged by the contract that was asked for, or else its own.
    fn judging(&self, mut trace: Trace) -> Trace {
        trace.shape.contract = self.contract.unwrap_or(trace.shape.contract);
        trace
    }
}

/// The contract that `--contract` names.
fn contract(name: &str) -> Result<Profile, String> {
    match name {
        "strict" => Ok(Profile::Strict),
        "literal" => Ok(Profile::Literal),
        _ => Err("there are strict and literal".to_owned()),
    }
}

/// The name of a contract, as `--contract` takes it.
fn word_of(contract: Profile) -> &'static str {
    match contract {
        Profile::Strict => "strict",
        Profile::Literal => "literal",
    }
}

/// The contract of a verdict, with its assumptions, as a line to be printed beside the verdict.
fn judged_by(contract: Profile) -> String {
    let assumptions = contract.assumptions().join(", ");
    format!("contract {}, which assumes: {assumptions}", contract.name())
}

#[derive(Clone, Debug, clap::Args)]
struct RunArgs {
    /// Number of seeds.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    from: u64,
    /// Number of threads; all cores if not given.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Stop after this time, such as `90s` or `8h`.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    limit: Option<Duration>,
    /// Continue after a broken promise.
    #[arg(long)]
    keep_going: bool,
    /// Print what was in flight at each crash, by row of the stability table, and how often.
    #[arg(long)]
    cells: bool,
    /// A file of known findings, which are counted but neither stop nor fail the runs.
    #[arg(long, value_name = "FILE")]
    known: Option<PathBuf>,
    /// Folder for traces and summary.json.
    #[arg(long, default_value = "out", value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    subject: Subject,
}

#[derive(Clone, Debug, clap::Args)]
struct ReplayArgs {
    /// A trace file.
    #[arg(required_unless_present = "seed", conflicts_with = "seed")]
    trace: Option<PathBuf>,
    /// A seed instead of a trace.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Rewrite the trace file as it was replayed, in the current format, if it still fails.
    #[arg(long, conflicts_with = "seed")]
    rewrite: bool,
    /// Exit as `git bisect run` expects: 0 passes, 1 fails, 125 for anything else.
    #[arg(long, conflicts_with_all = ["seed", "rewrite"])]
    bisect: bool,
    /// Show every event, not only those that bear on the broken promise.
    #[arg(long)]
    all: bool,
    /// Stop before this action of the trace, counted from 1, and print the state of the world.
    #[arg(long, value_name = "N", conflicts_with_all = ["seed", "rewrite", "bisect", "all"])]
    until: Option<usize>,
    #[command(flatten)]
    subject: Subject,
}

#[derive(Clone, Debug, clap::Args)]
struct ShrinkArgs {
    /// A trace file.
    #[arg(required_unless_present = "seed", conflicts_with = "seed")]
    trace: Option<PathBuf>,
    /// A seed instead of a trace.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// File for the shorter trace. The default is `NAME.short.trace` next to the longer one, or a
    /// new file in `out/` for a seed.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Stop after this time with the shortest trace so far, such as `90s` or `1h`.
    #[arg(long, default_value = "1m", value_name = "DURATION", value_parser = humantime::parse_duration)]
    budget: Duration,
    /// Number of threads; all cores if not given.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Replace an existing file.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    subject: Subject,
}

/// The command line for another device.
///
/// ```no_run
/// # use powerfail::devices::blk::Blk as MyDevice;
/// fn main() -> std::process::ExitCode {
///     powerfail::main::<MyDevice>()
/// }
/// ```
#[must_use]
pub fn main<D: DeviceUnderTest>() -> ExitCode {
    main_with::<D>(&[("own", D::Setup::default())])
}

/// The command line for another device in several set-ups, such as sizes, variants, or twins with
/// one deliberate mistake. `--device NAME` chooses one; without it, the first is taken, or the one
/// that a trace names.
///
/// ```no_run
/// # use powerfail::devices::permissive::{Liberty, PermissiveDevice as MyDevice};
/// fn main() -> std::process::ExitCode {
///     powerfail::main_with::<MyDevice>(&[
///         ("plain", None),
///         ("any-order", Some(Liberty::AnyOrder)),
///     ])
/// }
/// ```
#[must_use]
pub fn main_with<D: DeviceUnderTest>(setups: &[(&str, D::Setup)]) -> ExitCode {
    match Own::<D>::new(setups) {
        Ok(targets) => begin(&targets),
        Err(what) => {
            say::note(what);
            ExitCode::from(USAGE)
        }
    }
}

/// The command line of the `powerfail` binary: this repository's devices and the mutants.
#[must_use]
pub fn builtin() -> ExitCode {
    begin(&Builtin)
}

fn begin(targets: &impl Targets) -> ExitCode {
    std::panic::set_hook(Box::new(|info| {
        // A panic of the device under test is a result, reported like every other one.
        if !is_of_a_device() {
            let said = info.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            say::note(format_args!("internal error: {said}"));
        }
    }));
    let cli = Cli::parse();
    let bisects = matches!(&cli.command, Command::Replay(args) if args.bisect);
    let result = catch_unwind(AssertUnwindSafe(|| dispatch(targets, cli)));
    let code = match result {
        Ok(Ok(code)) => code,
        Ok(Err(what)) => {
            say::note(what);
            USAGE
        }
        Err(_) if bisects => BISECT_SKIP,
        Err(_) => MISTAKEN,
    };
    ExitCode::from(code)
}

fn dispatch(targets: &impl Targets, cli: Cli) -> Result<u8, String> {
    let colour = cli.color;
    let stopped = match &cli.command {
        // It installs its own handlers.
        Command::Serve(_) => Stopped::default(),
        Command::Run(_) | Command::Attach(_) | Command::Explore(_) | Command::Shrink(_) => {
            interrupt::heed(true)?
        }
        _ => interrupt::heed(false)?,
    };
    match cli.command {
        Command::Run(args) => run::run(targets, &args, colour.style(false), &stopped),
        Command::Attach(args) => attach::run(&args, colour.style(false), &stopped),
        Command::Explore(args) => explore::run(targets, &args, colour.style(false), &stopped),
        Command::Replay(args) => replay::replay(targets, &args, colour.style(args.all)),
        Command::Shrink(args) => shrink::run(targets, &args, colour.style(false), &stopped),
        Command::Image(args) => image::run(targets, &args),
        Command::Export(args) => export::run(targets, &args),
        Command::Serve(args) => serve::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Hash(args) => replay::hash(targets, &args),
        Command::Wrong => {
            say::out(targets.wrong());
            Ok(PASSED)
        }
    }
}
