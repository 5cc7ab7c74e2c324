//! `powerfail attach`: judges the backend that another project ships.
//!
//! First what it offers; then one write and one power loss for each way in which a driver can
//! negotiate, because that answers the question that most people have; then runs of seeds, as
//! [`run`](super::run) does them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use powerfail_device::host::Shown;

use super::interrupt::Stopped;
use super::replay::TIMES;
use super::run::Running;
use super::target::{ATTACHED, Visit as _};
use super::{PASSED, RunArgs, Subject, VIOLATED, contract, judged_by, say};
use crate::attach::{Backend, Foreign, Offer, probe};
use crate::base::files::write_whole;
use crate::base::shell::word;
use crate::dut::Profile;
use crate::report::{Provenance, Style, broken, tell};
use crate::run::rows::{ROWS, RowCase};
use crate::schedule::Schedule;
use crate::schedule::options::Preset;
use crate::shrink::unshrunk;
use crate::trace::{Signature, features};
use crate::world::{Failure, World, WorldShape};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct AttachArgs {
    /// The backend: the name of a preset, or the path of a file that ends in `.toml`. Without it,
    /// the presets are listed.
    #[arg(conflicts_with = "spawn")]
    preset: Option<String>,
    /// The command line of a backend without a preset. `{socket}` is where it listens; its disk
    /// is `{nbd}`, the socket of an NBD server, or `{file}`, a file (needs FUSE).
    #[arg(long, value_name = "CMD")]
    spawn: Option<String>,
    /// The contract to judge by: literal, which demands what the specification's text forces, or
    /// strict.
    #[arg(long, default_value = "literal", value_name = "NAME", value_parser = contract)]
    contract: Profile,
    /// Number of seeds.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    from: u64,
    /// Number of threads, each with a backend of its own; all cores if not given.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Run seeds for this time, such as `90s` or `8h`, and not for their number.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    limit: Option<Duration>,
    /// Continue after a broken promise.
    #[arg(long)]
    keep_going: bool,
    /// A file of known findings, which are counted but neither stop nor fail the runs.
    #[arg(long, value_name = "FILE")]
    known: Option<PathBuf>,
    /// Folder for traces and summary.json.
    #[arg(long, default_value = "out", value_name = "DIR")]
    out: PathBuf,
    /// The kind of runs: swarm, calm or bench.
    #[arg(long, default_value_t)]
    profile: Preset,
    /// The order of steps: uniform, pct or naive.
    #[arg(long, default_value_t)]
    schedule: Schedule,
}

pub(super) fn run(args: &AttachArgs, style: Style, stopped: &Stopped) -> Result<u8, String> {
    let Some((name, backend)) = chosen(args)? else {
        list();
        return Ok(PASSED);
    };
    introduce(&name, &backend);
    let offer = offer(&backend)?;
    if !ROWS.iter().any(|row| row.is_possible(offer.shown, offer.writeback)) {
        say::line(
            "  It offers no FLUSH, so it owes nothing after a power loss (5.2.6.2, BLK-D-34).",
        );
    }
    let device = format!("{ATTACHED}{name}");
    let rows = Rows { device: &device, args, style };
    let lost = rows.judge(&backend, &offer)?;
    let known = backend.preset().known.iter();
    let avoided: Vec<&String> = known.collect();
    if !avoided.is_empty() {
        say::line("  Known of it, and neither provoked nor judged here:");
        for what in avoided {
            say::out(lines(&format!("- {what}"), style, 4));
        }
    }
    if lost && !args.keep_going {
        say::line(format_args!("  {}", judged_by(args.contract)));
        return Ok(VIOLATED);
    }
    let seeds = if args.limit.is_some() { u64::MAX - args.from } else { args.seeds };
    let args = RunArgs {
        seeds,
        from: args.from,
        jobs: args.jobs,
        limit: args.limit,
        keep_going: args.keep_going,
        cells: false,
        known: args.known.clone(),
        out: args.out.clone(),
        subject: Subject {
            device: Some(device.clone()),
            disk: None,
            power_cuts: false,
            profile: args.profile,
            schedule: args.schedule,
            contract: Some(args.contract),
        },
    };
    let code = Running::new(&args, &device, "sim", style, stopped)?.visit::<Foreign>(backend)?;
    Ok(if lost { VIOLATED } else { code })
}

/// The backend that was asked for, with its name; `None` if none was.
fn chosen(args: &AttachArgs) -> Result<Option<(String, Backend)>, String> {
    if let Some(command) = &args.spawn {
        // Traces name the file, so that they can be replayed.
        let preset = Backend::spawned(command)?;
        std::fs::create_dir_all(&args.out)
            .map_err(|e| format!("cannot create the folder {}: {e}", Shown(&args.out)))?;
        let path = args.out.join("spawn.toml");
        write_whole(&path, preset.as_bytes())?;
        let name = path.to_string_lossy().into_owned();
        let backend = Backend::named(&name)?;
        return Ok(Some((name, backend)));
    }
    let Some(name) = &args.preset else { return Ok(None) };
    Ok(Some((name.clone(), Backend::named(name)?)))
}

