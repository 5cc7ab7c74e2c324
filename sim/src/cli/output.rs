//! The summary of a campaign: the printed table and `summary.json`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::base::files::{CHECKSUM, checksum, write_whole};
use crate::dut::Profile;
use crate::guest::Kind;
use crate::report::broken;
use crate::run::campaign::Report;
use crate::run::known::Known;
use crate::world::Reach;
use crate::world::coverage::Situation;

/// The counts of a campaign. They do not depend on the number of jobs.
#[derive(Serialize)]
struct Summary<'a> {
    device: &'a str,
    disk: &'a str,
    profile: String,
    schedule: String,
    /// The contract that the runs were judged by, unless it is Strict.
    #[serde(skip_serializing_if = "Option::is_none")]
    contract: Option<&'static str>,
    from: u64,
    runs: u64,
    requests: u64,
    completions: u64,
    requests_failed: u64,
    reads: u64,
    writes: u64,
    flushes: u64,
    discards: u64,
    write_zeroes: u64,
    power_losses: u64,
    volatile_losses: u64,
    backend_kills: u64,
    resets: u64,
    host_faults: u64,
    sectors_lost: u64,
    sectors_kept: u64,
    event_hash: String,
    violations: Vec<Violated<'a>>,
    coverage: Vec<Reached>,
}

#[derive(Serialize)]
struct Violated<'a> {
    signature: String,
    requirement: &'static str,
    runs: u64,
    seed: u64,
    /// The link of a known finding.
    #[serde(skip_serializing_if = "Option::is_none")]
    known: Option<&'a str>,
}

#[derive(Serialize)]
struct Reached {
    situation: &'static str,
    count: u64,
}

/// The parameters of a campaign.
pub(super) struct Made<'a> {
    pub(super) device: &'a str,
    pub(super) disk: &'a str,
    pub(super) profile: String,
    pub(super) schedule: String,
    pub(super) contract: Profile,
    pub(super) from: u64,
    pub(super) known: &'a Known,
}

/// Writes `summary.json` atomically. Its last field is the checksum of all bytes before that
/// field's line.
///
/// # Errors
/// One line: the file cannot be written.
pub(super) fn write_summary(dir: &Path, made: &Made<'_>, report: &Report) -> Result<(), String> {
    let stats = &report.stats;
    let summary = Summary {
        device: made.device,
        disk: made.disk,
        profile: made.profile.clone(),
        schedule: made.schedule.clone(),
        contract: (made.contract != Profile::Strict).then(|| made.contract.name()),
        from: made.from,
        runs: stats.runs,
        requests: stats.requests,
        completions: stats.completions,
        requests_failed: stats.failures,
        reads: stats.by_kind[0],
        writes: stats.by_kind[1],
        flushes: stats.by_kind[2],
        discards: stats.by_kind[3],
        write_zeroes: stats.by_kind[4],
        power_losses: stats.power_losses,
        volatile_losses: stats.volatile_losses,
        backend_kills: stats.kills,
        resets: stats.resets,
        host_faults: stats.faults,
        sectors_lost: stats.sectors_lost,
        sectors_kept: stats.sectors_kept,
        event_hash: format!("{:016x}", report.hash),
        violations: report
            .findings
            .iter()
            .map(|(signature, finding)| Violated {
                signature: signature.to_string(),
                requirement: signature.rule.requirement(),
                runs: finding.count,
                seed: finding.seed,
                known: made.known.get(signature).map(|note| note.link.as_str()),
            })
            .collect(),
        coverage: Situation::ALL
            .into_iter()
            .map(|s| Reached { situation: s.name(), count: report.coverage.count(s) })
            .collect(),
    };
    let text = serde_json::to_string_pretty(&summary).expect("plain data is JSON");
    let fields = text.strip_suffix("\n}").expect("it is an object");
    let fields = format!("{fields},\n");
    let sum = checksum(CHECKSUM, fields.as_bytes());
    let text = format!("{fields}  \"checksum\": \"fnv1a64:{sum:016x}\"\n}}\n");
    write_whole(&dir.join("summary.json"), text.as_bytes())
}

