//! Our block device on the simulated disk: the shipped code, joined to the world.

use std::sync::Arc;

use powerfail_device::{Device, DeviceState, RegisterSurface, SaveError};

use super::forward::forward;
use super::in_flight::SimRecord;
use super::registers::Registers;
use super::seam::{Direct, Seam};
use crate::dut::lifecycle::{Abilities, Cut, Moved};
use crate::dut::{DeviceUnderTest, End, Host, Managed, Medium, Profile, Progress, Spec};
use crate::guest::RingPlan;
use crate::guest::memory::Ram;
use crate::guest::wire::{config, feature};
use crate::host::disk::SimDisk;

/// Our block device on the simulated disk.
#[derive(Debug)]
pub struct Blk<S = Direct> {
    pub(super) registers: Registers,
    seam: S,
    keeps_records: bool,
    /// The first sector of the guest's disk.
    first: u64,
    /// What outlives the process, a queue each; none if it keeps no records.
    pub(super) records: Vec<Arc<SimRecord>>,
    /// The queues, as bits, that do not know their record yet.
    pub(super) unrecorded: u16,
    /// The front-end has left with this cache mode, and comes back to this process.
    left: Option<u8>,
}

impl<S: Seam> Clone for Blk<S> {
    fn clone(&self) -> Blk<S> {
        let copy = |record: &Arc<SimRecord>| Arc::new(record.copy());
        let mut clone = Blk {
            registers: self.registers.clone(),
            seam: self.seam.clone(),
            keeps_records: self.keeps_records,
            first: self.first,
            records: self.records.iter().map(copy).collect(),
            unrecorded: self.unrecorded,
            left: self.left,
        };
        for (index, record) in clone.records.iter().enumerate() {
            let known = clone.unrecorded & 1 << index == 0;
            if let Some((queue, ring)) = clone.registers.device.queue_mut(index as u16)
                && known
            {
                queue.move_record(Arc::clone(record) as _, ring);
            }
        }
        clone
    }
}

impl<S: Seam> Blk<S> {
    /// The queues find their records: as they were left, or fresh.
    #[cold]
    pub(super) fn find_records(&mut self, ram: Ram<'_>) {
        for (index, record) in self.records.iter().enumerate() {
            if self.unrecorded & 1 << index != 0
                && let Some((queue, ring)) = self.registers.device.queue_mut(index as u16)
                && ring.is_ready()
            {
                let kept = queue.keep_record(Arc::clone(record) as _, ring, &ram);
                kept.expect("the record is our own");
            }
        }
        self.unrecorded = 0;
    }

    fn forget_records(&mut self) {
        self.unrecorded = (1 << self.records.len()) - 1;
    }
}

impl<S: Seam> DeviceUnderTest for Blk<S> {
    type Setup = S::Setup;

    const MEDIUM: Medium = Medium::Simulated;
    const PROFILE: Profile = Profile::Strict;
    const RING_BASE: bool = true;
    const SPARSE: bool = S::MANAGED;

    fn open(setup: &Self::Setup, spec: &Spec, _disk: &SimDisk, _device: u8) -> Blk<S> {
        Blk {
            registers: Registers::open(spec),
            seam: S::new(setup),
            keeps_records: spec.record,
            first: spec.disk.first,
            records: Vec::new(),
            unrecorded: 0,
            left: None,
        }
    }

    fn restart(&mut self, _: &S::Setup, spec: &Spec, host: &mut Host<'_>, end: End) {
        self.registers = Registers::on(spec, host.disk.limits(host.device));
        self.records.clear();
        self.unrecorded = 0;
        self.seam.backend_lost(end);
    }

    fn carries(&self) -> Option<u64> {
        self.seam.carries()
    }

    forward!(registers: offered, negotiate, config_read, config_write, kick, reset_done, needs_reset);

    fn start(&mut self, rings: &[RingPlan]) {
        self.registers.start(rings);
        if self.keeps_records {
            self.records = rings.iter().map(|ring| Arc::new(SimRecord::new(ring.size))).collect();
            self.forget_records();
        }
    }

    #[inline]
    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        if self.unrecorded != 0 {
            self.find_records(host.ram);
        }
        self.seam.step_simulated(&mut self.registers, queue, host)
    }

    fn begin_reset(&mut self, _host: &mut Host<'_>) {
        self.seam.reset_begun();
        // What ends here need not be found any more.
        self.unrecorded = 0;
        self.registers.begin_reset();
    }

    fn lifecycle(&mut self) -> Option<&mut impl Managed> {
        S::MANAGED.then_some(self)
    }
}