fn list() {
    say::line("The presets, for `powerfail attach PRESET`:");
    let width = Backend::names().map(str::len).max().unwrap_or(0);
    for name in Backend::names() {
        let about = Backend::named(name).map(|backend| backend.preset().about.clone());
        say::line(format_args!("  {name:width$}  {}", about.unwrap_or_default()));
    }
    say::line("Another backend: powerfail attach --spawn 'CMD ... {socket} ... {nbd} or {file}'");
}

/// A paragraph of the width of the terminal.
fn lines(text: &str, style: Style, indent: usize) -> String {
    let lines = broken(text, style.columns().saturating_sub(indent), 2);
    lines.iter().map(|line| format!("{:indent$}{line}\n", "")).collect()
}

/// Says what is going to be judged, and which version of it.
fn introduce(name: &str, backend: &Backend) {
    let preset = backend.preset();
    say::line(format_args!("{name}: {}", preset.about));
    let Some(version) = &preset.version else { return };
    let output = Command::new("sh").args(["-c", version]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    if let Some(first) = text.unwrap_or_default().lines().next() {
        say::line(format_args!("  {first}"));
    }
}

/// Starts the backend once. Prints and returns what it offers.
fn offer(backend: &Backend) -> Result<Offer, String> {
    let preset = backend.preset();
    let offer = probe(backend).map_err(|what| match &preset.package {
        Some(package) => format!("{what}; it is in the package {package}"),
        None => what,
    })?;
    say::line(format_args!("  offers    {}", features(offer.shown)));
    if offer.kept_back != 0 {
        say::line(format_args!("  unused    {}", features(offer.kept_back)));
    }
    let (used, absent): (Vec<_>, Vec<_>) = offer.protocol().partition(|(_, is_used)| *is_used);
    let names = |all: Vec<(&'static str, bool)>| {
        let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    say::line(format_args!("  protocol  {} used; {} absent", names(used), names(absent)));
    Ok(offer)
}

/// The judgement of each row of the stability table.
struct Rows<'a> {
    device: &'a str,
    args: &'a AttachArgs,
    style: Style,
}

impl Rows<'_> {
    /// Runs all possible rows, prints a line for each, and then the stories. Returns whether a
    /// promise was broken.
    fn judge(&self, backend: &Backend, offer: &Offer) -> Result<bool, String> {
        let shape = WorldShape { contract: self.args.contract, ..WorldShape::default() };
        let shape = shape.fitting::<Foreign>(backend);
        say::line(
            "  row  the driver accepts             a write is stable   a power loss after that",
        );
        let mut stories = Vec::new();
        for row in ROWS {
            let (driver, stable) = (row.driver, row.stable);
            let found = if row.is_possible(offer.shown, offer.writeback) {
                let mut world = World::<Foreign>::new(backend.clone(), shape, 1);
                match row.run(&mut world, shape).failure {
                    None => "kept".to_owned(),
                    Some(failure) => {
                        let (count, path) = self.keep(backend, row, shape, &failure)?;
                        stories.push((row, failure, path));
                        format!("BROKEN, {count} of {TIMES} times")
                    }
                }
            } else if row.is_possible(offer.shown, false) {
                "writeback reads 1".to_owned()
            } else {
                "not offered".to_owned()
            };
            say::line(format_args!("  {}    {driver:30} {stable:19} {found}", row.letter));
        }
        say::line("");
        for (row, failure, path) in &stories {
            say::line(self.tell(backend, *row, shape, failure, path));
        }
        Ok(!stories.is_empty())
    }

    /// Repeats a failing row and saves its trace. Returns how often it failed again.
    fn keep(
        &self,
        backend: &Backend,
        row: RowCase,
        shape: WorldShape,
        failure: &Failure,
    ) -> Result<(u32, PathBuf), String> {
        let signature = Signature::of(&failure.violation);
        let fails = |_: &u32| {
            let mut world = World::<Foreign>::new(backend.clone(), shape, 1);
            row.run(&mut world, shape).failure.is_some()
        };
        let count = (0..TIMES).filter(fails).count() as u32;
        let names = (self.device, "sim");
        let trace = unshrunk::<Foreign>(backend, shape, 1, row.actions(), &signature, names);
        let trace = crate::trace::Trace { seed: format!("row {}", row.letter), ..trace };
        let out = &self.args.out;
        std::fs::create_dir_all(out)
            .map_err(|e| format!("cannot create the folder {}: {e}", Shown(out)))?;
        let set = if row.sets_mode() { "-set" } else { "" };
        let path = out.join(format!("row-{}{set}.trace", row.letter));
        write_whole(&path, trace.to_string().as_bytes())?;
        Ok((count, path))
    }

    fn tell(
        &self,
        backend: &Backend,
        row: RowCase,
        shape: WorldShape,
        failure: &Failure,
        path: &Path,
    ) -> String {
        let mut world = World::<Foreign>::new(backend.clone(), shape, 1);
        world.keep_journal();
        let again = row.run(&mut world, shape).failure;
        let provenance = Provenance {
            from: format!("row {}", row.letter),
            replay: Some(format!("powerfail replay {}", word(path))),
            ..Provenance::default()
        };
        tell(&world, again.as_deref().unwrap_or(failure), &provenance, self.style)
    }
}
