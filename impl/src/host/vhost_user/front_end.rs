//! The messages of one front-end, and their effects on the device.
//!
//! Everything here happens on the thread that reads the socket. A lane whose state must change is
//! taken from its worker meanwhile. A refused message has changed nothing.

use super::channel::Channel;
use super::connection::{Descriptors, Message};
use super::descriptor::{check_channel, check_event, check_kick, discard};
use super::drain::{Patience, drain};
use super::lane::{Exclusive, Lane, State};
use super::memory_table::{MemoryTable, lent};
use super::message::{
    F_PROTOCOL_FEATURES, Fields, Inflight, MessageError, Region, Request, feature, vring_state,
};
use super::record::{self, Records};
use super::ring_error::RingError;
use super::setup::{Parts, Setup};
use super::{Event, Memory, QueueDisk, Report};
use crate::config::{CONFIG_BYTES, WRITEBACK_OFFSET};
use crate::shared::Shared;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Maximum number of memory regions that a front-end may share: that of the kernel's own back-ends.
const MOST_REGIONS: u64 = 509;

/// The protocol features on offer.
const PROTOCOL: u64 = feature::MQ
    | feature::REPLY_ACK
    | feature::BACKEND_REQ
    | feature::CONFIG
    | feature::INFLIGHT_SHMFD
    | feature::RESET_DEVICE
    | feature::CONFIGURE_MEM_SLOTS;

/// Time limit for the requests of a disconnected front-end, whose answers have no reader.
const GONE: Duration = Duration::from_millis(250);

/// The same limit when the server stops: the front-end is still there, and may continue with
/// another server.
const ENDING: Duration = Duration::from_secs(2);

/// The reply to a message.
#[derive(Debug)]
pub(super) enum Answer {
    /// Success, to be reported if the front-end requested a reply.
    Done,
    /// A body, and an optional descriptor.
    Body(Vec<u8>, Option<OwnedFd>),
    /// None: the front-end has disconnected, or the server is to stop.
    Over,
}

/// A device and the one front-end that is connected to it.
pub(super) struct FrontEnd<'a, D: QueueDisk> {
    shared: &'a Shared,
    lanes: &'a [Lane<D>],
    report: &'a Report,
    channel: &'a Channel,
    /// Whether the front-end has disconnected or the server is to stop, so that waiting is
    /// pointless.
    is_over: &'a dyn Fn() -> bool,
    owned: bool,
    /// The protocol features that the front-end has accepted.
    protocol: u64,
    table: MemoryTable,
    /// A cache mode that arrived before the features that enable it.
    early_mode: Option<u8>,
    /// The in-flight records for a back-end that follows a crash.
    records: Option<Records>,
}

