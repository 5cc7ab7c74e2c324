//! What one front-end may say, and what the device does about it.
//!
//! Everything here happens on the thread that reads the socket. A lane whose state has to change is taken from its thread meanwhile.

use super::lane::{Lane, RingError, State, Taken};
use super::record::{self, Records};
use super::setup::{Parts, Setup};
use super::table::{Table, lent};
use super::{Event, Memory, QueueDisk, Report};
use crate::config::WRITEBACK_OFFSET;
use crate::helm;
use crate::shared::Shared;
use crate::wakes::QueueIndex;
use rustix::event::{PollFd, PollFlags, poll};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVirtioFeatures,
    VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};

/// Most memory regions a front-end may share; as many as the kernel's own back-ends take.
const MOST_REGIONS: u64 = 509;

/// A device and the one front-end that is connected to it.
pub(super) struct FrontEnd<'a, D: QueueDisk> {
    shared: &'a Shared,
    lanes: &'a [Lane<D>],
    report: &'a Report,
    /// To be told if memory turns out to be shrunk when all is over.
    shrunk: &'a AtomicBool,
    owned: bool,
    table: Table,
    /// A cache mode that came before the features that make it count.
    early_mode: Option<u8>,
    /// What a back-end that comes after a crash will know of this one.
    records: Option<Records>,
}

impl<'a, D: QueueDisk> FrontEnd<'a, D> {
    /// A front-end that has said nothing yet.
    pub(super) fn new(
        shared: &'a Shared,
        lanes: &'a [Lane<D>],
        report: &'a Report,
        shrunk: &'a AtomicBool,
    ) -> FrontEnd<'a, D> {
        let table = Table::default();
        FrontEnd {
            shared,
            lanes,
            report,
            shrunk,
            owned: false,
            table,
            early_mode: None,
            records: None,
        }
    }

    fn lane(&self, index: u32) -> Result<&'a Lane<D>> {
        self.lanes.get(index as usize).ok_or(Error::InvalidParam)
    }

    fn take_all(&self) -> Vec<Taken<'a, D>> {
        self.lanes.iter().map(Lane::take).collect()
    }

    /// Ends a life of the device: nothing is negotiated any more.
    fn forget(&mut self) {
        self.shared.forget_negotiation();
        self.early_mode = None;
        self.note_mode();
    }

    /// Lanes are given the new table before the front-end is told that it counts: what a driver puts on a ring afterwards lies in it.
    fn share(&mut self, table: Table) -> Result<()> {
        let regions = table.regions().map_err(Error::ReqHandlerError)?;
        for lane in self.lanes {
            lane.take().memory = lent(&regions);
        }
        self.table = table;
        Ok(())
    }

    /// A new set of features. With rings being served it changes nothing. With none it begins a life of the device, unless the features are
    /// those it has: a guest that was paused goes on, and the cache mode it chose holds.
    fn negotiate(&mut self, features: u64) {
        if features == self.shared.negotiated() {
            return;
        }
        if self.lanes.iter().any(|lane| lane.take().is_serving()) {
            return (self.report)(Event::LateFeatures(features));
        }
        self.shared.forget_negotiation();
        if let Err(refused) = self.shared.negotiate(features) {
            return (self.report)(Event::Features(refused));
        }
        if let Some(mode) = self.early_mode.take() {
            self.shared.config_write(WRITEBACK_OFFSET, &[mode]);
        }
        self.note_mode();
    }

    /// Sets the cache mode. A front-end passes on at once what the driver writes, but its features only when the driver is ready.
    fn set_mode(&mut self, mode: u8) {
        if self.shared.negotiated() == 0 {
            self.early_mode = Some(mode);
        } else {
            self.shared.config_write(WRITEBACK_OFFSET, &[mode]);
            self.note_mode();
        }
    }

    /// Leaves the cache mode to whoever serves this driver after a crash.
    fn note_mode(&self) {
        if let Some(records) = &self.records {
            let mut mode = [0];
            self.shared.config_read(WRITEBACK_OFFSET, &mut mode);
            records.set_mode(mode[0]);
        }
    }

    fn refuse(&self, index: u32, why: RingError) {
        (self.report)(Event::Ring(QueueIndex(index as u16), why));
    }

    /// Changes what was said about a ring.
    fn set_up(&self, index: u32, change: impl FnOnce(&mut Setup)) -> Result<()> {
        let changed = self.lane(index)?.take().set_up(change);
        changed.map_err(|why| {
            self.refuse(index, why);
            Error::InvalidParam
        })
    }
}

/// The end of a connection: what was taken is answered, then rings, memory and features are gone.
impl<D: QueueDisk> Drop for FrontEnd<'_, D> {
    fn drop(&mut self) {
        // The driver may live on and be served by the next process.
        self.records = None;
        let mut taken = self.take_all();
        drain(self.lanes, &mut taken);
        for lane in &mut taken {
            lane.stop();
            if lane.memory.is_shrunk() {
                self.shrunk.store(true, Ordering::Release);
            }
            lane.memory = Memory::default();
            lane.record = None;
            lane.set_up(|setup| *setup = Default::default())
                .expect("there is no kick to listen to");
        }
        self.forget();
    }
}

