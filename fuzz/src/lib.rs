//! Fuzz targets: bytes become choices, scripts or files, and the promises must hold for any of
//! them.
//!
//! Each module is one target: a function that takes any bytes and panics iff it has a finding. The
//! binaries in `fuzz_targets/` pass it to libFuzzer; `tests/corpus.rs` runs it on the checked-in
//! corpus on a stable toolchain. This folder's `README.md` describes the promises of each target,
//! how to run it, and how to keep its findings.
//!
//! Runs and good queues are judged by `powerfail_model`. Where no oracle exists, for the parsing of
//! chains and the registers, the device is compared with a second implementation written from the
//! standard.

mod bound;
pub mod chain;
pub mod config;
pub mod hostile;
pub mod inflight;
mod patience;
pub mod pmem;
mod reference;
pub mod run;
pub mod trace;
pub mod vhost_user;

/// A target: its name, which is also that of its corpus, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 8] = [
    ("run", run::target),
    ("hostile", hostile::target),
    ("chain", chain::target),
    ("config", config::target),
    ("trace", trace::target),
    ("pmem", pmem::target),
    ("vhost_user", vhost_user::target),
    ("inflight", inflight::target),
];

/// Main function of a target that was not built for the fuzzer: prints how to build it, and runs it
/// on the files named on the command line, if any, to replay a finding without a fuzzer.
pub fn explain(name: &str) {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        println!("cargo +nightly fuzz run {name}     fuzzes");
        println!("cargo run -p powerfail-fuzz --bin {name} FILE...     replays");
        return;
    }
    let target = TARGETS
        .iter()
        .find(|target| target.0 == name)
        .expect("the bins are named as the targets")
        .1;
    for file in files {
        let bytes = std::fs::read(&file).unwrap_or_else(|e| panic!("cannot read {file}: {e}"));
        target(&bytes);
        println!("{file}: no finding");
    }
}
