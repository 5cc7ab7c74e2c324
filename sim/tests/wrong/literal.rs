//! The mutants under the Literal profile: those that it must still catch, and those whose fault it
//! allows.

use std::sync::Mutex;

use powerfail::devices::faulty::Wrong;
use powerfail::dut::Profile;

use super::hunt::until_caught;

/// A mutant is caught under Literal within so many seeds, or not at all.
const SEEDS: u64 = 5000;

/// The mutants whose fault Literal allows, and the clause that allows it.
const ALLOWED: [(&str, &str); 15] = [
    ("zeroes-not-synced", "a WRITE_ZEROES only removes protection"),
    ("sees-ahead", "a read returns any write that was submitted and is not overwritten"),
    ("refused-but-written", DRIVER_ERROR),
    ("serves-over-limit", DRIVER_ERROR),
    ("serves-too-many-segments", DRIVER_ERROR),
    ("serves-long-zeroes", DRIVER_ERROR),
    ("serves-many-discards", DRIVER_ERROR),
    ("serves-overflow", DRIVER_ERROR),
    ("serves-partial-segment", DRIVER_ERROR),
    ("serves-partial-sector", DRIVER_ERROR),
    ("serves-unnegotiated", DRIVER_ERROR),
    ("serves-beyond-capacity", DRIVER_ERROR),
    ("type-ignored", DRIVER_ERROR),
    ("reset-drops-stores", RESET_LOSES),
    ("failed-flush-forgotten-at-reset", RESET_LOSES),
];
const DRIVER_ERROR: &str = "the driver must not send it, and no MUST tells the device to refuse it";
const RESET_LOSES: &str = "unflushed stores may be lost at a device reset";

#[test]
fn literal_catches_every_mutant_but_those_that_it_allows() {
    // Mutants may panic, thousands of times.
    std::panic::set_hook(Box::new(|_| {}));
    let next = Mutex::new(Wrong::all());
    let caught = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(wrong) = next.lock().expect("no panic here").next() else { break };
                    let until = until_caught(wrong, Profile::Literal, SEEDS);
                    caught.lock().expect("no panic here").push((wrong.name(), until));
                }
            });
        }
    });
    let _ = std::panic::take_hook();
    let caught = caught.into_inner().expect("no panic here");
    let (mut bad, mut count) = (Vec::new(), 0);
    for (name, until) in &caught {
        let allowed = ALLOWED.iter().any(|(other, _)| other == name);
        count += usize::from(until.is_some());
        match until {
            Some(seed) if allowed => bad.push(format!("{name} is caught in seed {seed}")),
            None if !allowed => bad.push(format!("{name} is not caught in {SEEDS} seeds")),
            _ => {}
        }
    }
    println!("{count} of {} mutants are caught under Literal in {SEEDS} seeds", caught.len());
    for (name, clause) in ALLOWED {
        println!("{name:26} {clause}");
    }
    assert!(bad.is_empty(), "{bad:#?}");
}
