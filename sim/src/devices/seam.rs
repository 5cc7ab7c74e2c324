//! The seam between our block device and its disk, where a mutant of the disk can be put.

use std::fmt::Debug;

use powerfail_device::Disk;

use super::registers::Registers;
use crate::dut::{End, Host, Progress};
use crate::guest::memory::Ram;
use crate::host::disk::Lane;

/// Something between a block device and its disk.
pub trait Seam: Clone + Debug + Send + Sized {
    /// Selects it.
    type Setup: Clone + Debug + Default + Send + Sync;

    /// Whether the device over it can be paused, saved, resized and reconnected.
    const MANAGED: bool;

    /// What lies between a new device and its disk.
    fn new(setup: &Self::Setup) -> Self;

    /// Takes one step of a queue whose disk is `lane`.
    fn step<'m, L: Disk<Ram<'m>>>(
        &mut self,
        registers: &mut Registers,
        queue: u16,
        lane: L,
        ram: Ram<'m>,
    ) -> Progress;

    /// Takes one step of a queue on the simulated disk.
    fn step_simulated(
        &mut self,
        registers: &mut Registers,
        queue: u16,
        host: &mut Host<'_>,
    ) -> Progress {
        let lane = Lane::new(host.disk, host.device, queue as u8);
        self.step(registers, queue, lane, host.ram)
    }

    /// Another backend opens the disk.
    fn backend_lost(&mut self, _end: End) {}

    /// The guest begins a reset.
    fn reset_begun(&mut self) {}

    /// The state that a backend kill leaves, as a number; `None` if it does not fit one.
    fn carries(&self) -> Option<u64> {
        Some(0)
    }
}

/// Nothing: the device uses its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Direct;

impl Seam for Direct {
    type Setup = ();

    const MANAGED: bool = true;

    fn new((): &()) -> Direct {
        Direct
    }

    #[inline]
    fn step<'m, L: Disk<Ram<'m>>>(
        &mut self,
        registers: &mut Registers,
        queue: u16,
        mut lane: L,
        ram: Ram<'m>,
    ) -> Progress {
        registers.step(queue, &mut lane, ram)
    }
}

/// Something or nothing, as selected at run time. The device over it is managed only if it always
/// is.
impl<S: Seam> Seam for Option<S> {
    type Setup = Option<S::Setup>;

    const MANAGED: bool = S::MANAGED;

    fn new(setup: &Self::Setup) -> Option<S> {
        setup.as_ref().map(S::new)
    }

    fn step<'m, L: Disk<Ram<'m>>>(
        &mut self,
        registers: &mut Registers,
        queue: u16,
        lane: L,
        ram: Ram<'m>,
    ) -> Progress {
        match self {
            Some(seam) => seam.step(registers, queue, lane, ram),
            None => Direct.step(registers, queue, lane, ram),
        }
    }

    fn step_simulated(
        &mut self,
        registers: &mut Registers,
        queue: u16,
        host: &mut Host<'_>,
    ) -> Progress {
        match self {
            Some(seam) => seam.step_simulated(registers, queue, host),
            None => Direct.step_simulated(registers, queue, host),
        }
    }

    fn backend_lost(&mut self, end: End) {
        self.iter_mut().for_each(|seam| seam.backend_lost(end));
    }

    fn reset_begun(&mut self) {
        self.iter_mut().for_each(S::reset_begun);
    }

    fn carries(&self) -> Option<u64> {
        self.as_ref().map_or(Some(0), S::carries)
    }
}
