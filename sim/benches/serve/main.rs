//! `powerfail serve` compared with `qemu-storage-daemon`: the same driver, the same file,
//! alternately in one run.
//!
//! `cargo bench -p powerfail --bench serve [-- --samples 5 --seconds 1 --file PATH --only read]`.
//! Every figure is the median of the samples; the ratio is the median of the ratios of consecutive
//! samples. The driver has the first core alone and the daemon the others, so that no row depends
//! on their placement. Machines are noisy all the same: read the ratio, and the CPU time, which
//! includes a daemon's threads and the kernel's work for them. Without the peer its columns are
//! empty; without direct I/O in the file system those rows are empty.

mod daemon;
#[expect(dead_code, reason = "the tests ask for more")]
#[path = "../../tests/serve/guest.rs"]
mod guest;
mod load;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

use daemon::{Backend, Daemon};
use load::{Load, Sample};

/// Size of the file, in bytes.
const BYTES: u64 = 256 << 20;

#[derive(Parser)]
struct Args {
    /// Samples of each row on each side.
    #[arg(long, default_value_t = 5)]
    samples: usize,
    /// Length of a sample in seconds.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Path of the file, which must not exist; it is removed at the end. Its file system dominates
    /// the figures.
    #[arg(long, default_value = concat!(env!("CARGO_TARGET_TMPDIR"), "/serve-bench.img"))]
    file: PathBuf,
    /// Only rows that contain this text.
    #[arg(long, default_value = "")]
    only: String,
    /// Passed by `cargo bench` to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    if let Err(why) = run(&args) {
        eprintln!("serve: {why}");
        std::process::exit(2);
    }
}

/// A file that is removed when this is dropped.
struct Scratch<'a>(&'a Path);

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        // The file belongs to this benchmark; a failure to remove it is harmless.
        let _ = std::fs::remove_file(self.0);
    }
}

/// Creates the file without holes, so that no row pays for its blocks, and in pieces as small as
/// the requests: the page cache keeps data written at once in one large page, and ext4 walks all of
/// that page for each later write to a part of it, for either daemon.
fn fill(path: &Path) -> Result<Scratch<'_>, String> {
    let said = |error| format!("{}: {error}", path.display());
    let file = File::create_new(path).map_err(said)?;
    let scratch = Scratch(path);
    let piece = vec![5; guest::PIECE];
    for at in (0..BYTES).step_by(piece.len()) {
        file.write_all_at(&piece, at).map_err(said)?;
    }
    file.sync_all().map_err(said)?;
    Ok(scratch)
}

fn run(args: &Args) -> Result<(), String> {
    let _scratch = fill(&args.file)?;
    let peer = Backend::peer();
    println!("{}, {} on {}", Backend::Ours.version(), peer.version(), daemon::host(&args.file));
    println!("{} samples of {} s each, medians\n", args.samples, args.seconds);
    println!(
        "| requests | cache | powerfail /s | qemu /s | ratio | powerfail CPU us | qemu CPU us |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|");
    for direct in [false, true] {
        for load in Load::ALL {
            let cache = if direct { "direct" } else { "page cache" };
            if format!("{} {cache}", load.name()).contains(&args.only) {
                row(args, load, direct, cache, &peer)?;
            }
        }
    }
    Ok(())
}

/// Measures one row and prints it.
fn row(args: &Args, load: Load, direct: bool, cache: &str, peer: &Backend) -> Result<(), String> {
    let time = Duration::from_secs_f64(args.seconds);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..args.samples {
        for (backend, samples) in [(&Backend::Ours, &mut ours), (peer, &mut theirs)] {
            if !load.has_peer() && !matches!(backend, Backend::Ours) {
                continue;
            }
            if let Some(daemon) = Daemon::start(backend, &args.file, direct)? {
                samples.push(load::run(&daemon, load, time)?);
            }
        }
    }
    let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours.rate() / theirs.rate());
    let shown = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    println!(
        "| {} | {cache} | {} | {} | {} | {} | {} |",
        load.name(),
        shown(median(ours.iter().map(Sample::rate)), 0),
        shown(median(theirs.iter().map(Sample::rate)), 0),
        shown(median(ratios), 2),
        shown(median(ours.iter().map(Sample::cpu_micros)), 1),
        shown(median(theirs.iter().map(Sample::cpu_micros)), 1),
    );
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
