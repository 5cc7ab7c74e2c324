//! `powerfail image`: a medium after a power loss, as a file.

use std::path::{Path, PathBuf};

use powerfail_device::host::Shown;

use super::replay::names;
use super::target::{Targets, Visit};
use super::{PASSED, Subject, say};
use crate::base::files::write_new;
use crate::dut::DeviceUnderTest;
use crate::export::image::{Survivors, image};
use crate::export::{first_power_loss, replay_before};
use crate::schedule::Schedule;
use crate::schedule::options::Preset;
use crate::trace::{Trace, read};
use crate::world::World;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ImageArgs {
    #[command(flatten)]
    source: Source,
    /// Cut the power before this action of the trace, counted from 1. The default is the trace's
    /// first power loss, or its end if there is none.
    #[arg(long, value_name = "N")]
    at: Option<usize>,
    /// The dirty sectors that survive: none, all, or a set as in the trace's `crash power` line,
    /// such as 2,5-7.
    #[arg(long, value_name = "SET", default_value = "none")]
    survivors: Survivors,
    /// File for the image; it must not exist.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// The disk to extract, by trace and device.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Source {
    /// A trace file.
    trace: PathBuf,
    /// The device whose part of the disk to write.
    #[arg(long, value_name = "DEVICE", default_value = "a", value_parser = ["a", "b"])]
    pub(super) of: String,
    /// The device under test: `blk`, or `wrong:NAME`; as in the trace if not given.
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// The disk below it: `sim`, or `wrong:NAME`; as in the trace if not given.
    #[arg(long, value_name = "NAME")]
    disk: Option<String>,
}

/// An extract of a replayed trace, to be written as a file.
pub(super) trait Take {
    /// The bytes of the file, and the line that describes it.
    ///
    /// # Errors
    /// One line: the trace has no such extract.
    fn take<D: DeviceUnderTest>(
        &self,
        world: &mut World<D>,
        trace: &Trace,
        device: u8,
    ) -> Result<(Vec<u8>, String), String>;
}

impl Source {
    /// Replays the trace on the device it names and writes the extract.
    ///
    /// # Errors
    /// One line: the trace, a name or the extract is invalid, or the file cannot be written.
    pub(super) fn write(
        &self,
        targets: &impl Targets,
        output: &Path,
        take: impl Take,
    ) -> Result<u8, String> {
        let trace = read(&self.trace)?;
        let asked = Subject {
            device: self.device.clone(),
            disk: self.disk.clone(),
            power_cuts: false,
            profile: Preset::default(),
            schedule: Schedule::default(),
            contract: None,
        };
        let (device, disk) = names(targets, &asked, Some(&trace));
        let name = format!("{device} on {disk}");
        targets.find(&device, &disk, Taking { source: self, trace, name, output, take })?
    }
}

struct Taking<'a, T> {
    source: &'a Source,
    trace: Trace,
    name: String,
    output: &'a Path,
    take: T,
}

impl<T: Take> Visit for Taking<'_, T> {
    type Out = Result<u8, String>;

    fn visit<D: DeviceUnderTest>(self, setup: D::Setup) -> Result<u8, String> {
        let Taking { source, trace, name, output, take } = self;
        let shown = Shown(&source.trace);
        if !D::MEDIUM.is_simulated() {
            return Err(format!(
                "{name} does not use the simulated disk: there is no image or log of it"
            ));
        }
        let device = u8::from(source.of == "b");
        if device >= trace.shape.devices {
            return Err(format!("{shown} has one device: there is no `--of b`"));
        }
        let mut world = World::<D>::new(setup, trace.shape, trace.run);
        let taken = take.take(&mut world, &trace, device);
        let (bytes, says) = taken.map_err(|e| format!("{shown}: {e}"))?;
        write_new(output, &bytes)?;
        say::line(format_args!("{}: {says}", Shown(output)));
        Ok(PASSED)
    }
}

pub(super) fn run(targets: &impl Targets, args: &ImageArgs) -> Result<u8, String> {
    args.source.write(targets, &args.output, args)
}

impl Take for &ImageArgs {
    fn take<D: DeviceUnderTest>(
        &self,
        world: &mut World<D>,
        trace: &Trace,
        device: u8,
    ) -> Result<(Vec<u8>, String), String> {
        let end = trace.actions.len() + 1;
        let at = self.at.or_else(|| first_power_loss(trace)).unwrap_or(end);
        let part = replay_before(world, trace, at)?;
        let image = image(world.disk(), device, self.survivors)?;
        let place = match trace.actions.get(at - 1) {
            _ if part.failure.is_some() => "where a promise is broken".to_owned(),
            Some(action) => {
                let line = action.to_string();
                let words: Vec<&str> = line.split_whitespace().take(2).collect();
                format!("before action {at} ({})", words.join(" "))
            }
            None => "at the end of the trace".to_owned(),
        };
        let sectors = counted(image.bytes.len() as u64 / 512, "sector", "sectors");
        let (dirty, kept) = (image.dirty.len(), image.kept.len());
        let which = match dirty {
            0 => String::new(),
            _ => format!(" ({})", image.dirty),
        };
        let of = &self.source.of;
        let moved = moved(part.moved);
        let says = format!(
            "{sectors} of device {of} if the power goes {place}; {dirty} dirty{which}, \
             {kept} survived{moved}"
        );
        Ok((image.bytes, says))
    }
}

/// A count with its noun.
pub(super) fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// A clause that counts the lines a replay skipped or moved.
pub(super) fn moved(lines: usize) -> String {
    match lines {
        0 => String::new(),
        1 => "; 1 line was moved or skipped".to_owned(),
        _ => format!("; {lines} lines were moved or skipped"),
    }
}
