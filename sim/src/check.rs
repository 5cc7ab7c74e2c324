//! Seeds run against a device by its own tests, with the story of a finding as the message.
//!
//! A check is a function of the device, its set-up and the options: it reads no clock, writes no
//! file, and its result does not depend on the number of threads.
//!
//! Not here: traces of fixed bugs ([`replay_dir`](crate::replay_dir)).

use std::collections::BTreeSet;
use std::fmt;

use crate::dut::{DeviceUnderTest, Profile, Rule};
use crate::report::{Provenance, Style, tell};
use crate::run::campaign::{BLOCK, Divergence, Finding, Orders, Progress, Report, campaign_beyond};
use crate::run::certainty::certainty;
use crate::run::{Plan, record, replay, run_number};
use crate::schedule::Schedule;
use crate::schedule::options::Preset;
use crate::shrink::{Effort, shrink, unshrunk};
use crate::trace::{Signature, Trace};
use crate::world::World;

/// The most replays that shrink one finding.
const REPLAYS: u32 = 20_000;

/// A check of a device: how many seeds, and how they are run. [`run`](Self::run) runs them.
#[derive(Clone, Debug)]
#[must_use = "a check does nothing before it is run"]
pub struct Check<D: DeviceUnderTest> {
    setup: D::Setup,
    seeds: u64,
    from: u64,
    plan: Plan,
    jobs: usize,
    name: String,
}

/// Checks a device, opened with this set-up, with the first `seeds` seeds.
///
/// ```no_run
/// # use powerfail::devices::blk::Blk as MyDevice;
/// // In a test:
/// powerfail::check::<MyDevice>((), 10_000).assert_silent();
/// ```
pub fn check<D: DeviceUnderTest>(setup: D::Setup, seeds: u64) -> Check<D> {
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Check { setup, seeds, from: 0, plan: Plan::default(), jobs, name: "own".to_owned() }
}

impl<D: DeviceUnderTest> Check<D> {
    /// Starts with this seed instead of 0.
    pub fn from(self, seed: u64) -> Check<D> {
        Check { from: seed, ..self }
    }

    /// Judges by this contract instead of that [of the device](DeviceUnderTest::PROFILE).
    pub fn contract(mut self, contract: Profile) -> Check<D> {
        self.plan.contract = Some(contract);
        self
    }

    /// Draws the options of the runs by this preset instead of [`Preset::Swarm`].
    pub fn preset(mut self, preset: Preset) -> Check<D> {
        self.plan.preset = preset;
        self
    }

    /// Orders the steps by this schedule instead of [`Schedule::Uniform`].
    pub fn schedule(mut self, schedule: Schedule) -> Check<D> {
        self.plan.schedule = schedule;
        self
    }

    /// Uses this many threads instead of one for each core.
    pub fn jobs(self, jobs: usize) -> Check<D> {
        Check { jobs: jobs.max(1), ..self }
    }

    /// The name of the set-up in traces and commands: that of [`main_with`](crate::main_with).
    pub fn named(self, name: &str) -> Check<D> {
        Check { name: name.to_owned(), ..self }
    }

    /// Runs the seeds, up to the end of the first block of them in which a promise is broken, and
    /// shrinks what was found.
    #[must_use]
    pub fn run(&self) -> Checked {
        let report = self.campaign(self.from, self.seeds, &BTreeSet::new());
        let findings = report
            .findings
            .iter()
            .map(|(signature, finding)| self.explain(signature, finding))
            .collect();
        Checked {
            seeds: report.stats.runs,
            losses: D::MEDIUM.loses_power().then_some(report.stats.volatile_losses),
            findings,
            diverged: report.divergence.as_ref().map(Divergence::to_string),
            report,
        }
    }

    /// Runs the seeds and asserts that no promise was broken.
    ///
    /// # Panics
    /// As [`Checked::assert_silent`].
    #[track_caller]
    pub fn assert_silent(&self) {
        self.run().assert_silent();
    }

    /// Runs seeds until this rule is broken, past findings of other rules, and returns the finding.
    /// For a device with a deliberate mistake.
    ///
    /// # Panics
    /// If no seed breaks the rule. The message says which others were broken.
    #[track_caller]
    pub fn assert_finds(&self, rule: Rule) -> CheckedFinding {
        let mut others: BTreeSet<Signature> = BTreeSet::new();
        let mut done = 0;
        while done < self.seeds {
            // Findings of other rules are known from here on, so they do not stop the runs.
            let from = self.from.saturating_add(done);
            let report = self.campaign(from, self.seeds - done, &others);
            if let Some(divergence) = &report.divergence {
                panic!("{divergence}");
            }
            let wanted = report.findings.iter().find(|(signature, _)| signature.rule == rule);
            if let Some((signature, finding)) = wanted {
                return self.explain(signature, finding);
            }
            others.extend(report.findings.into_keys());
            done += report.stats.runs.next_multiple_of(BLOCK);
        }
        let seeds = self.seeds;
        let others: Vec<String> = others.iter().map(Signature::to_string).collect();
        let others = match others.is_empty() {
            true => "nothing else either".to_owned(),
            false => format!("but {}", others.join(", ")),
        };
        panic!("{seeds} seeds do not break `{}`, {others}", rule.name());
    }

