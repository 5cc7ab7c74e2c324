//! What a failure looks like: the product of this project is this screen.
//!
//! A story is told from a world's journal: three lanes (guest, device, host disk), one line per
//! event that matters for what was broken, then the sentences that say why the promise held.
//!
//! Not here: making the story short. That is the shrinker's work.

mod lanes;
mod reasons;

use std::fmt::Write as _;

use crate::dut::DeviceUnderTest;
use crate::world::{Failure, World};
use lanes::Line;

/// Where a failure came from and where it is kept, for the last line.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// `seed 5`, or the trace's file name.
    pub from: String,
    /// How many actions there were before shrinking, and are now.
    pub shrunk: Option<(usize, usize)>,
    /// A command that shows the failure again.
    pub replay: Option<String>,
}

/// Tells the story of a failure whose run the world has just replayed with a journal.
#[must_use]
pub fn tell<D: DeviceUnderTest>(
    world: &World<D>,
    failure: &Failure,
    provenance: &Provenance,
) -> String {
    let violation = &failure.violation;
    let events = world.journal().map(|journal| journal.events()).unwrap_or_default();
    let lines = lanes::draw(world.options(), events, failure);
    let mut out = String::new();
    let title = violation.rule.promise();
    let from = &provenance.from;
    let _ = writeln!(
        out,
        "{from}   VIOLATED   {title}   ({}, 512-byte atoms)",
        violation.profile.name()
    );
    let _ = writeln!(out, "\n  {violation}\n");
    table(&mut out, &lines);
    let because = reasons::sentences(violation, &lines);
    if !because.is_empty() {
        out.push('\n');
    }
    for sentence in because {
        let _ = writeln!(out, "  {sentence}");
    }
    let rule = violation.rule;
    let _ = writeln!(
        out,
        "  virtio 1.4, {}: {} ({}, {})",
        rule.clause(),
        rule.promise(),
        rule.requirement(),
        rule.name()
    );
    let _ = writeln!(out, "\n  {}", closing(&lines, provenance));
    out
}

fn table(out: &mut String, lines: &[Line]) {
    let widest = |lane: fn(&Line) -> &str| {
        lines.iter().filter(|line| !line.across).map(|line| lane(line).chars().count()).max()
    };
    let guest = widest(|line| &line.guest).unwrap_or(0).clamp(20, 34) + 2;
    let device = widest(|line| &line.device).unwrap_or(0).clamp(18, 34) + 2;
    let _ = writeln!(out, "       {:guest$}{:device$}host disk", "guest", "device");
    for line in lines {
        let text = if line.across {
            let width = guest + device;
            let label = format!(" {} ", line.guest);
            format!("{label:-^width$}{}", line.host)
        } else {
            format!("{:guest$}{:device$}{}", line.guest, line.device, line.host)
        };
        let _ = writeln!(out, " {:>4}  {}", line.number, text.trim_end());
    }
}

fn closing(lines: &[Line], provenance: &Provenance) -> String {
    let count = |what: fn(&Line) -> bool| lines.iter().filter(|line| what(line)).count();
    let plural =
        |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let mut parts = format!(
        "{}, {}",
        plural(count(|line| line.sends), "request", "requests"),
        plural(count(|line| line.crashes), "crash", "crashes"),
    );
    if let Some((from, to)) = provenance.shrunk {
        let _ = write!(parts, "; shrunk from {from} actions to {to}");
    }
    if let Some(replay) = &provenance.replay {
        let _ = write!(parts, " · {replay}");
    }
    parts
}
