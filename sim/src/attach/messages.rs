//! The front-end's side of a vhost-user connection.
//!
//! A question can be asked now and its answer taken later, because a backend that stops a ring
//! first finishes what it has in hand, which waits for the host, which is ours.

use std::io::{self, ErrorKind, IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

pub(super) const GET_FEATURES: u32 = 1;
pub(super) const SET_FEATURES: u32 = 2;
pub(super) const SET_OWNER: u32 = 3;
pub(super) const SET_MEM_TABLE: u32 = 5;
pub(super) const SET_VRING_NUM: u32 = 8;
pub(super) const SET_VRING_ADDR: u32 = 9;
pub(super) const SET_VRING_BASE: u32 = 10;
pub(super) const GET_VRING_BASE: u32 = 11;
pub(super) const SET_VRING_KICK: u32 = 12;
pub(super) const SET_VRING_CALL: u32 = 13;
pub(super) const GET_PROTOCOL_FEATURES: u32 = 15;
pub(super) const SET_PROTOCOL_FEATURES: u32 = 16;
pub(super) const SET_VRING_ENABLE: u32 = 18;
pub(super) const GET_CONFIG: u32 = 24;
pub(super) const SET_CONFIG: u32 = 25;
pub(super) const RESET_DEVICE: u32 = 34;

/// The feature bit of the transport, which no driver sees.
pub(super) const PROTOCOL_FEATURES: u64 = 1 << 30;

/// Protocol features.
pub(super) mod protocol {
    pub(crate) const MQ: u64 = 1 << 0;
    pub(crate) const REPLY_ACK: u64 = 1 << 3;
    pub(crate) const CONFIG: u64 = 1 << 9;
    pub(crate) const RESET_DEVICE: u64 = 1 << 13;
}

/// Flags of a header: version 1, and a request for an acknowledgement.
const VERSION: u32 = 1;
const WANTS_ANSWER: u32 = 1 << 3;
const HEADER: usize = 12;

/// The longest answer that is believed, in bytes.
const MOST: usize = 4096;

/// A connection to a backend.
#[derive(Debug)]
pub(super) struct Messages {
    stream: UnixStream,
    /// Bytes of an answer that has not arrived in full.
    arrived: Vec<u8>,
    /// Whether REPLY_ACK was negotiated.
    pub(super) acknowledged: bool,
}

/// The words of a body.
pub(super) fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The body of a message about one ring.
pub(super) fn ring(index: u16, value: u32) -> Vec<u8> {
    [u32::from(index).to_le_bytes(), value.to_le_bytes()].concat()
}

/// A little-endian word of a header.
fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

impl Messages {
    /// Connects to a backend that listens already.
    ///
    /// # Errors
    /// No process listens at that socket.
    pub(super) fn connect(socket: &Path) -> io::Result<Messages> {
        let stream = UnixStream::connect(socket)?;
        Ok(Messages { stream, arrived: Vec::new(), acknowledged: false })
    }

    /// Sends a message that has no answer of its own. With REPLY_ACK an answer follows, zero if
    /// the message was accepted; returns whether it does.
    ///
    /// # Errors
    /// The backend has closed the connection.
    pub(super) fn tell(
        &mut self,
        request: u32,
        body: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<bool> {
        let flags = if self.acknowledged { VERSION | WANTS_ANSWER } else { VERSION };
        self.send(request, flags, body, fds)?;
        Ok(self.acknowledged)
    }

    /// Asks a question.
    ///
    /// # Errors
    /// As [`tell`](Self::tell).
    pub(super) fn ask(&mut self, request: u32, body: &[u8]) -> io::Result<()> {
        self.send(request, VERSION, body, &[])
    }

    fn send(
        &mut self,
        request: u32,
        flags: u32,
        body: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut bytes = [request, flags, body.len() as u32].map(u32::to_le_bytes).concat();
        bytes.extend(body);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)), "one descriptor");
        }
        sendmsg(&self.stream, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The number of the message answered and the body of the next answer, if it has arrived.
    ///
    /// # Errors
    /// The backend has closed the connection, or sends nonsense.
    pub(super) fn answer(&mut self) -> io::Result<Option<(u32, Vec<u8>)>> {
        loop {
            let header = self.arrived.first_chunk::<HEADER>().copied();
            let wanted = match header.map(|header| (word(&header[..4]), word(&header[8..]))) {
                None => HEADER,
                Some((_, len)) if len as usize > MOST => {
                    return Err(io::Error::other(format!("an answer of {len} bytes")));
                }
                Some((request, len)) if self.arrived.len() == HEADER + len as usize => {
                    let body = self.arrived.split_off(HEADER);
                    self.arrived.clear();
                    return Ok(Some((request, body)));
                }
                Some((_, len)) => HEADER + len as usize,
            };
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            if poll(&mut [PollFd::new(&self.stream.as_fd(), PollFlags::IN)], Some(&now))? == 0 {
                return Ok(None);
            }
            let had = self.arrived.len();
            self.arrived.resize(wanted, 0);
            let read = self.stream.read(&mut self.arrived[had..])?;
            self.arrived.truncate(had + read);
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
