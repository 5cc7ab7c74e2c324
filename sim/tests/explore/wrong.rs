//! Exhaustive search for the mutants: the table in `sim/src/explore/WRONG.md`, row by row.

use std::collections::BTreeSet;
use std::sync::Mutex;

use powerfail::devices::faulty::{Wrong, WrongDevice, WrongDisk, WrongMemory};
use powerfail::dut::DeviceUnderTest;
use powerfail::explore::{Effort, Progress, Scope, short};
use powerfail::shrink::{Effort as Work, Shrunk, shrink};
use powerfail::trace::Signature;
use powerfail::world::action::{Action, CrashKind};

#[path = "../shrunk/table.rs"]
mod table;

const PAGE: &str = include_str!("../../src/explore/WRONG.md");
const PLACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/explore/WRONG.md");

/// The rows of the first table of the page, as cells.
fn rows() -> Vec<Vec<&'static str>> {
    let lines = PAGE.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let rows = lines.take_while(|line| line.starts_with('|'));
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// A scope from the flags of the command.
fn scope(flags: &str) -> Scope {
    let mut scope = Scope::default();
    // A mutant may distinguish the two ends of a disk.
    scope.reduction.mirror = false;
    let mut words = flags.split_whitespace();
    while let (Some(flag), Some(value)) = (words.next(), words.next()) {
        let number = || value.parse().expect("a number");
        match flag {
            "--requests" => scope.requests = number(),
            "--sectors" => scope.sectors = number(),
            "--in-flight" => scope.in_flight = number(),
            "--crashes" => scope.crashes = number(),
            "--faults" => scope.faults = number(),
            "--resets" => scope.resets = number(),
            "--kinds" => {
                scope.kinds = value.split(',').map(|kind| kind.parse().expect("a kind")).collect()
            }
            "--rows" => {
                scope.rows = value.split(',').map(|row| row.parse().expect("a row")).collect()
            }
            _ => panic!("the table has no {flag}"),
        }
    }
    scope
}

/// The counterexample with the fewest actions, shrunk. Shrinking replays each, so none is invented.
fn shortest<D: DeviceUnderTest>(setup: &D::Setup, scope: &Scope) -> Option<Shrunk> {
    let found = short::<D>(setup, scope, Effort::on(1), &Progress::default());
    let shrunk = found.iter().map(|found| {
        let signature = Signature::of(&found.failure.violation);
        shrink::<D>(setup, found.shape, found.run, &found.actions, &signature, &Work::plenty(1))
            .expect("a counterexample can be replayed")
    });
    shrunk.min_by_key(|short| short.actions.len())
}

/// The expected row of a mutant.
fn row(name: &str, flags: &str) -> String {
    let scope = scope(flags);
    let wrong = Wrong::from_name(name).expect("a known name");
    let short = match wrong {
        Wrong::Disk(fault) => shortest::<WrongDisk>(&fault, &scope),
        Wrong::Device(fault) => shortest::<WrongDevice>(&fault, &scope),
        Wrong::Memory(fault) => shortest::<WrongMemory>(&fault, &scope),
    };
    let short = short.unwrap_or_else(|| panic!("{name} is not found within {flags}"));
    let count = |is: fn(&Action) -> bool| short.actions.iter().filter(|action| is(action)).count();
    let requests = count(|action| matches!(action, Action::Send { .. }));
    let losses = count(|action| matches!(action, Action::Crash(CrashKind::Power { .. })));
    let known = table::SHORTEST.iter().find(|known| known.0 == name).expect("in the other table").2;
    let rule = short.failure.violation.rule.name();
    format!(
        "| {name} | `{flags}` | {rule} | {requests} | {losses} | {} | {known} |",
        short.actions.len()
    )
}

#[test]
fn a_search_finds_what_the_table_says_and_as_shortly() {
    let rows = rows();
    let next = Mutex::new(0..rows.len());
    let found = Mutex::new(vec![String::new(); rows.len()]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(nth) = { next.lock().unwrap().next() } {
                    let line = row(rows[nth][0], rows[nth][1].trim_matches('`'));
                    found.lock().unwrap()[nth] = line;
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    let mut lines = PAGE.lines();
    let mut page: Vec<&str> = lines.by_ref().take_while(|line| !line.starts_with("|---")).collect();
    page.push("|---|---|---|---:|---:|---:|---:|");
    page.extend(found.iter().map(String::as_str));
    page.extend(lines.skip(rows.len()));
    let page = page.join("\n") + "\n";
    if std::env::var_os("POWERFAIL_BLESS").is_some() {
        return std::fs::write(PLACE, page).unwrap();
    }
    assert_eq!(PAGE, page, "POWERFAIL_BLESS=1 rewrites the table");
}

#[test]
fn no_counterexample_is_longer_than_the_page_admits() {
    let number = |cell: &str| cell.parse::<usize>().expect("a number");
    for row in rows() {
        let (name, here, known) = (row[0], number(row[5]), number(row[6]));
        let listed = PAGE.contains(&format!("`{name}`"));
        assert!(
            here <= known || listed,
            "{name} takes {here} actions, {known} are known, and the page does not say why"
        );
        assert!(here <= known + 2, "{name} takes {here} actions, and {known} are known");
    }
}

#[test]
fn everything_wrong_is_found_or_does_not_fit() {
    let found: BTreeSet<&str> = rows().iter().map(|row| row[0]).collect();
    for wrong in Wrong::all() {
        let name = wrong.name();
        let outside = PAGE.contains(&format!("`{name}`"));
        assert!(
            found.contains(name) || outside,
            "{name} is neither found nor said to be out of scope"
        );
    }
}
