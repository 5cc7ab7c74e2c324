//! A mutant block device: a wrapper around the correct device.

use std::ptr;

use super::lifecycle::LifecycleState;
use super::{DeviceFault, LifecycleFault};
use crate::devices::blk::Blk;
use crate::devices::registers::Registers;
use crate::dut::Spec;
use crate::dut::lifecycle::{Abilities, Cut, Moved};
use crate::dut::toolkit::{BlockRequest, Chain, DeviceRing};
use crate::dut::{DeviceUnderTest, End, Host, Managed, Medium, Profile, Progress};
use crate::guest::RingPlan;
use crate::guest::memory::Ram;
use crate::guest::wire::Status;
use crate::guest::wire::{config, feature, request};
use crate::host::disk::{FaultHandle, SimDisk};

/// A mutant block device.
#[derive(Clone, Debug)]
pub struct WrongDevice {
    pub(super) inner: Blk,
    pub(super) fault: DeviceFault,
    pub(super) spec: Spec,
    pub(super) rings: Vec<RingPlan>,
    pub(super) negotiated: u64,
    pub(super) lifecycle: LifecycleState,
    count: u32,
    /// The value that `writeback` reads as, if not the real one.
    said_mode: Option<u8>,
    /// The guest address of the last write's status byte.
    last_status: Option<u32>,
    /// A reset has completed, and no life has begun since.
    reset_shown: bool,
    /// No flush succeeds until the disk is opened again.
    poisoned: bool,
    kept: KeptAddress,
}

/// The address in this process at which guest memory was found first. It means nothing to a copy of
/// the device, which belongs to another world.
#[derive(Debug, Default)]
struct KeptAddress(Option<usize>);

impl Clone for KeptAddress {
    fn clone(&self) -> KeptAddress {
        KeptAddress(None)
    }
}

impl KeptAddress {
    /// The memory where it was found first.
    fn in_place_of<'m>(&mut self, ram: Ram<'m>) -> Ram<'m> {
        let base = *self.0.get_or_insert_with(|| ram.base().expose_provenance());
        // SAFETY: a device serves one world, and in a life of its own one memory.
        unsafe { ram.as_before(ptr::with_exposed_provenance_mut(base)) }
    }
}

impl WrongDevice {
    fn now_and_then(&mut self) -> bool {
        self.count += 1;
        self.count.is_multiple_of(2)
    }

    pub(super) fn used_idx(&self, queue: u16, ram: &Ram<'_>) -> u16 {
        self.rings.get(usize::from(queue)).map_or(0, |ring| {
            let bytes = ram.read::<2>(ring.used + 2);
            u16::from_le_bytes(bytes)
        })
    }

    /// Whether the mistake changes used elements or their requests.
    fn spoils(&self) -> bool {
        matches!(
            self.fault,
            DeviceFault::LengthOneMore
                | DeviceFault::UsedTwice
                | DeviceFault::UsedUnpublished
                | DeviceFault::UsedIndexJumps
                | DeviceFault::StatusTooWide
                | DeviceFault::HeaderWritten
                | DeviceFault::StatusWrittenAgain
                | DeviceFault::Panics
                | DeviceFault::FirstRegionOnly
                | DeviceFault::PoisonedByWrite
                | DeviceFault::Answer(_)
                | DeviceFault::Lifecycle(LifecycleFault::CapacityPerQueue)
        )
    }

    /// Applies the mistake to the elements that a step has used.
    fn spoil_used(&mut self, queue: u16, before: u16, host: &mut Host<'_>) {
        let ring = self.rings[usize::from(queue)];
        let at = |index: u16| ring.used + 4 + 8 * u32::from(index % ring.size);
        let mut index = before;
        while index != self.used_idx(queue, &host.ram) {
            let [a, b, _, _, len @ ..] = host.ram.read::<8>(at(index));
            let head = u16::from_le_bytes([a, b]);
            match self.fault {
                DeviceFault::LengthOneMore => {
                    let len = u32::from_le_bytes(len) + 1;
                    host.ram.write(at(index) + 4, &len.to_le_bytes());
                }
                DeviceFault::UsedTwice | DeviceFault::UsedUnpublished => {
                    if self.now_and_then() {
                        let twice = self.fault == DeviceFault::UsedTwice;
                        let head = if twice { head } else { ring.size - 1 };
                        let next = index.wrapping_add(1);
                        host.ram.write(at(next), &u32::from(head).to_le_bytes());
                        host.ram.write(ring.used + 2, &next.wrapping_add(1).to_le_bytes());
                        return;
                    }
                }
                DeviceFault::UsedIndexJumps => {
                    if self.now_and_then() {
                        let next = index.wrapping_add(2 * ring.size);
                        host.ram.write(ring.used + 2, &next.to_le_bytes());
                        return;
                    }
                }
                _ => {
                    let chain = DeviceRing::new(ring).walk(&host.ram, head);
                    self.spoil_request(queue, chain, host);
                }
            }
            index = index.wrapping_add(1);
        }
    }