    fn campaign(&self, from: u64, seeds: u64, known: &BTreeSet<Signature>) -> Report {
        let Check { plan, jobs, .. } = *self;
        let orders = Orders { from, jobs, ..Orders::new(plan, seeds) };
        campaign_beyond::<D>(&self.setup, orders, known, &Progress::default(), &|_, _| {}, |_| {})
    }

    /// Shrinks one finding and tells its story.
    fn explain(&self, signature: &Signature, finding: &Finding) -> CheckedFinding {
        let Check { setup, plan, jobs, name, .. } = self;
        let seed = finding.seed;
        let (shape, actions) = record::<D>(setup, *plan, seed);
        let run = run_number(seed);
        let effort = Effort { replays: REPLAYS, jobs: *jobs, stop: &|_| false };
        let short = shrink::<D>(setup, shape, run, &actions, signature, &effort);
        let from = actions.len();
        let trace = match &short {
            Some(short) => short.trace(name, "sim"),
            None => unshrunk::<D>(setup, shape, run, actions, signature, (name, "sim")),
        };
        let trace = Trace { seed: format!("{seed} {} {}", plan.preset, plan.schedule), ..trace };
        let mut world = World::<D>::new(setup.clone(), trace.shape, trace.run);
        world.keep_journal();
        let verdict = replay(&mut world, trace.shape, trace.run, &trace.actions, |_| {});
        let failure = verdict.failure.as_ref().unwrap_or(&finding.failure);
        let provenance = Provenance {
            from: format!("seed {seed} ({name})"),
            shrunk: short.as_ref().map(|short| (from, short.actions.len())),
            replay: None,
            only_if: short.as_ref().and_then(|short| short.only_if.clone()),
            certainty: if short.is_some() { certainty(&world) } else { None },
        };
        let story = tell(&world, failure, &provenance, Style::default());
        let signature = signature.clone();
        CheckedFinding { signature, seed, count: finding.count, story, trace }
    }
}

/// One kind of failure that a check found.
#[derive(Clone, Debug)]
pub struct CheckedFinding {
    /// The broken rule, the class of the wrong content, and the kind of the request.
    pub signature: Signature,
    /// The smallest seed that shows it.
    pub seed: u64,
    /// The number of seeds that showed it.
    pub count: u64,
    /// The story of the shrunk run.
    pub story: String,
    /// The shrunk run. Its text, in a file of the folder that a test passes to
    /// [`replay_dir`](crate::replay_dir()), keeps the bug fixed.
    pub trace: Trace,
}

/// The story, then the trace, and how to replay it.
impl fmt::Display for CheckedFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CheckedFinding { story, trace, .. } = self;
        writeln!(f, "{story}")?;
        let rule = self.signature.rule.name();
        writeln!(f, "  To replay it, save the lines from `powerfail trace` to `end` as a file")?;
        writeln!(
            f,
            "  such as traces/{rule}.trace, and run `replay FILE` of the program with this"
        )?;
        writeln!(f, "  device, or `powerfail::replay_dir` in a test:\n")?;
        write!(f, "{trace}")
    }
}

/// The result of a check.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The number of seeds that were run.
    pub seeds: u64,
    /// The number of power losses that hit volatile data; `None` if the device's runs lose no
    /// power.
    pub losses: Option<u64>,
    /// What was found, shrunk, in the order of signatures.
    pub findings: Vec<CheckedFinding>,
    /// The difference between two runs of one seed, if there was one: the device depends on more
    /// than its inputs.
    pub diverged: Option<String>,
    /// All figures.
    pub report: Report,
}

impl Checked {
    /// Asserts that no promise was broken, and that something was measured.
    ///
    /// # Panics
    /// With the story and the trace of each finding. Or if a run was not reproducible; or if no
    /// power loss hit volatile data, because then the runs say nothing about durability.
    #[track_caller]
    pub fn assert_silent(&self) {
        if let Some(diverged) = &self.diverged {
            panic!("{diverged}");
        }
        if !self.findings.is_empty() {
            let told: Vec<String> = self.findings.iter().map(ToString::to_string).collect();
            panic!("a promise is broken\n\n{}", told.join("\n\n"));
        }
        assert!(
            self.losses != Some(0),
            "not measured: in {} seeds no power loss hit volatile data",
            self.seeds
        );
    }

    /// Asserts that this rule was broken, and returns the finding.
    ///
    /// # Panics
    /// If it was not. [`Check::assert_finds`] looks past findings of other rules.
    #[track_caller]
    pub fn assert_finds(&self, rule: Rule) -> &CheckedFinding {
        let found = self.findings.iter().find(|finding| finding.signature.rule == rule);
        found.unwrap_or_else(|| {
            let others: Vec<String> =
                self.findings.iter().map(|finding| finding.signature.to_string()).collect();
            panic!("`{}` was not broken; found: [{}]", rule.name(), others.join(", "))
        })
    }
}
