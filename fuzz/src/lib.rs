//! The door for a fuzzer: bytes become choices, scripts or files, and whatever they are the
//! promises hold.
//!
//! Each module is one target: a function that takes any bytes and panics iff something is wrong.
//! The binaries in `fuzz_targets/` hand it to libFuzzer; `tests/corpus.rs` hands it the checked-in
//! corpus on a stable toolchain. What each one promises, and how to run it and to keep what it
//! finds, is in this folder's `README.md`.
//!
//! Nothing here decides what is right where somebody else does: runs and good queues are judged by
//! `powerfail_model`. What has no oracle, the parsing of chains and the registers, is held against
//! a second implementation written from the standard.

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

/// A target: its name, which is also that of its corpus, and what it does with bytes.
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

/// Says what to do with a target that was not built for the fuzzer, and hands it the files named on
/// the command line, if there are any: that is how a finding is replayed without one.
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
        println!("{file}: nothing is wrong");
    }
}