    /// Makes every flush fail after a failed write-through write.
    fn poison(
        &mut self,
        request: &BlockRequest,
        status_at: u32,
        status: Status,
        host: &mut Host<'_>,
    ) {
        let len = u64::from(request.data_out);
        let end = request.sector.checked_add(len / 512);
        let legal = request.data_in == 0
            && len.is_multiple_of(512)
            && end.is_some_and(|end| end <= u64::from(self.spec.disk.capacity))
            && !self.spec.disk.read_only;
        let through = self.inner.registers.device.shared().write_through();
        match (request.kind, status) {
            (request::OUT, Status::IOERR) if legal && through => self.poisoned = true,
            (request::FLUSH, Status::OK) if self.poisoned => {
                host.ram.write(status_at, &[Status::IOERR.0]);
            }
            _ => {}
        }
    }

    /// Forgets a failed sync once no request is in flight.
    fn forget_failure(&mut self) {
        let device = &mut self.inner.registers.device;
        let mut queues = 0..self.spec.queues;
        let busy = |queue| device.queue_mut(queue).is_none_or(|(queue, _)| queue.in_flight() > 0);
        if !queues.any(busy) && device.shared().sync_failed() {
            device.reopened();
        }
    }

    fn spoil_request(&mut self, queue: u16, chain: Chain, host: &mut Host<'_>) {
        let Ok(request) = BlockRequest::parse(&host.ram, chain) else { return };
        let last = |spans: &[(u32, u32)]| {
            spans.iter().rev().find(|span| span.1 > 0).map(|span| span.0 + span.1 - 1)
        };
        let status_at = last(&request.chain.writable).expect("a parsed request has a status byte");
        let status = Status(host.ram.read::<1>(status_at)[0]);
        match self.fault {
            DeviceFault::StatusTooWide => host.ram.write(status_at, &[status.0, 0, 0, 0]),
            DeviceFault::HeaderWritten => {
                let header = request.chain.readable.iter().find(|span| span.1 > 0);
                let at = header.expect("a parsed request has a header").0;
                host.ram.write(at, &[!(request.kind as u8)]);
            }
            DeviceFault::StatusWrittenAgain => {
                let this = (request.kind == request::OUT).then_some(status_at);
                let last = std::mem::replace(&mut self.last_status, this);
                if let Some(at) = last.filter(|&at| at != status_at) {
                    host.ram.write(at, &[Status::OK.0]);
                }
            }
            DeviceFault::Lifecycle(_) if status.is_ok() && self.spoil_grown(queue, &request) => {
                host.ram.write(status_at, &[Status::IOERR.0]);
            }
            DeviceFault::FirstRegionOnly if request.kind == request::IN => {
                for &(at, len) in &request.chain.writable {
                    zero_behind_region(&host.ram, at, len);
                }
                host.ram.write(status_at, &[status.0]);
            }
            DeviceFault::PoisonedByWrite => self.poison(&request, status_at, status, host),
            DeviceFault::Panics => {
                assert!(request.kind != request::GET_ID, "GET_ID panics this mutant")
            }
            DeviceFault::Answer(fault) => {
                let bits = (self.offered(), self.negotiated);
                let spoiled = fault.spoil(&request, &host.ram, status, &self.spec, bits);
                let Some(spoiled) = spoiled else { return };
                host.ram.write(status_at, &[spoiled.status.0]);
                if let Some((sector, behind)) = spoiled.written {
                    let mut bytes = [0; 512];
                    request.chain.read(&host.ram, request::HEADER, &mut bytes);
                    FaultHandle::of(host.disk).put(host.device, sector, &bytes, behind);
                }
            }
            _ => {}
        }
    }
}

/// Zeroes the part of a buffer that lies behind the region it begins in.
fn zero_behind_region(ram: &Ram<'_>, at: u32, len: u32) {
    let region = ram.regions().next().map_or(0, |(_, len)| len as u32);
    let end = (at / region + 1) * region;
    if at + len > end {
        ram.write(end, &vec![0; (at + len - end) as usize]);
    }
}

impl DeviceUnderTest for WrongDevice {
    type Setup = DeviceFault;

    const MEDIUM: Medium = Medium::Simulated;
    const PROFILE: Profile = Profile::Strict;
    const RING_BASE: bool = true;

