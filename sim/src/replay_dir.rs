//! Replay of a folder of traces against a device, for use in a test.
//!
//! Every trace is a failure found before, so a device that passes them all has none of those
//! failures.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::dut::DeviceUnderTest;
use crate::report::{Provenance, Style, tell};
use crate::run::{Replayed, judge};
use crate::trace::read;
use crate::world::World;

/// The result of one replayed trace.
#[derive(Clone, Debug)]
pub struct ReplayedTrace {
    /// The file's name.
    pub name: String,
    /// The verdict.
    pub replayed: Replayed,
    /// The story, if a promise was broken.
    pub story: Option<String>,
}

/// The results of a replayed folder of traces.
#[derive(Clone, Debug)]
pub struct ReplayedTraces {
    /// The results in the order of file names; at least one.
    pub traces: Vec<ReplayedTrace>,
}

/// Replays the `.trace` files of a folder against a device, in the order of file names.
///
/// ```no_run
/// # use powerfail::devices::blk::Blk as MyDevice;
/// // In a test:
/// powerfail::replay_dir::<MyDevice>("traces").unwrap().assert_none_fails();
/// ```
///
/// A relative path is relative to the working directory, which `cargo test` sets to the package's
/// folder.
///
/// # Errors
/// One line: the folder cannot be read or holds no traces, or one of them is invalid.
pub fn replay_dir<D: DeviceUnderTest>(dir: impl AsRef<Path>) -> Result<ReplayedTraces, String> {
    let dir = dir.as_ref();
    let shown = dir.display();
    let said = |e: std::io::Error| format!("cannot read the folder {shown}: {e}");
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .map_err(said)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(said))
        .collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "trace"));
    paths.sort();
    if paths.is_empty() {
        return Err(format!("{shown} holds no .trace file: nothing was replayed"));
    }
    let traces = paths.iter().map(|path| replay_file::<D>(path)).collect::<Result<_, _>>()?;
    Ok(ReplayedTraces { traces })
}

fn replay_file<D: DeviceUnderTest>(path: &Path) -> Result<ReplayedTrace, String> {
    let trace = read(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut world = World::<D>::new(D::Setup::default(), trace.shape, trace.run);
    let judged = judge(&mut world, &trace);
    let provenance = Provenance { from: name.clone(), ..Provenance::default() };
    let story = judged.failure.map(|failure| tell(&world, &failure, &provenance, Style::default()));
    Ok(ReplayedTrace { name, replayed: judged.replayed, story })
}

impl ReplayedTrace {
    /// Whether a promise was broken, the one of the trace or another.
    #[must_use]
    pub fn fails(&self) -> bool {
        matches!(self.replayed, Replayed::Fails | Replayed::FailsOtherwise(_))
    }
}

impl ReplayedTraces {
    /// The number of traces that reached their situation without a broken promise.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.traces.iter().filter(|trace| trace.replayed == Replayed::Passes).count()
    }

    /// The number of traces that broke a promise.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.traces.iter().filter(|trace| trace.fails()).count()
    }

    /// The number of traces that did not reach their situation, and so prove nothing.
    #[must_use]
    pub fn not_reached(&self) -> usize {
        self.traces.len() - self.passed() - self.failed()
    }

    /// Asserts that no promise was broken.
    ///
    /// A trace that does not reach its situation is not a failure: it may need a feature that the
    /// device does not have.
    ///
    /// # Panics
    /// With the stories of the traces that fail; or if no trace reached its situation, because then
    /// nothing was tested.
    #[track_caller]
    pub fn assert_none_fails(&self) {
        let stories: Vec<&str> =
            self.traces.iter().filter_map(|trace| trace.story.as_deref()).collect();
        assert!(self.failed() == 0, "{self}\n\n{}", stories.join("\n"));
        assert!(self.passed() > 0, "{self}\nno trace reached its situation: nothing was tested");
    }
}

/// A line for each trace, and the counts.
impl fmt::Display for ReplayedTraces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ReplayedTrace { name, replayed, .. } in &self.traces {
            match replayed {
                Replayed::Fails => writeln!(f, "{name} fails")?,
                Replayed::Passes => writeln!(f, "{name} passes")?,
                Replayed::FailsOtherwise(signature) => {
                    writeln!(f, "{name} fails with {signature}")?;
                }
                Replayed::NotReached(what) => {
                    writeln!(f, "{name} did not reach its situation: {what}")?;
                }
            }
        }
        write!(
            f,
            "{} of {} traces pass, {} fail, {} did not reach their situation",
            self.passed(),
            self.traces.len(),
            self.failed(),
            self.not_reached()
        )
    }
}