/// Steps the `taken` of these lanes until nothing is in flight in any of them. The others go on by themselves, for these may wait for them.
fn drain<D: QueueDisk>(lanes: &[Lane<D>], taken: &mut [Taken<'_, D>]) {
    let wake = |queue: QueueIndex| lanes[usize::from(queue.0)].wake();
    let step = |lane: &mut State<D>, woken| lane.step(false, woken, wake);
    helm::drain(taken, step, |lane| lane.in_flight() == 0, sleep);
}

/// Waits until something may have come for one of these lanes.
fn sleep<D: QueueDisk>(taken: &[Taken<'_, D>]) {
    let bells = taken.iter().map(|lane| lane.bell().as_fd());
    let completions = taken.iter().filter_map(|lane| lane.disk.completion_fd());
    let fds: Vec<BorrowedFd<'_>> = bells.chain(completions).collect();
    let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    // It fails only when a signal came, and then the lanes are looked at once more.
    let _ = poll(&mut polled, None);
}

impl<D: QueueDisk> VhostUserBackendReqHandlerMut for FrontEnd<'_, D> {
    fn set_owner(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.owned, true) {
            return Err(Error::InvalidOperation("it has an owner"));
        }
        Ok(())
    }

    /// Deprecated by the protocol, which asks that it change nothing.
    fn reset_owner(&mut self) -> Result<()> {
        self.owned = false;
        Ok(())
    }

    /// Abandons what the host does not hold, and waits for what it does.
    fn reset_device(&mut self) -> Result<()> {
        let mut taken = self.take_all();
        for lane in &mut taken {
            lane.abandon();
        }
        drain(self.lanes, &mut taken);
        for lane in &mut taken {
            lane.stop();
            let silenced = lane.set_up(|setup| {
                setup.enabled = false;
                setup.kick = None;
            });
            silenced.expect("there is no kick to listen to");
        }
        drop(taken);
        self.forget();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.shared.offered() | PROTOCOL_FEATURES)
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !self.get_features()? != 0 {
            return Err(Error::InvalidParam);
        }
        self.negotiate(features & !PROTOCOL_FEATURES);
        if features & PROTOCOL_FEATURES == 0 {
            // There is no message to enable rings with then.
            for index in 0..self.lanes.len() as u32 {
                self.set_vring_enable(index, true)?;
            }
        }
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
            | VhostUserProtocolFeatures::RESET_DEVICE
            | VhostUserProtocolFeatures::INFLIGHT_SHMFD)
    }

    fn set_protocol_features(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.lanes.len() as u64)
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(MOST_REGIONS)
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        self.share(Table::new(regions, files)?)?;
        Ok(None)
    }

    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
        _: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        self.share(self.table.with(region, file)?)?;
        Ok(None)
    }

    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        self.share(self.table.without(region)?)
    }

    fn set_vring_num(&mut self, index: u32, size: u32) -> Result<()> {
        let lane = self.lane(index)?;
        let most = self.shared.config().queue_size;
        let size = u16::try_from(size).ok().filter(|size| (1..=most).contains(size));
        lane.take().setup.size = size.ok_or(Error::InvalidParam)?;
        Ok(())
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _: VhostUserVringAddrFlags,
        descriptors: u64,
        used: u64,
        available: u64,
        _: u64,
    ) -> Result<()> {
        let place = |address| self.table.guest_address(address).ok_or(Error::InvalidParam);
        let parts = Parts {
            descriptors: place(descriptors)?,
            available: place(available)?,
            used: place(used)?,
        };
        self.set_up(index, |setup| setup.parts = Some(parts))
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        self.lane(index)?.take().setup.base = base as u16;
        Ok(())
    }

    /// Answered only when every request that was taken is answered on its ring.
    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let mut taken = [self.lane(index)?.take()];
        drain(self.lanes, &mut taken);
        let [lane] = &mut taken;
        lane.stop();
        let silenced = lane.set_up(|setup| {
            setup.kick = None;
            setup.call = None;
        });
        silenced.expect("there is no kick to listen to");
        Ok(VhostUserVringState::new(index, lane.setup.base.into()))
    }

    fn set_vring_kick(&mut self, index: u8, kick: Option<File>) -> Result<()> {
        self.set_up(index.into(), |setup| setup.kick = kick.map(OwnedFd::from))
    }

    fn set_vring_call(&mut self, index: u8, call: Option<File>) -> Result<()> {
        let mut lane = self.lane(index.into())?.take();
        lane.setup.call = call.map(OwnedFd::from);
        if lane.is_serving() {
            // What was used before went to the other one, or nowhere.
            lane.setup.signal();
        }
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, error: Option<File>) -> Result<()> {
        self.lane(index.into())?.take().setup.error = error.map(OwnedFd::from);
        Ok(())
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.set_up(index, |setup| setup.enabled = enable)
    }

    fn get_config(&mut self, offset: u32, size: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        let mut bytes = vec![0; size as usize];
        self.shared.config_read(offset.into(), &mut bytes);
        Ok(bytes)
    }

    fn set_config(&mut self, offset: u32, bytes: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        match bytes {
            &[mode] if u64::from(offset) == WRITEBACK_OFFSET => self.set_mode(mode),
            _ => self.shared.config_write(offset.into(), bytes),
        }
        Ok(())
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        Err(NOT_OFFERED)
    }

    fn get_inflight_fd(&mut self, asked: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        let most = self.shared.config().queue_size;
        if usize::from(asked.num_queues) > self.lanes.len() || asked.queue_size > most {
            return Err(Error::InvalidParam);
        }
        record::make(asked)
    }

    fn set_inflight_fd(&mut self, kept: &VhostUserInflight, file: File) -> Result<()> {
        let records = Records::map(kept, file)?;
        for (lane, part) in self.lanes.iter().zip(&records.parts) {
            lane.take().record = Some(Arc::clone(part));
        }
        let left = records.mode();
        self.records = Some(records);
        match left {
            Some(mode) => self.set_mode(mode),
            None => self.note_mode(),
        }
        Ok(())
    }

    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        Err(NOT_OFFERED)
    }

    fn check_device_state(&mut self) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(NOT_OFFERED)
    }

    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        Err(NOT_OFFERED)
    }
}

const PROTOCOL_FEATURES: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

const NOT_OFFERED: Error = Error::InvalidOperation("it was not offered");