impl<'a, D: QueueDisk> FrontEnd<'a, D> {
    /// A front-end that has sent no message yet. `is_over` returns whether it has disconnected or
    /// the server is to stop.
    pub(super) fn new(
        shared: &'a Shared,
        lanes: &'a [Lane<D>],
        report: &'a Report,
        channel: &'a Channel,
        is_over: &'a dyn Fn() -> bool,
    ) -> FrontEnd<'a, D> {
        FrontEnd {
            shared,
            lanes,
            report,
            channel,
            is_over,
            owned: false,
            protocol: 0,
            table: MemoryTable::default(),
            early_mode: None,
            records: None,
        }
    }

    /// Whether messages without a reply of their own are acknowledged.
    pub(super) fn acknowledges(&self) -> bool {
        self.protocol & feature::REPLY_ACK != 0
    }

    /// Executes a message.
    ///
    /// # Errors
    /// It is invalid in this state, and has changed nothing.
    pub(super) fn handle(&mut self, message: &mut Message) -> Result<Answer, MessageError> {
        let request = message.request;
        let descriptors = &mut message.descriptors;
        let mut body = Fields::of(request, &message.body);
        let refused = |why: String| MessageError::Refused(request, why);
        let number = |value: u64| Ok(Answer::Body(value.to_ne_bytes().to_vec(), None));
        match request {
            Request::SET_OWNER if std::mem::replace(&mut self.owned, true) => {
                return Err(refused("it has an owner".to_owned()));
            }
            Request::SET_OWNER => {}
            // Deprecated by the protocol, which requires that it change nothing.
            Request::RESET_OWNER => self.owned = false,
            Request::RESET_DEVICE => return Ok(self.reset_device()),
            Request::GET_FEATURES => return number(self.shared.offered() | F_PROTOCOL_FEATURES),
            Request::SET_FEATURES => self.set_features(body.u64()?).map_err(refused)?,
            Request::GET_PROTOCOL_FEATURES => return number(PROTOCOL),
            // Bits that were not offered are ignored.
            Request::SET_PROTOCOL_FEATURES => self.protocol = body.u64()? & PROTOCOL,
            Request::GET_QUEUE_NUM => return number(self.lanes.len() as u64),
            Request::GET_MAX_MEM_SLOTS => return number(MOST_REGIONS),
            Request::SET_MEM_TABLE => {
                let regions = memory_table(request, &mut body, descriptors)?;
                self.share(MemoryTable::new(regions).map_err(refused)?).map_err(refused)?;
            }
            Request::ADD_MEM_REG if self.table.regions_shared() as u64 >= MOST_REGIONS => {
                return Err(refused(format!("more than {MOST_REGIONS} regions")));
            }
            Request::ADD_MEM_REG => {
                body.u64()?;
                let region = Region::read(&mut body)?;
                let table = self.table.with(region, descriptors.single(request)?);
                self.share(table.map_err(refused)?).map_err(refused)?;
            }
            Request::REM_MEM_REG => {
                body.u64()?;
                let table = self.table.without(Region::read(&mut body)?);
                self.share(table.map_err(refused)?).map_err(refused)?;
            }
            Request::SET_VRING_NUM => {
                let (lane, size) = self.lane_and_number(request, &mut body)?;
                self.set_size(lane, size).map_err(refused)?;
            }
            Request::SET_VRING_ADDR => {
                let (lane, flags) = self.lane_and_number(request, &mut body)?;
                if flags != 0 {
                    return Err(refused(format!("ring flags {flags:#x} were not offered")));
                }
                let parts = self.parts(&mut body, request)?;
                self.set_up(lane, |setup| setup.parts = Some(parts)).map_err(refused)?;
            }
            Request::SET_VRING_BASE => {
                let (lane, base) = self.lane_and_number(request, &mut body)?;
                self.lanes[lane].take().setup.base = base as u16;
            }
            Request::GET_VRING_BASE => {
                let (lane, _) = self.lane_and_number(request, &mut body)?;
                return Ok(self.stop_ring(lane));
            }
            Request::SET_VRING_KICK => {
                let (lane, kick) = self.lane_and_descriptor(request, &mut body, descriptors)?;
                let kick = usable(kick, check_kick).map_err(refused)?;
                self.set_up(lane, |setup| setup.kick = kick).map_err(refused)?;
            }
            Request::SET_VRING_CALL => {
                let (lane, call) = self.lane_and_descriptor(request, &mut body, descriptors)?;
                let call = usable(call, check_event).map_err(refused)?;
                self.lanes[lane].take().set_call(call);
            }
            Request::SET_VRING_ERR => {
                let (lane, error) = self.lane_and_descriptor(request, &mut body, descriptors)?;
                let error = usable(error, check_event).map_err(refused)?;
                self.lanes[lane].take().error = error;
            }
            Request::SET_VRING_ENABLE => {
                let (lane, enable) = self.lane_and_number(request, &mut body)?;
                if enable > 1 {
                    return Err(refused(format!("{enable} is neither 0 nor 1")));
                }
                self.set_up(lane, |setup| setup.enabled = enable == 1).map_err(refused)?;
            }
            Request::GET_CONFIG => return self.get_config(request, &mut body),
            Request::SET_CONFIG => self.set_config(&mut body)?,
            Request::SET_BACKEND_REQ_FD => {
                let socket = Some(descriptors.single(request)?);
                let socket = usable(socket, check_channel).map_err(refused)?;
                self.channel.open(socket);
            }
            Request::GET_INFLIGHT_FD => {
                let asked = Inflight::read(&mut body)?;
                let (made, file) = self.make_record(asked).map_err(refused)?;
                return Ok(Answer::Body(made.body(message.body.len()), Some(file)));
            }
            Request::SET_INFLIGHT_FD => {
                let kept = Inflight::read(&mut body)?;
                self.keep_records(&kept, descriptors.single(request)?).map_err(refused)?;
            }
            unknown => return Err(MessageError::Unknown(unknown)),
        }
        Ok(Answer::Done)
    }

    /// The ring and the number in a message.
    fn lane_and_number(
        &self,
        request: Request,
        body: &mut Fields<'_>,
    ) -> Result<(usize, u32), MessageError> {
        let (ring, number) = (body.u32()?, body.u32()?);
        self.ring(request, ring).map(|lane| (lane, number))
    }

    /// The ring of a message and its descriptor; `None` if the message announces that it has none.
    fn lane_and_descriptor(
        &self,
        request: Request,
        body: &mut Fields<'_>,
        descriptors: &mut Descriptors,
    ) -> Result<(usize, Option<OwnedFd>), MessageError> {
        const RING: u64 = 0xff;
        const NONE: u64 = 1 << 8;
        let value = body.u64()?;
        let lane = self.ring(request, (value & RING) as u32)?;
        match (value & NONE != 0, descriptors.len()) {
            (true, 0) => Ok((lane, None)),
            (false, 1) => Ok((lane, descriptors.take())),
            (_, count) => Err(MessageError::Descriptors(request, count)),
        }
    }

    fn ring(&self, request: Request, ring: u32) -> Result<usize, MessageError> {
        let rings = self.lanes.len();
        let index = usize::try_from(ring).ok().filter(|index| *index < rings);
        index.ok_or(MessageError::NoSuchRing(request, ring, rings))
    }

    fn take_all(&self) -> Vec<Exclusive<'a, D>> {
        self.lanes.iter().map(Lane::take).collect()
    }

    /// Ends a life of the device and its negotiation.
    fn forget(&mut self) {
        self.shared.forget_negotiation();
        self.early_mode = None;
        self.note_mode();
    }

    /// Installs a new table. Each lane has it before the front-end receives the acknowledgement,
    /// because descriptors that a driver publishes afterwards may use it.
    fn share(&mut self, table: MemoryTable) -> Result<(), String> {
        let regions = table.regions().map_err(|error| format!("guest memory: {error}"))?;
        for lane in self.lanes {
            lane.take().memory = lent(&regions);
        }
        self.table = table;
        Ok(())
    }

    fn set_features(&mut self, features: u64) -> Result<(), String> {
        let unknown = features & !(self.shared.offered() | F_PROTOCOL_FEATURES);
        if unknown != 0 {
            return Err(format!("features {unknown:#x} were not offered"));
        }
        self.negotiate(features & !F_PROTOCOL_FEATURES);
        if features & F_PROTOCOL_FEATURES == 0 {
            // Without protocol features there is no message to enable rings.
            for lane in 0..self.lanes.len() {
                self.set_up(lane, |setup| setup.enabled = true)?;
            }
        }
        Ok(())
    }

    /// Negotiates a new set of features. While a ring is served, it is ignored. Otherwise it begins
    /// a life of the device, unless the features are unchanged: a paused guest continues, with its
    /// cache mode.
    fn negotiate(&mut self, features: u64) {
        if features == self.shared.negotiated() {
            return;
        }
        // No ring starts to be served meanwhile.
        let taken = self.take_all();
        if taken.iter().any(|lane| lane.is_serving()) {
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

    /// Sets the cache mode. A front-end forwards a driver's write of it at once, but the features
    /// only when the driver is ready.
    fn set_mode(&mut self, mode: u8) {
        if self.shared.negotiated() == 0 {
            self.early_mode = Some(mode);
        } else {
            self.shared.config_write(WRITEBACK_OFFSET, &[mode]);
            self.note_mode();
        }
    }

    /// Records the cache mode for the back-end that serves this driver after a crash.
    fn note_mode(&self) {
        if let Some(records) = &self.records {
            let mut mode = [0];
            self.shared.config_read(WRITEBACK_OFFSET, &mut mode);
            records.set_mode(mode[0]);
        }
    }

    /// Changes the setup of a ring.
    fn set_up(&self, lane: usize, change: impl FnOnce(&mut Setup)) -> Result<(), String> {
        let changed = self.lanes[lane].take().set_up(change);
        changed.map_err(|why: RingError| format!("ring {lane}: {why}"))
    }

    fn set_size(&self, lane: usize, size: u32) -> Result<(), String> {
        let most = self.shared.config().queue_size;
        let fits = u16::try_from(size).ok().filter(|size| (1..=most).contains(size));
        let size = fits.ok_or_else(|| {
            format!("a ring of {size} descriptors, but the server takes at most {most}")
        })?;
        self.lanes[lane].take().setup.size = size;
        Ok(())
    }

    /// Reads the front-end's addresses of the parts of a ring, and translates them.
    fn parts(&self, body: &mut Fields<'_>, request: Request) -> Result<Parts, MessageError> {
        let mut place = || {
            let address = body.u64()?;
            self.table.guest_address(address).ok_or_else(|| {
                let why = format!("a ring at {address:#x}, outside the shared memory regions");
                MessageError::Refused(request, why)
            })
        };
        let (descriptors, used, available) = (place()?, place()?, place()?);
        Ok(Parts { descriptors, available, used })
    }

    /// Abandons all requests without an operation in the host, and waits for the operations. Clears
    /// the in-flight record, also of rings that were not served since.
    fn reset_device(&mut self) -> Answer {
        let mut taken = self.take_all();
        for lane in &mut taken {
            lane.abandon();
        }
        drain(self.lanes, &mut taken, State::is_idle, &Patience::for_ever());
        for lane in &mut taken {
            lane.stop();
            let silenced = lane.set_up(|setup| {
                setup.enabled = false;
                setup.kick = None;
            });
            silenced.expect("there is no kick to listen to");
        }
        if let Some(records) = &self.records {
            records.clear();
        }
        drop(taken);
        self.forget();
        Answer::Done
    }

    /// Stops a ring. Replies only when every taken request is answered on its ring, including those
    /// that a dead back-end had taken.
    fn stop_ring(&self, lane: usize) -> Answer {
        let mut taken = [self.lanes[lane].take()];
        taken[0].pause();
        drain(self.lanes, &mut taken, State::is_drained, &Patience::unless(self.is_over));
        let [state] = &mut taken;
        if !state.is_drained() {
            return Answer::Over;
        }
        state.stop();
        let silenced = state.set_up(|setup| setup.kick = None);
        silenced.expect("there is no kick to listen to");
        state.set_call(None);
        Answer::Body(vring_state(lane as u32, state.setup.base.into()), None)
    }

    fn get_config(&self, request: Request, body: &mut Fields<'_>) -> Result<Answer, MessageError> {
        let (offset, size, flags) = (body.u32()?, body.u32()?, body.u32()?);
        if size as usize > MOST_CONFIG {
            return Err(MessageError::Size(request, size as usize));
        }
        let mut bytes = vec![0; size as usize];
        self.shared.config_read(offset.into(), &mut bytes);
        let mut answer = [offset, size, flags].map(u32::to_ne_bytes).concat();
        answer.extend(bytes);
        Ok(Answer::Body(answer, None))
    }

    fn set_config(&mut self, body: &mut Fields<'_>) -> Result<(), MessageError> {
        let (offset, size, _flags) = (body.u32()?, body.u32()?, body.u32()?);
        match body.bytes(size as usize)? {
            &[mode] if u64::from(offset) == WRITEBACK_OFFSET => self.set_mode(mode),
            bytes => self.shared.config_write(offset.into(), bytes),
        }
        Ok(())
    }

    fn make_record(&self, asked: Inflight) -> Result<(Inflight, OwnedFd), String> {
        let Inflight { queues, queue_size, .. } = asked;
        let (rings, most) = (self.lanes.len(), self.shared.config().queue_size);
        if usize::from(queues) > rings || queue_size > most {
            return Err(format!(
                "a record for {queues} rings of {queue_size} descriptors, but the server has {rings} \
                 of at most {most} (--queues)"
            ));
        }
        record::make(queues, queue_size).map_err(|error| format!("no memory to share: {error}"))
    }

    fn keep_records(&mut self, kept: &Inflight, file: OwnedFd) -> Result<(), String> {
        let records = Records::map(kept, file, self.lanes.len())?;
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

    /// Ends the connection and removes all state of the front-end; returns whether it has shrunk
    /// the memory it shared.
    ///
    /// Requests in an in-flight record stay there, for the front-end's next server. Requests
    /// without a record are executed up to a time limit, because their answers may have no reader.
    /// Operations that the host has are always waited for.
    pub(super) fn end(mut self, ending: bool) -> bool {
        // The next process may serve the same driver.
        self.records = None;
        let mut taken = self.take_all();
        for lane in &mut taken {
            if lane.is_recorded() { lane.leave() } else { lane.pause() }
        }
        let patience = Patience::of(if ending { ENDING } else { GONE });
        drain(self.lanes, &mut taken, State::is_drained, &patience);
        for lane in &mut taken {
            lane.abandon();
        }
        drain(self.lanes, &mut taken, State::is_idle, &Patience::for_ever());
        let mut shrunk = false;
        for lane in &mut taken {
            lane.stop();
            shrunk |= lane.memory.is_shrunk();
            lane.memory = Memory::default();
            lane.record = None;
            lane.set_up(|setup| *setup = Setup::default()).expect("there is no kick to listen to");
            lane.set_call(None);
            lane.error = None;
        }
        drop(taken);
        self.forget();
        shrunk
    }
}

/// Checks a descriptor, if there is one.
///
/// # Errors
/// It does not pass; the error names its kind.
fn usable(
    fd: Option<OwnedFd>,
    check: impl Fn(&OwnedFd) -> Result<(), String>,
) -> Result<Option<OwnedFd>, String> {
    let Some(fd) = fd else { return Ok(None) };
    match check(&fd) {
        Ok(()) => Ok(Some(fd)),
        Err(why) => {
            discard(fd);
            Err(why)
        }
    }
}

/// Maximum number of configuration space bytes in one message.
const MOST_CONFIG: usize = 256;

const _: () = assert!(CONFIG_BYTES <= MOST_CONFIG);

/// The regions of a memory table, each with its file.
fn memory_table(
    request: Request,
    body: &mut Fields<'_>,
    descriptors: &mut Descriptors,
) -> Result<Vec<(Region, OwnedFd)>, MessageError> {
    let (regions, _padding) = (body.u32()?, body.u32()?);
    if regions as usize != descriptors.len() {
        return Err(MessageError::Descriptors(request, descriptors.len()));
    }
    let mut table = Vec::new();
    for _ in 0..regions {
        let region = Region::read(body)?;
        table.push((region, descriptors.take().expect("there are as many")));
    }
    Ok(table)
}
