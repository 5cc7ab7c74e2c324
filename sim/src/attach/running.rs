//! A running backend: its process, its connections, and what a front-end says to it.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use super::below::{Asked, Below, Kind};
use super::messages::{self, Messages, PROTOCOL_FEATURES, protocol, ring, words};
use super::place::Place;
use super::preset::Preset;
use super::process::Process;
use super::shared::Shared;
use crate::guest::RingPlan;

/// How long a backend may take to listen, and to answer a message.
const DEADLINE: Duration = Duration::from_secs(10);
/// The address of guest address zero in the messages.
const USER: u64 = 1 << 32;
/// Bytes of the configuration space that are asked for.
const CONFIG: usize = 60;

/// A running backend with its connections.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) process: Process,
    pub(super) messages: Messages,
    pub(super) below: Below,
    /// Requests to the host that are not operations yet.
    pub(super) asked: Vec<Asked>,
    pub(super) features: u64,
    pub(super) protocol: u64,
    pub(super) shared: Option<Shared>,
    pub(super) kicks: Vec<OwnedFd>,
    pub(super) calls: Vec<OwnedFd>,
    _place: Place,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.process.signal();
        // A process that waits for an answer in the kernel cannot end before it has one.
        self.below.give_up();
        self.process.end();
    }
}

impl Running {
    /// Starts a backend on a disk with this content, connects and negotiates the protocol.
    pub(super) fn start(preset: &Preset, image: &[u8]) -> Result<Running, String> {
        let place = Place::new().map_err(|e| format!("cannot make a temporary folder: {e}"))?;
        let (socket, disk) = (place.file("vhost-user"), place.file("disk"));
        let below = Below::new(preset.is_on_file(), &disk, image.len() as u64);
        let mut below = below.map_err(|e| format!("cannot make a disk for the backend: {e}"))?;
        let line = preset.command(&socket, &disk);
        let process = Process::start(&line, &place.file("output"));
        let mut process = process.map_err(|e| format!("cannot start `{line}`: {e}"))?;
        let begun = Instant::now();
        let mut asked = Vec::new();
        let messages = loop {
            let polled = below.poll(&mut asked);
            polled.map_err(|e| format!("`{line}`: {e}"))?;
            serve_at_once(&mut below, &mut asked, image)?;
            if let Ok(messages) = Messages::connect(&socket) {
                break messages;
            }
            if let Some(how) = process.ended() {
                return Err(format!("`{line}` does not serve: {how}"));
            }
            if begun.elapsed() > DEADLINE {
                return Err(format!("`{line}` does not listen at its socket"));
            }
            std::thread::park_timeout(Duration::from_micros(300));
        };
        process.needs(below.thread());
        let mut running = Running {
            process,
            messages,
            below,
            asked,
            features: 0,
            protocol: 0,
            shared: None,
            kicks: Vec::new(),
            calls: Vec::new(),
            _place: place,
        };
        running.negotiate(image).map_err(|e| format!("`{line}` does not speak vhost-user: {e}"))?;
        Ok(running)
    }

    fn negotiate(&mut self, image: &[u8]) -> io::Result<()> {
        self.messages.tell(messages::SET_OWNER, &[], &[])?;
        self.features = self.ask_word(messages::GET_FEATURES, image)?;
        if self.features & PROTOCOL_FEATURES != 0 {
            let offered = self.ask_word(messages::GET_PROTOCOL_FEATURES, image)?;
            let wanted =
                protocol::MQ | protocol::REPLY_ACK | protocol::CONFIG | protocol::RESET_DEVICE;
            self.protocol = offered & wanted;
            self.messages.tell(messages::SET_PROTOCOL_FEATURES, &words(&[self.protocol]), &[])?;
            self.messages.acknowledged = self.protocol & protocol::REPLY_ACK != 0;
        }
        if self.protocol & protocol::CONFIG == 0 {
            return Err(io::Error::other("it does not offer CONFIG, so it shows no capacity"));
        }
        Ok(())
    }

    /// Waits for the answer to a message. Reads of its host are answered at once from `image`.
    pub(super) fn answer(&mut self, request: u32, image: &[u8]) -> io::Result<Vec<u8>> {
        let begun = Instant::now();
        loop {
            if let Some((to, body)) = self.messages.answer()? {
                if to != request {
                    let what = format!("message {to} is answered instead of {request}");
                    return Err(io::Error::new(ErrorKind::InvalidData, what));
                }
                return Ok(body);
            }
            let any = self.below.poll(&mut self.asked)?;
            if any && self.shared.is_none() {
                serve_at_once(&mut self.below, &mut self.asked, image).map_err(io::Error::other)?;
            }
            if let Some(how) = self.process.ended() {
                return Err(io::Error::other(how));
            }
            if begun.elapsed() > DEADLINE {
                return Err(io::Error::other(format!("it does not answer message {request}")));
            }
            if !any {
                std::thread::yield_now();
            }
        }
    }

