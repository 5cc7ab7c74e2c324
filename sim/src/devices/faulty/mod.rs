//! Disks and devices that are wrong on purpose: who tests the tester.
//!
//! Each is a wrapper around a seam, so nothing in the shipped device knows it. Each breaks one
//! promise, and names the rule that should notice. A rule that no wrong device breaks would be
//! decoration.

mod answer;
mod device;
mod disk;
mod lane;
mod life;
mod lives;
mod memory;
mod state;
mod wrapper;

pub use answer::AnswerFault;
pub use device::DeviceFault;
pub use disk::DiskFault;
pub use lane::FaultyLane;
pub use life::LifeFault;
pub use memory::{FaultyMemory, MemoryFault};
pub use state::FaultyState;
pub use wrapper::WrongDevice;

use powerfail_model::Rule;

/// Something wrong that can be put under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A disk, under our device.
    Disk(DiskFault),
    /// A device, on a good disk.
    Device(DeviceFault),
    /// A persistent memory.
    Memory(MemoryFault),
}

impl Wrong {
    /// Everything wrong there is.
    pub fn all() -> impl Iterator<Item = Wrong> {
        let disks = DiskFault::ALL.into_iter().map(Wrong::Disk);
        let devices = DeviceFault::all().map(Wrong::Device);
        disks.chain(devices).chain(MemoryFault::all().map(Wrong::Memory))
    }

    /// Its name, as `wrong:NAME` selects it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Wrong::Disk(fault) => fault.name(),
            Wrong::Device(fault) => fault.name(),
            Wrong::Memory(fault) => fault.name(),
        }
    }

    /// What is wrong, in a line.
    #[must_use]
    pub fn summary(self) -> &'static str {
        match self {
            Wrong::Disk(fault) => fault.summary(),
            Wrong::Device(fault) => fault.summary(),
            Wrong::Memory(fault) => fault.summary(),
        }
    }

    /// The rules that should notice; the first is the one that usually does.
    #[must_use]
    pub fn caught_by(self) -> &'static [Rule] {
        match self {
            Wrong::Disk(fault) => fault.caught_by(),
            Wrong::Device(fault) => fault.caught_by(),
            Wrong::Memory(fault) => fault.caught_by(),
        }
    }

    /// The wrong thing with this name.
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