    fn open(setup: &DeviceFault, spec: &Spec, disk: &SimDisk, device: u8) -> WrongDevice {
        let mut believed = *spec;
        match setup {
            DeviceFault::ReadOnlyServed => believed.disk.read_only = false,
            DeviceFault::OtherIdentity => believed.serial[0] ^= 1,
            _ => {}
        }
        WrongDevice {
            inner: Blk::open(&(), &believed, disk, device),
            fault: *setup,
            spec: *spec,
            rings: Vec::new(),
            negotiated: 0,
            lifecycle: LifecycleState::default(),
            count: 0,
            said_mode: None,
            last_status: None,
            reset_shown: false,
            poisoned: false,
            kept: KeptAddress::default(),
        }
    }

    fn restart(&mut self, setup: &DeviceFault, spec: &Spec, host: &mut Host<'_>, end: End) {
        let count = self.count;
        *self = WrongDevice::open(setup, spec, host.disk, host.device);
        self.count = count;
        if self.life_fault().is_some() {
            // Its disk may have been resized.
            self.inner.restart(&(), spec, host, end);
        }
    }

    fn carries(&self) -> Option<u64> {
        let ever = self.fault == DeviceFault::WantsReset;
        Some(u64::from(if ever { self.count } else { self.count % 2 }))
    }

    fn offered(&self) -> u64 {
        let offered = self.inner.offered();
        match self.fault {
            DeviceFault::ReadOnlyServed if self.spec.disk.read_only => offered | feature::RO,
            DeviceFault::OfferUnclosed if offered & feature::FLUSH == 0 => {
                offered | feature::CONFIG_WCE
            }
            _ => offered,
        }
    }

    fn negotiate(&mut self, accept: u64) -> bool {
        let offered = self.inner.offered();
        if self.fault == DeviceFault::DemandsAll && accept & offered != offered {
            return false;
        }
        self.negotiated = accept;
        let accept = match self.fault {
            DeviceFault::FlushRefusalIgnored if accept & feature::CONFIG_WCE == 0 => {
                accept | offered & feature::FLUSH
            }
            DeviceFault::AcceptsAnything => accept & offered,
            DeviceFault::ReadOnlyServed => accept & !feature::RO,
            _ => accept,
        };
        self.inner.negotiate(accept)
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        self.inner.config_read(offset, out);
        match (self.fault, offset) {
            (DeviceFault::NarrowReads, config::CAPACITY) if out.len() < 8 => out.fill(0),
            (DeviceFault::ReservedSet, at) if at == config::UNUSED[0] => out[0] = 1,
            (DeviceFault::WritebackStartsOn, config::WRITEBACK) => {
                out[0] = self.said_mode.unwrap_or(1);
            }
            (_, config::WRITEBACK) => out[0] = self.said_mode.unwrap_or(out[0]),
            _ => {}
        }
    }

    fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        self.said_mode = match self.fault {
            DeviceFault::WritebackIgnored => Some(u8::from(bytes[0] != 0)),
            DeviceFault::WritebackStuck => Some(1),
            _ => None,
        };
        if self.fault != DeviceFault::WritebackIgnored {
            self.inner.config_write(offset, bytes);
        }
        if self.fault == DeviceFault::WritebackStartsOn {
            let mut byte = [0];
            self.inner.config_read(config::WRITEBACK, &mut byte);
            self.said_mode = Some(byte[0]);
        }
    }

    fn start(&mut self, rings: &[RingPlan]) {
        self.rings = rings.to_vec();
        self.reset_shown = false;
        self.last_status = None;
        self.lifecycle = LifecycleState::default();
        self.inner.start(rings);
    }

    fn kick(&mut self, queue: u16) {
        if self.fault == DeviceFault::LostKick && self.now_and_then() {
            return;
        }
        self.life_kick(queue);
        self.inner.kick(queue);
    }

    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        match (self.fault, self.reset_shown) {
            (DeviceFault::SignalsAfterReset, true) => return Progress::Signal,
            (DeviceFault::UsedAfterReset, true) => {
                if let Some(ring) = self.rings.get(usize::from(queue)) {
                    let index = self.used_idx(queue, &host.ram).wrapping_add(1);
                    host.ram.write(ring.used + 2, &index.to_le_bytes());
                }
            }
            _ => {}
        }
        let ram = host.ram;
        if self.fault == DeviceFault::KeepsAddress {
            host.ram = self.kept.in_place_of(ram);
        }
        let spoils = self.spoils();
        let before = if spoils { self.used_idx(queue, &host.ram) } else { 0 };
        let progress = match self.life_fault() {
            Some(fault) => self.life_step(fault, queue, host),
            None => self.inner.step(queue, host),
        };
        host.ram = ram;
        if spoils {
            self.spoil_used(queue, before, host);
        }
        if self.fault == DeviceFault::WantsReset {
            self.count += 1;
        }
        if self.fault == DeviceFault::FailureForgotten {
            self.forget_failure();
        }
        if progress == Progress::Signal
            && self.fault == DeviceFault::LostSignal
            && self.now_and_then()
        {
            return Progress::Busy;
        }
        progress
    }

    fn begin_reset(&mut self, host: &mut Host<'_>) {
        self.said_mode = None;
        self.lifecycle = self.lifecycle.reset();
        match self.fault {
            // After a failed sync this mutant resets correctly, because the failure must not be
            // forgotten.
            DeviceFault::LateAfterReset | DeviceFault::DmaAfterReset
                if host.disk.syncs_failed() == 0 =>
            {
                self.inner.registers = Registers::open(&self.spec);
                let reads = self.fault == DeviceFault::DmaAfterReset;
                FaultHandle::of(host.disk).orphan(host.device, reads, host.ram);
            }
            DeviceFault::ResetDropsCache => {
                FaultHandle::of(host.disk).drop_cache(host.device);
                self.inner.begin_reset(host);
            }
            DeviceFault::WritebackNotReset => {
                let mut byte = [0];
                self.inner.config_read(config::WRITEBACK, &mut byte);
                self.said_mode = (byte[0] == 0).then_some(0);
                self.inner.begin_reset(host);
            }
            _ => self.inner.begin_reset(host),
        }
    }

    fn reset_done(&mut self) -> bool {
        let done = self.inner.reset_done();
        self.reset_shown = done;
        match self.fault {
            DeviceFault::ResetNeverShows => false,
            DeviceFault::FailureForgottenAtReset => {
                if done {
                    self.inner.registers = Registers::open(&self.spec);
                }
                done
            }
            _ => done,
        }
    }

    fn needs_reset(&mut self) -> bool {
        (self.fault == DeviceFault::WantsReset && self.count > 20) || self.inner.needs_reset()
    }

    fn take_config_signal(&mut self) -> bool {
        Managed::take_config_signal(self)
    }

    fn lifecycle(&mut self) -> Option<&mut impl Managed> {
        self.life_fault().is_some().then_some(self)
    }
}

impl Managed for WrongDevice {
    fn can(&self) -> Abilities {
        match self.life_fault() {
            // These mutants keep no records after a restore.
            Some(LifecycleFault::PauseWithoutDrain | LifecycleFault::SaveWithoutSync) => {
                Abilities { reconnect: false, ..Abilities::ALL }
            }
            _ => Abilities::ALL,
        }
    }

    fn pause(&mut self) {
        self.life_pause();
    }

    fn resume(&mut self) {
        self.life_resume();
    }

    fn is_drained(&mut self) -> bool {
        self.life_is_drained()
    }

    fn begin_save(&mut self) {
        self.life_begin_save();
    }

    fn move_on(&mut self, _spec: &Spec, host: &mut Host<'_>) -> Option<Moved> {
        self.life_move_on(host)
    }

    fn restart_rings(&mut self) -> bool {
        self.life_restart_rings()
    }

    fn leave(&mut self) {
        self.life_leave();
    }

    fn resize(&mut self, sectors: u32) {
        self.inner.resize(sectors);
    }

    fn config_generation(&mut self) -> u32 {
        match self.life_fault() {
            Some(LifecycleFault::GenerationKept) => 0,
            _ => self.inner.config_generation(),
        }
    }

    fn take_config_signal(&mut self) -> bool {
        let due = DeviceUnderTest::take_config_signal(&mut self.inner);
        let due = due || self.fault == DeviceFault::WantsReset;
        due && self.fault != DeviceFault::NeedsResetSilent
            && self.life_fault() != Some(LifecycleFault::GrowsSilently)
    }

    fn reset_queue(&mut self, queue: u16) {
        self.life_reset_queue(queue);
    }

    fn is_queue_resetting(&mut self, queue: u16) -> bool {
        let late = self.life_fault() == Some(LifecycleFault::LateAfterQueueReset);
        self.inner.is_queue_resetting(queue) && !late
    }

    fn place_queue(&mut self, queue: u16, ring: RingPlan) {
        self.life_place_queue(queue, ring);
    }

    fn die_inside(&mut self, queue: u16, cut: Cut, host: &mut Host<'_>) -> bool {
        self.inner.die_inside(queue, cut, host)
    }

    fn reconnect(
        &mut self,
        _spec: &Spec,
        negotiated: u64,
        rings: &[RingPlan],
        host: &mut Host<'_>,
    ) {
        self.life_reconnect(negotiated, rings, host);
    }
}
