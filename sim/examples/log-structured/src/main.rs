use log_structured::{LogDisk, Twin};

fn main() -> std::process::ExitCode {
    powerfail::main_with::<LogDisk>(&[
        ("log", Twin::Correct),
        ("superblock-first", Twin::SuperblockFirst),
        ("no-checksum", Twin::NoChecksum),
        ("wrong-order", Twin::WrongOrder),
        ("sync-error-ignored", Twin::SyncErrorIgnored),
    ])
}
