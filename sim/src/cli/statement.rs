//! The statement of an exhaustive search: its scope, its verdict and its counts.

use std::fmt;
use std::time::Duration;

use super::output::grouped;
use crate::dut::Profile;
use crate::explore::{Report, RequestKind, Row, Scope, Tally};
use crate::guest::Kind;

/// The statement of a search in which no promise was broken.
pub(super) struct Statement<'a> {
    pub(super) device: &'a str,
    pub(super) kind: Kind,
    pub(super) scope: &'a Scope,
    pub(super) contract: Profile,
    pub(super) report: &'a Report,
    /// The report of the largest scope with fewer requests that was searched completely.
    pub(super) smaller: Option<&'a Report>,
    /// The work of this process, over all numbers of requests.
    pub(super) work: &'a Tally,
    pub(super) elapsed: Duration,
    pub(super) jobs: usize,
}

/// `no host failure`, `1 sector`, `2 queues`.
fn many(count: u8, one: &str, more: &str) -> String {
    match count {
        0 => format!("no {one}"),
        1 => format!("1 {one}"),
        _ => format!("{count} {more}"),
    }
}

impl Statement<'_> {
    fn scope(&self) -> String {
        let Scope { requests, sectors, queues, in_flight, crashes, faults, resets, .. } =
            *self.scope;
        let has = |kind: &&RequestKind| self.kind == Kind::Disk || kind.is_of_memory();
        let kinds: Vec<String> =
            self.scope.kinds.iter().filter(has).map(RequestKind::to_string).collect();
        let rows: Vec<String> = self.scope.rows.iter().map(Row::to_string).collect();
        let (units, rows, atoms) = match self.kind {
            Kind::Disk => {
                let rows = format!(", rows {}", rows.join(" "));
                (many(sectors, "sector", "sectors"), rows, "512-byte sectors")
            }
            Kind::Memory => (many(sectors, "word", "words"), String::new(), "8-byte words"),
        };
        let resets = match resets {
            0 => String::new(),
            _ => format!(", {}", many(resets, "reset", "resets")),
        };
        format!(
            "{}: every workload of up to {} ({}) over {units} on {},\n\
             up to {in_flight} in flight, {}, {}{resets}{rows};\n\
             every order of effects and completions, every moment of a power loss,\n\
             every surviving subset of {atoms}",
            self.device,
            many(requests, "request", "requests"),
            kinds.join(", "),
            many(queues, "queue", "queues"),
            many(crashes, "power loss", "power losses"),
            many(faults, "host failure", "host failures"),
        )
    }

    fn verdict(&self) -> String {
        if self.report.is_complete() {
            return "complete: no promise is broken".to_owned();
        }
        let (done, parts) = (grouped(self.report.done), grouped(self.report.parts));
        let mut verdict = format!(
            "NOT COMPLETE: stopped. No promise is broken in {done} of the {parts} parts known so far"
        );
        if let Some(smaller) = self.smaller {
            let requests = many(smaller.requests, "request", "requests");
            let states = grouped(smaller.tally.states);
            verdict +=
                &format!(",\n  nor with up to {requests}, which is complete ({states} states)");
        }
        verdict
    }
}

impl fmt::Display for Statement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Statement { report, work, elapsed, jobs, .. } = self;
        let tally = &report.tally;
        write!(f, "{}\n\n  {}\n", self.scope(), self.verdict())?;
        write!(f, "  {}\n\n", super::judged_by(self.contract))?;
        let micros = elapsed.as_micros().max(1);
        let rate = |count: u64| grouped((u128::from(count) * 1_000_000 / micros) as u64);
        // Of n states any two collide with a probability of at most n² / 2^129.
        let bits = 129 - 2 * (u64::BITS - tally.states.leading_zeros());
        let least = if tally.schedules == u64::MAX { "at least; " } else { "" };
        let moments = tally.cuts.max(tally.images.min(1));
        let unit = if self.kind == Kind::Disk { "sectors" } else { "words" };
        let mut row = |name: &str, figure: u64, more: String| {
            let line = format!("  {name:<32}{:>20}  {more}", grouped(figure));
            writeln!(f, "{}", line.trim_end())
        };
        row(
            "classes of schedules",
            tally.schedules,
            format!("{least}in {} lives", grouped(report.lives)),
        )?;
        row(
            "states",
            tally.states,
            format!("by 128-bit fingerprints: two collide with a probability below 1 in 2^{bits}"),
        )?;
        row("steps", tally.steps, format!("{}/s on {jobs} threads", rate(work.steps)))?;
        let ratio = tally.schedule_steps / tally.steps.max(1);
        row("  saving", ratio, "times fewer than class by class".to_owned())?;
        row("  deepest", tally.deepest, "steps from power-on".to_owned())?;
        row("device steps", tally.device_steps, format!("{}/s", rate(work.device_steps)))?;
        row("crash images represented", tally.images, format!("at {} moments", grouped(moments)))?;
        row(
            "  contents read back",
            tally.recalls,
            format!("of single {unit}; the others are equivalent"),
        )?;
        row("idle states read back", tally.looks, "states".to_owned())?;
        if tally.turned_away > 0 {
            let more = "perhaps visited twice: --states is too small";
            row("states not remembered", tally.turned_away, more.to_owned())?;
        }
        let (seconds, tenths) = (elapsed.as_secs(), elapsed.subsec_millis() / 100);
        writeln!(f, "  took {seconds}.{tenths} s")?;
        let (numbers, names) = self.scope.flags();
        writeln!(f, "\n  {numbers}\n  {names}")
    }
}