    fn ask_word(&mut self, request: u32, image: &[u8]) -> io::Result<u64> {
        self.messages.ask(request, &[])?;
        let body = self.answer(request, image)?;
        let word = body.first_chunk().ok_or_else(|| io::Error::other("a short answer"))?;
        Ok(u64::from_le_bytes(*word))
    }

    /// Sends a message and waits until it is processed, if the backend says so.
    pub(super) fn tell(
        &mut self,
        request: u32,
        body: &[u8],
        fds: &[std::os::fd::BorrowedFd<'_>],
    ) -> io::Result<()> {
        if self.messages.tell(request, body, fds)? {
            let answer = self.answer(request, &[])?;
            if answer.iter().any(|byte| *byte != 0) {
                return Err(io::Error::other(format!("it refuses message {request}")));
            }
        }
        Ok(())
    }

    /// The configuration space; empty if the backend refuses to show it.
    pub(super) fn config(&mut self, image: &[u8]) -> io::Result<Vec<u8>> {
        let mut body = [0, CONFIG as u32, 0].map(u32::to_le_bytes).concat();
        body.resize(12 + CONFIG, 0);
        self.messages.ask(messages::GET_CONFIG, &body)?;
        // The answer repeats the three words of the question.
        let answer = self.answer(messages::GET_CONFIG, image)?;
        Ok(answer.get(12..).unwrap_or_default().to_vec())
    }

    pub(super) fn set_config(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut body = [offset as u32, bytes.len() as u32, 0].map(u32::to_le_bytes).concat();
        body.extend(bytes);
        self.tell(messages::SET_CONFIG, &body, &[])
    }

    /// Gives the backend guest memory and the rings of a driver.
    pub(super) fn place(&mut self, rings: &[RingPlan], shared: Shared) -> io::Result<()> {
        let mut table = words(&[1]);
        table.extend(words(&[0, shared.len() as u64, USER, 0]));
        let memory = shared.as_fd().try_clone_to_owned()?;
        self.shared = Some(shared);
        self.tell(messages::SET_MEM_TABLE, &table, &[memory.as_fd()])?;
        (self.kicks, self.calls) = (Vec::new(), Vec::new());
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        for (index, plan) in (0..).zip(rings) {
            let (kick, call) = (event()?, event()?);
            self.tell(messages::SET_VRING_NUM, &ring(index, plan.size.into()), &[])?;
            self.tell(messages::SET_VRING_BASE, &ring(index, plan.base.into()), &[])?;
            let at = |address: u32| USER + u64::from(address);
            let places = [at(plan.descriptors), at(plan.used), at(plan.available), 0];
            let mut body = words(&[u64::from(index)]);
            body.extend(words(&places));
            self.tell(messages::SET_VRING_ADDR, &body, &[])?;
            let index_word = words(&[u64::from(index)]);
            self.tell(messages::SET_VRING_CALL, &index_word, &[call.as_fd()])?;
            self.tell(messages::SET_VRING_KICK, &index_word, &[kick.as_fd()])?;
            if self.features & PROTOCOL_FEATURES != 0 {
                self.tell(messages::SET_VRING_ENABLE, &ring(index, 1), &[])?;
            }
            self.kicks.push(kick);
            self.calls.push(call);
        }
        // Some backends signal every ring that they get.
        for call in &self.calls {
            let _ = rustix::io::read(call, &mut [0; 8]);
        }
        Ok(())
    }
}

/// Answers what a backend asks of its host before there is a driver.
fn serve_at_once(below: &mut Below, asked: &mut Vec<Asked>, image: &[u8]) -> Result<(), String> {
    for Asked { cookie, request } in asked.drain(..) {
        let (start, len) = (request.offset as usize, request.len as usize);
        let bytes = image.get(start..start.saturating_add(len));
        let result = match request.kind {
            Kind::Read => bytes.ok_or(libc::EINVAL),
            Kind::Sync => Ok(&[][..]),
            Kind::Write(_) | Kind::Discard | Kind::WriteZeroes { .. } => {
                return Err("the backend changes its disk before there is a driver, which is not \
                            supported"
                    .to_owned());
            }
        };
        below.answer(cookie, result).map_err(|e| format!("NBD: {e}"))?;
    }
    Ok(())
}
