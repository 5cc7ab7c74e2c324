//! A guest with a disk and a persistent memory on one medium: our two devices side by side.

use crate::devices::blk::Blk;
use crate::devices::pmem::Pmem;
use crate::dut::Spec;
use crate::dut::{DeviceUnderTest, End, Host, Managed, Medium, Profile, Progress};
use crate::guest::Kind;
use crate::guest::RingPlan;
use crate::host::disk::SimDisk;

/// One of the two.
#[derive(Clone, Debug)]
pub enum BlkPmem {
    /// The disk.
    Disk(Box<Blk>),
    /// The memory.
    Memory(Box<Pmem>),
}

/// Evaluates `what` with the device, of either kind.
macro_rules! either {
    ($self:expr, $device:ident => $what:expr) => {
        match $self {
            BlkPmem::Disk($device) => $what,
            BlkPmem::Memory($device) => $what,
        }
    };
}

impl DeviceUnderTest for BlkPmem {
    type Setup = ();

    const MEDIUM: Medium = Medium::Simulated;
    const KINDS: [Kind; 2] = [Kind::Disk, Kind::Memory];
    const PROFILE: Profile = Profile::Strict;
    const RING_BASE: bool = true;

    fn open(_setup: &(), spec: &Spec, disk: &SimDisk, device: u8) -> BlkPmem {
        match device {
            0 => BlkPmem::Disk(Box::new(Blk::open(&(), spec, disk, device))),
            _ => BlkPmem::Memory(Box::new(Pmem::open(&(), spec, disk, device))),
        }
    }

    fn restart(&mut self, _setup: &(), spec: &Spec, host: &mut Host<'_>, end: End) {
        either!(self, this => this.restart(&(), spec, host, end));
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

    fn take_config_signal(&mut self) -> bool {
        either!(self, this => DeviceUnderTest::take_config_signal(&mut **this))
    }

    fn lifecycle(&mut self) -> Option<&mut impl Managed> {
        match self {
            BlkPmem::Disk(disk) => disk.lifecycle(),
            BlkPmem::Memory(_) => None,
        }
    }
}