/// The figures of a campaign as a table.
pub(super) fn table(
    report: &Report,
    elapsed: Duration,
    jobs: usize,
    kinds: [Kind; 2],
    reach: &Reach,
) -> String {
    let stats = &report.stats;
    let runs = stats.runs.max(1);
    let each = |n: u64| format!("{}.{:02} a run", n / runs, n * 100 / runs % 100);
    let rate = (u128::from(stats.runs) * 1_000_000 / elapsed.as_micros().max(1)) as u64;
    let row = |name: &str, figure: u64, more: &str| {
        format!("  {name:<56}{:>15}  {more}", grouped(figure)).trim_end().to_owned() + "\n"
    };
    let mut out = String::new();
    let seconds = format!("{}.{} s", elapsed.as_secs(), elapsed.subsec_millis() / 100);
    out +=
        &row("runs", stats.runs, &format!("{} runs/s on {jobs} threads, {seconds}", grouped(rate)));
    out += &row("requests", stats.requests, &each(stats.requests));
    let [reads, writes, flushes, discards, zeroes, _] = stats.by_kind;
    let mix: &[(u64, &str)] = match kinds {
        [Kind::Memory, Kind::Memory] => {
            &[(reads, "loads"), (writes, "stores"), (flushes, "flushes")]
        }
        _ => &[
            (reads, "reads"),
            (writes, "writes"),
            (flushes, "flushes"),
            (discards, "discards"),
            (zeroes, "write-zeroes"),
        ],
    };
    let mix: Vec<String> = mix.iter().map(|(n, what)| format!("{} {what}", grouped(*n))).collect();
    out += &format!("    {}\n", mix.join(", "));
    out += &row("power losses", stats.power_losses, &each(stats.power_losses));
    out += &row("  with volatile data", stats.volatile_losses, "");
    let unit = if kinds == [Kind::Memory; 2] { "words" } else { "sectors" };
    out += &row(&format!("  dirty {unit} lost"), stats.sectors_lost, "");
    out += &row(&format!("  dirty {unit} kept"), stats.sectors_kept, "");
    out += &row("backends killed", stats.kills, "");
    out += &row("resets", stats.resets, "");
    out += &row("host faults", stats.faults, "");
    out += &row("requests changed by the guest", stats.altered, "");
    out += &row("violations", report.failures, "");
    let (within, beyond): (Vec<_>, Vec<_>) = reach
        .situations()
        .partition(|(situation, lack)| lack.is_none() || report.coverage.count(*situation) > 0);
    let reached = report.coverage.reached() as u64;
    out += &row("situations reached", reached, &format!("of {}", within.len()));
    for (situation, _) in within {
        out += &row(&format!("  {}", situation.name()), report.coverage.count(situation), "");
    }
    out + &out_of_reach(&beyond)
}

/// The situations that the device cannot reach, by what it lacks for them.
fn out_of_reach(beyond: &[(Situation, Option<&'static str>)]) -> String {
    let mut by_lack: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (situation, lack) in beyond {
        by_lack.entry(lack.unwrap_or_default()).or_default().push(situation.name());
    }
    let mut out = String::new();
    if !beyond.is_empty() {
        let count = beyond.len();
        let _ = writeln!(out, "  out of reach of this device: {count} situations, which need");
    }
    for (lack, names) in by_lack {
        let text = format!("{lack}: {}", names.join("; "));
        for (nth, line) in broken(&text, 92, 2).iter().enumerate() {
            let indent = if nth == 0 { "    " } else { "      " };
            let _ = writeln!(out, "{indent}{}", line.trim_start());
        }
    }
    out
}

/// A number with its digits in groups of three.
pub(super) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_groups_of_three() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000_000), "1,000,000");
    }
}
