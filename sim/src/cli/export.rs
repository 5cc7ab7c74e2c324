//! `powerfail export`: a trace's disk operations as a log that other programs replay.

use std::path::PathBuf;

use super::image::{Source, Take, counted, moved};
use super::target::Targets;
use crate::dut::DeviceUnderTest;
use crate::export::log_writes::log_writes;
use crate::trace::Trace;
use crate::world::World;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    source: Source,
    /// Write the host disk's operations up to the first power loss to this new file, in the format
    /// of the kernel's dm-log-writes. The log replays onto the output of `powerfail image TRACE
    /// --at 1`.
    #[arg(long, value_name = "FILE")]
    log_writes: PathBuf,
}

pub(super) fn run(targets: &impl Targets, args: &ExportArgs) -> Result<u8, String> {
    args.source.write(targets, &args.log_writes, LogWrites { of: &args.source.of })
}

struct LogWrites<'a> {
    of: &'a str,
}

impl Take for LogWrites<'_> {
    fn take<D: DeviceUnderTest>(
        &self,
        world: &mut World<D>,
        trace: &Trace,
        device: u8,
    ) -> Result<(Vec<u8>, String), String> {
        let log = log_writes(world, trace, device)?;
        let up_to = match log.power_lost {
            true => "up to the first power loss",
            false => "up to the end, because there is no power loss",
        };
        let says = format!(
            "device {} {up_to}: {}, of them {}, {}, {} and {}{}",
            self.of,
            counted(log.entries(), "entry", "entries"),
            counted(log.writes, "write", "writes"),
            counted(log.flushes, "flush", "flushes"),
            counted(log.discards, "discard", "discards"),
            counted(log.marks, "mark", "marks"),
            moved(log.moved)
        );
        Ok((log.bytes, says))
    }
}
