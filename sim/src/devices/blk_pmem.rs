//! A guest with a disk and a persistent memory on one medium: our two devices side by side.

use crate::devices::blk::Blk;
use crate::devices::pmem::Pmem;
use crate::dut::Spec;
use crate::dut::lifecycle::{Abilities, Cut, Moved};
use crate::dut::{DeviceUnderTest, End, Host, Progress};
use crate::guest::Kind;
use crate::guest::RingPlan;
use crate::host::disk::SimDisk;

/// One of the two.
#[derive(Clone, Debug)]
pub enum Both {
    /// The disk.
    Disk(Box<Blk>),
    /// The memory.
    Memory(Box<Pmem>),
}

/// Does the same with whichever it is.
macro_rules! either {
    ($self:expr, $device:ident => $what:expr) => {
        match $self {
            Both::Disk($device) => $what,
            Both::Memory($device) => $what,
        }
    };
}

impl DeviceUnderTest for Both {
    type Setup = ();

    const ON_SIM_DISK: bool = true;
    const RING_BASE: bool = true;

    fn kinds(_setup: &()) -> [Kind; 2] {
        [Kind::Disk, Kind::Memory]
    }

    fn open(_setup: &(), spec: &Spec, disk: &SimDisk, device: u8) -> Both {
        match device {
            0 => Both::Disk(Box::new(Blk::open(&None, spec, disk, device))),
            _ => Both::Memory(Box::new(Pmem::open(&None, spec, disk, device))),
        }
    }

    fn restart(&mut self, _setup: &(), spec: &Spec, disk: &SimDisk, device: u8, end: End) {
        either!(self, this => this.restart(&None, spec, disk, device, end));
    }

    fn offered(&self) -> u64 {
        either!(self, this => this.offered())
    }

    fn negotiate(&mut self, accept: u64) -> bool {
        either!(self, this => this.negotiate(accept))
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        either!(self, this => this.config_read(offset, out));
    }

    fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        either!(self, this => this.config_write(offset, bytes));
    }

    fn start(&mut self, rings: &[RingPlan]) {
        either!(self, this => this.start(rings));
    }

    fn kick(&mut self, queue: u16) {
        either!(self, this => this.kick(queue));
    }

    #[inline]
    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        either!(self, this => this.step(queue, host))
    }

    fn begin_reset(&mut self, host: &mut Host<'_>) {
        either!(self, this => this.begin_reset(host));
    }

    fn reset_done(&mut self) -> bool {
        either!(self, this => this.reset_done())
    }

    fn needs_reset(&mut self) -> bool {
        either!(self, this => this.needs_reset())
    }

    fn store(&mut self, word: u32, value: u64, host: &mut Host<'_>) {
        either!(self, this => this.store(word, value, host));
    }

    fn load(&mut self, word: u32, host: &mut Host<'_>) -> u64 {
        either!(self, this => this.load(word, host))
    }

    fn can(&self) -> Abilities {
        either!(self, this => this.can())
    }

    fn pause(&mut self) {
        either!(self, this => this.pause());
    }

    fn resume(&mut self) {
        either!(self, this => this.resume());
    }

    fn is_drained(&mut self) -> bool {
        either!(self, this => this.is_drained())
    }

    fn begin_save(&mut self) {
        either!(self, this => this.begin_save());
    }

    fn move_on(&mut self, spec: &Spec, host: &mut Host<'_>) -> Option<Moved> {
        either!(self, this => this.move_on(spec, host))
    }

    fn restart_rings(&mut self) -> bool {
        either!(self, this => this.restart_rings())
    }

    fn leave(&mut self) {
        either!(self, this => this.leave());
    }

    fn resize(&mut self, sectors: u32) {
        either!(self, this => this.resize(sectors));
    }

    fn config_generation(&mut self) -> u32 {
        either!(self, this => this.config_generation())
    }

    fn take_config_signal(&mut self) -> bool {
        either!(self, this => this.take_config_signal())
    }

    fn reset_queue(&mut self, queue: u16) {
        either!(self, this => this.reset_queue(queue));
    }

    fn is_queue_resetting(&mut self, queue: u16) -> bool {
        either!(self, this => this.is_queue_resetting(queue))
    }

    fn place_queue(&mut self, queue: u16, ring: RingPlan) {
        either!(self, this => this.place_queue(queue, ring));
    }

    fn die_inside(&mut self, queue: u16, cut: Cut, host: &mut Host<'_>) -> bool {
        either!(self, this => this.die_inside(queue, cut, host))
    }

    fn reconnect(
        &mut self,
        _setup: &(),
        spec: &Spec,
        negotiated: u64,
        rings: &[RingPlan],
        host: &mut Host<'_>,
    ) {
        either!(self, this => this.reconnect(&None, spec, negotiated, rings, host));
    }
}
