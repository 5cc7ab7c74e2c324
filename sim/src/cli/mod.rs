//! The command line.
//!
//! It is generic over what can be put under test, so that a binary with a device of its own has
//! all of it: see [`main()`]. Exit codes are the same everywhere:
//!
//! | code | meaning |
//! |---|---|
//! | 0 | no promise was broken |
//! | 1 | a promise was broken |
//! | 2 | the input makes no sense, or what nothing depends on yet cannot be written |
//! | 3 | a run was not reproducible |
//! | 4 | nothing volatile was ever cut, so nothing was measured |
//! | 5 | a replay did not reach the situation its trace is about |
//! | 6 | a search was stopped before it was through |
//! | 7 | powerfail itself made a mistake, and says where |
//!
//! They do not depend on who takes what is printed: see [`say`]. A command that a signal ends at
//! once has no code of its own; see [`interrupt`].

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
/// The input makes no sense.
const USAGE: u8 = 2;
/// A run was not reproducible.
const NOT_REPRODUCIBLE: u8 = 3;
/// Nothing volatile was ever cut.
const NOT_MEASURED: u8 = 4;
/// The situation was not reached.
const NOT_REACHED: u8 = 5;
/// A search was stopped before it was through.
const NOT_COMPLETE: u8 = 6;
/// Powerfail itself made a mistake.
const MISTAKEN: u8 = 7;
/// What `git bisect run` takes for: this commit cannot be tested.
const BISECT_SKIP: u8 = 125;

/// Pulls the plug on a virtio disk, a million times a minute, and says which promise it broke.
#[derive(Debug, Parser)]
#[command(name = "powerfail", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Colours in stories.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    color: style::Colour,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run seeds.
    Run(RunArgs),
    /// Try every schedule up to a scope, and say so.
    Explore(explore::ExploreArgs),
    /// Replay a trace or a seed, and tell its story.
    Replay(ReplayArgs),
    /// Make a failing trace or seed as short as it gets.
    Shrink(ShrinkArgs),
    /// Write the disk of a trace as a power loss may leave it.
    Image(image::ImageArgs),
    /// Write what a trace asks of the disk in a format that others replay.
    Export(export::ExportArgs),
    /// Serve a file as a disk to a guest in another process, over vhost-user.
    Serve(serve::ServeArgs),
    /// Explain a requirement, a row of the stability table or a rule, as stories cite them.
    Explain(explain::ExplainArgs),
    /// List the wrong devices and disks that `wrong:NAME` selects.
    Wrong,
    /// Print the event hash of a seed.
    #[command(hide = true)]
    Hash(ReplayArgs),
}

/// What to put under test, and how.
#[derive(Clone, Debug, clap::Args)]
struct Subject {
    /// The device: `blk`, `pmem`, `blk+pmem` for a guest with both, or `wrong:NAME`.
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// The disk below it: `sim`, `wrong:NAME`, `file:PATH`, `uring:PATH`, or `map:PATH` for a
    /// `pmem`.
    #[arg(long, value_name = "NAME")]
    disk: Option<String>,
    /// Cut the power below the file of `--disk file:PATH`: put it under a file system that forgets
    /// what was not synced (needs FUSE).
    #[arg(long)]
    power_cuts: bool,
    /// The family of runs: swarm, calm or bench.
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
        trace.options.contract = self.contract.unwrap_or(trace.options.contract);
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
    /// How many seeds.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    from: u64,
    /// How many threads; all cores if not given.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Stop after this long, as `90s` or `8h`.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    limit: Option<Duration>,
    /// Go on after a promise was broken.
    #[arg(long)]
    keep_going: bool,
    /// A file of known findings, which are counted and neither stop the runs nor fail them.
    #[arg(long, value_name = "FILE")]
    known: Option<PathBuf>,
    /// Where traces and summary.json go.
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
    /// Bring the trace file up to date, if it still fails.
    #[arg(long, conflicts_with = "seed")]
    rewrite: bool,
    /// Exit as `git bisect run` expects: 0 passes, 1 fails, 125 for anything else.
    #[arg(long, conflicts_with_all = ["seed", "rewrite"])]
    bisect: bool,
    /// Tell every event, and not only those that matter for what was broken.
    #[arg(long)]
    all: bool,
    /// Stop before this action of the trace, counted from 1, and show the world.
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
    /// Where the shorter trace goes; `NAME.short.trace` beside the longer one if not given, or
    /// `out/` for a seed.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Stop after this long with what there is, as `90s` or `1h`.
    #[arg(long, default_value = "1m", value_name = "DURATION", value_parser = humantime::parse_duration)]
    budget: Duration,
    /// How many threads; all cores if not given.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Replace a file that is there already.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    subject: Subject,
}

/// The whole command line for a device of your own.
///
/// ```no_run
/// # use powerfail::devices::blk::Blk as MyDevice;
/// fn main() -> std::process::ExitCode {
///     powerfail::main::<MyDevice>()
/// }
/// ```
#[must_use]
pub fn main<D: DeviceUnderTest>() -> ExitCode {
    begin(&Own::<D>::new())
}

/// The command line of the `powerfail` binary: our device, and everything wrong.
#[must_use]
pub fn builtin() -> ExitCode {
    begin(&Builtin)
}

fn begin(targets: &impl Targets) -> ExitCode {
    std::panic::set_hook(Box::new(|info| {
        // A device that panics is a result, told like every other one.
        if !is_of_a_device() {
            let said = info.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            say::note(format_args!("this is a mistake of powerfail itself: {said}"));
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
        // It has signals of its own.
        Command::Serve(_) => Stopped::default(),
        Command::Run(_) | Command::Explore(_) | Command::Shrink(_) => interrupt::heed(true)?,
        _ => interrupt::heed(false)?,
    };
    match cli.command {
        Command::Run(args) => run::run(targets, &args, colour.style(false), &stopped),
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
