//! Mutants: disks, devices and memories with one deliberate mistake, which test the tester.
//!
//! Each is a wrapper around the disk or the device, which it leaves unchanged. Each breaks one
//! promise, and names the rules that should catch it. A rule that catches no mutant is useless.

mod answer;
mod below_seam;
mod disk;
mod lane;
mod lifecycle;
mod memory;
mod state;
mod table;
mod wrapper;

pub use memory::WrongMemory;
pub use state::FaultyDisk;
pub use table::{AnswerFault, DeviceFault, DiskFault, LifecycleFault, MemoryFault};
pub use wrapper::WrongDevice;

use powerfail_model::Rule;

use crate::devices::blk::Blk;

/// Our block device on a mutant disk.
pub type WrongDisk = Blk<FaultyDisk>;

/// A mutant that can be put under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A mutant disk below the correct device.
    Disk(DiskFault),
    /// A mutant device on a correct disk.
    Device(DeviceFault),
    /// A mutant persistent memory.
    Memory(MemoryFault),
}

impl Wrong {
    /// Every mutant.
    pub fn all() -> impl Iterator<Item = Wrong> {
        let disks = DiskFault::all().map(Wrong::Disk);
        let devices = DeviceFault::all().map(Wrong::Device);
        disks.chain(devices).chain(MemoryFault::all().map(Wrong::Memory))
    }

    /// The name, as `wrong:NAME` selects it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Wrong::Disk(fault) => fault.name(),
            Wrong::Device(fault) => fault.name(),
            Wrong::Memory(fault) => fault.name(),
        }
    }

    /// The mistake, in one line.
    #[must_use]
    pub fn summary(self) -> &'static str {
        match self {
            Wrong::Disk(fault) => fault.summary(),
            Wrong::Device(fault) => fault.summary(),
            Wrong::Memory(fault) => fault.summary(),
        }
    }

    /// The rules that should catch it; usually the first one does.
    #[must_use]
    pub fn caught_by(self) -> &'static [Rule] {
        match self {
            Wrong::Disk(fault) => fault.caught_by(),
            Wrong::Device(fault) => fault.caught_by(),
            Wrong::Memory(fault) => fault.caught_by(),
        }
    }

    /// The mutant with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Wrong> {
        Wrong::all().find(|wrong| wrong.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found_again() {
        let all: Vec<Wrong> = Wrong::all().collect();
        assert!(all.len() >= 14);
        for wrong in all {
            assert_eq!(Wrong::from_name(wrong.name()), Some(wrong));
            assert!(!wrong.caught_by().is_empty());
        }
    }
}
