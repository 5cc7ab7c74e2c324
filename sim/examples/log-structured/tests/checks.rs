//! The device breaks no promise, and each of its twins breaks one.

use log_structured::{LogDisk, Twin};
use powerfail::check;
use powerfail::dut::Rule;

const SEEDS: u64 = 20_000;

#[test]
fn the_device_is_silent_under_faults_and_power_cuts() {
    let checked = check::<LogDisk>(Twin::Correct, 10 * SEEDS).run();
    checked.assert_silent();
    let stats = checked.report.stats;
    assert!(stats.volatile_losses > checked.seeds, "{stats:?}");
    assert!(stats.faults > checked.seeds, "{stats:?}");
}

#[test]
fn a_superblock_before_its_records_is_caught() {
    let twin = check::<LogDisk>(Twin::SuperblockFirst, SEEDS);
    let finding = twin.assert_finds(Rule::StableWriteLost);
    assert!(finding.story.contains("writes the log anew"), "{finding}");
}

#[test]
fn a_record_without_a_checksum_is_caught() {
    // A torn record leaves what other places of the log held before.
    check::<LogDisk>(Twin::NoChecksum, SEEDS).assert_finds(Rule::Misplaced);
}

#[test]
fn a_replay_in_the_wrong_order_is_caught() {
    check::<LogDisk>(Twin::WrongOrder, SEEDS).assert_finds(Rule::StableWriteLost);
}

#[test]
fn a_sync_error_that_is_ignored_is_caught() {
    check::<LogDisk>(Twin::SyncErrorIgnored, SEEDS).assert_finds(Rule::StableWriteLost);
}