impl<S: Seam> Managed for Blk<S> {
    fn can(&self) -> Abilities {
        Abilities::ALL
    }

    fn pause(&mut self) {
        self.registers.device.pause();
    }

    fn resume(&mut self) {
        self.registers.device.resume();
    }

    fn is_drained(&mut self) -> bool {
        self.registers.device.is_drained()
    }

    fn begin_save(&mut self) {
        self.registers.device.begin_save().expect("the world saves what is paused and drained");
    }

    fn move_on(&mut self, _spec: &Spec, host: &mut Host<'_>) -> Option<Moved> {
        let (state, moved) = match self.registers.device.save() {
            Ok(state) => (state, Moved::Stable),
            Err(SaveError::NotStable(state)) => (*state, Moved::NotStable),
            Err(SaveError::NotPaused | SaveError::Busy | SaveError::NotSynced) => return None,
        };
        // What goes to another process goes as bytes.
        let state = DeviceState::from_bytes(&state.to_bytes()).expect("what was just written");
        let config = self.registers.device.shared().config().clone();
        let device = Device::restore(config, host.disk.limits(host.device), &state);
        self.registers.device = device.expect("the same device can be in that state");
        self.forget_records();
        Some(moved)
    }

    fn restart_rings(&mut self) -> bool {
        let drained = self.registers.device.is_drained();
        if drained {
            self.registers.device.restart_rings();
            self.forget_records();
        }
        drained
    }

    fn leave(&mut self) {
        let mut mode = [0];
        self.config_read(config::WRITEBACK, &mut mode);
        self.left = Some(mode[0]);
        self.registers.device.leave();
        // It looks at no record any more.
        self.unrecorded = 0;
    }

    fn resize(&mut self, sectors: u32) {
        let sectors = self.first + u64::from(sectors);
        let grown = self.registers.device.resize(sectors * 512);
        grown.expect("the world lets disks grow by whole granules");
    }

    fn config_generation(&mut self) -> u32 {
        self.registers.device.config_generation()
    }

    fn take_config_signal(&mut self) -> bool {
        self.registers.take_config_signal()
    }

    fn reset_queue(&mut self, queue: u16) {
        self.unrecorded &= !(1 << queue);
        self.registers.device.reset_queue(queue).expect("the driver resets what is live");
    }

    fn is_queue_resetting(&mut self, queue: u16) -> bool {
        self.registers.device.is_queue_resetting(queue)
    }

    fn place_queue(&mut self, queue: u16, ring: RingPlan) {
        self.registers.place(queue, &ring);
        if let Some(record) = self.records.get_mut(usize::from(queue)) {
            *record = Arc::new(SimRecord::new(ring.size));
            self.unrecorded |= 1 << queue;
        }
    }

    fn die_inside(&mut self, queue: u16, cut: Cut, host: &mut Host<'_>) -> bool {
        if self.unrecorded != 0 {
            self.find_records(host.ram);
        }
        let Some(record) = self.records.get(usize::from(queue)).map(Arc::clone) else {
            return false;
        };
        record.watch();
        self.step(queue, host);
        let there = record.cut(cut);
        if there
            && cut == Cut::Element
            && let Some((_, ring)) = self.registers.device.queue_mut(queue)
        {
            let index = ring.position().1.wrapping_sub(1);
            host.ram.write(ring.layout().used as u32 + 2, &index.to_le_bytes());
        }
        there
    }

    fn reconnect(&mut self, spec: &Spec, negotiated: u64, rings: &[RingPlan], host: &mut Host<'_>) {
        let mut mode = [0];
        if let Some(left) = self.left.take() {
            mode = [left];
            assert!(self.registers.device.is_left(), "the host has nothing of it in its hands");
        } else {
            self.config_read(config::WRITEBACK, &mut mode);
            self.registers = Registers::on(spec, host.disk.limits(host.device));
        }
        assert!(self.registers.negotiate(negotiated), "it did so before");
        if negotiated & feature::CONFIG_WCE != 0 {
            self.config_write(config::WRITEBACK, &mode);
        }
        self.registers.start(rings);
        self.forget_records();
    }
}
