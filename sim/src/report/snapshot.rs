//! The state of a world at one step: outstanding requests, the host disk's contents, and the
//! contents that the oracle would accept.

use std::fmt::Write as _;

use powerfail_model::{Atom, Content, Row};

use super::style::{Style, broken};
use super::words::unit_of;
use crate::base::sectors::SectorSet;
use crate::dut::DeviceUnderTest;
use crate::guest::Kind;
use crate::guest::payload::{self, Author};
use crate::guest::wire::{feature, memory};
use crate::host::disk::word_of;
use crate::trace::request_name;
use crate::world::World;

/// Draws the current state of a world. Each line ends in a line break and is at most
/// [`Style::columns`] wide.
#[must_use]
pub(crate) fn snapshot<D: DeviceUnderTest>(world: &World<D>, style: Style) -> String {
    let mut out = String::new();
    let mut say = |indent: usize, text: &str| {
        for line in broken(text, style.columns() - indent, 2) {
            let _ = writeln!(out, "{:indent$}{line}", "");
        }
    };
    for device in 0..world.shape().devices {
        let slot = world.slot(device);
        let name = if device == 0 { "a" } else { "b" };
        let state = match (slot.is_live(), slot.is_resetting()) {
            (true, _) => "live",
            (_, true) => "resetting",
            _ => "down",
        };
        say(0, &format!("device {name}: {state}"));
        if slot.is_live() {
            say(2, &format!("features: {}", features(slot.life().negotiated)));
            if let Some(row) = slot.oracle.first().stability_row() {
                say(2, &format!("cache mode: {}", mode(row)));
            }
        }
        for (index, queue) in slot.queues.iter().enumerate().take(slot.life().active.into()) {
            let out: Vec<String> = queue
                .outstanding()
                .map(|(id, ask)| format!("{}: {ask}", request_name(id, ask)))
                .collect();
            let thread = if slot.runnable[index] { "thread may run" } else { "thread idle" };
            let out = if out.is_empty() { "nothing".to_owned() } else { out.join("; ") };
            say(2, &format!("q{index}: out: {out} ({thread}, {} to take back)", queue.back()));
        }
        if D::MEDIUM.is_simulated() && D::PLAIN_MEDIUM {
            for line in sectors(world, device) {
                say(2, &line);
            }
        }
    }
    say(0, "host disk");
    let mut busy: Vec<_> = world.disk().in_flight().collect();
    busy.sort_by_key(|op| op.1);
    for (op, _, landed) in &busy {
        let landed = if landed.is_empty() { String::new() } else { format!(", landed {landed}") };
        say(2, &format!("in flight: {op}{landed}"));
    }
    if busy.is_empty() {
        say(2, "in flight: nothing");
    }
    out
}

/// One line for each sector whose cache and medium may differ, or for which a power loss leaves a
/// choice.
fn sectors<D: DeviceUnderTest>(world: &World<D>, device: u8) -> Vec<String> {
    let disk = world.disk();
    let base = disk.shape().base(device);
    let kind = world.shape().kind(device);
    let unit = unit_of(kind);
    let author = Author { run: world.run(), disk: device };
    let mut lines = Vec::new();
    let mut allowed = Vec::new();
    for sector in 0..world.shape().spec.disk.room() {
        let at = base + sector;
        world.oracle(device).candidates(Atom(sector), &mut allowed);
        let marks =
            [(disk.dirty(), "dirty"), (disk.taken(), "taken"), (disk.forgotten(), "forgotten")];
        let is = |set: &SectorSet| set.contains(at);
        let marked: Vec<&str> =
            marks.iter().filter(|(set, _)| is(set)).map(|(_, word)| *word).collect();
        let (cache, medium) = disk.sector(at);
        let quiet = allowed == [Content::INITIAL] || allowed.is_empty();
        if marked.is_empty() && cache == medium && quiet {
            continue;
        }
        let observed = |bytes: &[u8]| match kind {
            Kind::Disk => payload::read(bytes, author, sector),
            Kind::Memory => payload::read_word(word_of(bytes), author, sector),
        };
        let held = |bytes: &[u8]| match observed(bytes) {
            powerfail_model::Observed::Content(Content::ZERO) => "zeroes".to_owned(),
            other => other.to_string(),
        };
        let names: Vec<String> = allowed
            .iter()
            .map(|content| match *content {
                Content::ZERO => "zeroes".to_owned(),
                other => other.to_string(),
            })
            .collect();
        let marked = if marked.is_empty() { "clean".to_owned() } else { marked.join(" ") };
        lines.push(format!(
            "{unit} {sector}: {marked}; cache {}, medium {}; a power loss may leave {}",
            held(cache),
            held(medium),
            names.join(" or ")
        ));
    }
    if lines.is_empty() {
        lines.push(format!("{unit}s: all hold their initial content, none dirty"));
    }
    lines
}

fn features(negotiated: u64) -> String {
    let known = [
        (feature::FLUSH, "FLUSH"),
        (feature::CONFIG_WCE, "CONFIG_WCE"),
        (feature::RO, "RO"),
        (feature::MQ, "MQ"),
        (feature::DISCARD, "DISCARD"),
        (feature::WRITE_ZEROES, "WRITE_ZEROES"),
        (feature::EVENT_IDX, "EVENT_IDX"),
        (feature::INDIRECT_DESC, "INDIRECT_DESC"),
        (memory::SHMEM_REGION, "SHMEM_REGION"),
    ];
    let words: Vec<&str> =
        known.iter().filter(|(bit, _)| negotiated & bit != 0).map(|(_, word)| *word).collect();
    if words.is_empty() { "none of interest".to_owned() } else { words.join(", ") }
}

/// The promise to a write that completes now, by its row of the stability table.
fn mode(row: Row) -> &'static str {
    match row {
        Row::A => "none (no FLUSH: nothing is promised)",
        Row::B => "write-through (FLUSH was offered and not accepted)",
        Row::C => "write-back (a flush makes writes stable)",
        Row::D | Row::F => "write-through (writeback = 0)",
        Row::E => "write-back, without FLUSH",
        Row::G | Row::H => "write-back (writeback = 1, a flush makes writes stable)",
    }
}
