//! The vhost-user protocol of a front-end: numbers, bodies, and one end of a connection that never
//! blocks on a send.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

// The messages, by their numbers in the protocol.
pub(crate) const GET_FEATURES: u32 = 1;
pub(crate) const SET_FEATURES: u32 = 2;
pub(crate) const SET_OWNER: u32 = 3;
pub(crate) const SET_MEM_TABLE: u32 = 5;
pub(crate) const SET_VRING_NUM: u32 = 8;
pub(crate) const SET_VRING_ADDR: u32 = 9;
pub(crate) const SET_VRING_BASE: u32 = 10;
pub(crate) const GET_VRING_BASE: u32 = 11;
pub(crate) const SET_VRING_KICK: u32 = 12;
pub(crate) const SET_VRING_CALL: u32 = 13;
pub(crate) const SET_VRING_ERR: u32 = 14;
pub(crate) const GET_PROTOCOL_FEATURES: u32 = 15;
pub(crate) const SET_PROTOCOL_FEATURES: u32 = 16;
pub(crate) const SET_VRING_ENABLE: u32 = 18;
pub(crate) const SET_BACKEND_REQ_FD: u32 = 21;
pub(crate) const GET_CONFIG: u32 = 24;
pub(crate) const SET_CONFIG: u32 = 25;
pub(crate) const GET_INFLIGHT_FD: u32 = 31;
pub(crate) const SET_INFLIGHT_FD: u32 = 32;
pub(crate) const RESET_DEVICE: u32 = 34;
pub(crate) const ADD_MEM_REG: u32 = 37;
pub(crate) const REM_MEM_REG: u32 = 38;

/// VERSION_1, FLUSH, CONFIG_WCE, MQ, DISCARD, WRITE_ZEROES, INDIRECT_DESC and the bit that allows
/// protocol features.
pub(crate) const FEATURES: u64 =
    1 << 32 | 1 << 9 | 1 << 11 | 1 << 12 | 1 << 13 | 1 << 14 | 1 << 28 | 1 << 30;
/// EVENT_IDX, which half of the guests accept.
pub(crate) const EVENT_IDX: u64 = 1 << 29;
/// MQ, REPLY_ACK, BACKEND_REQ, CONFIG, INFLIGHT_SHMFD, RESET_DEVICE and CONFIGURE_MEM_SLOTS.
pub(crate) const PROTOCOL: u64 = 1 | 1 << 3 | 1 << 5 | 1 << 9 | 1 << 12 | 1 << 13 | 1 << 15;

/// Flags of a header: the protocol version, and the request of an answer.
pub(crate) const VERSION: u32 = 1;
pub(crate) const WANTS_ANSWER: u32 = 8;

/// Bytes of a header.
const HEADER: usize = 12;

/// The most descriptors of one message on Linux.
pub(crate) const MOST_DESCRIPTORS: usize = 253;

/// Words of a body.
pub(crate) fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The body of a message about one ring.
pub(crate) fn state(index: u32, value: u32) -> Vec<u8> {
    [index.to_le_bytes(), value.to_le_bytes()].concat()
}

/// The body of SET_CONFIG and GET_CONFIG.
pub(crate) fn config(offset: u32, bytes: &[u8]) -> Vec<u8> {
    let mut body = [offset, bytes.len() as u32, 0].map(u32::to_le_bytes).concat();
    body.extend(bytes);
    body
}

/// The body of GET_INFLIGHT_FD and SET_INFLIGHT_FD.
pub(crate) fn record(bytes: u64, offset: u64, queues: u16, size: u16) -> Vec<u8> {
    words(&[bytes, offset, u64::from(queues) | u64::from(size) << 16])
}

/// A message.
pub(crate) fn message(request: u32, flags: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = [request, flags, body.len() as u32].map(u32::to_le_bytes).concat();
    bytes.extend(body);
    bytes
}

/// A message of the server.
pub(crate) struct Answer {
    pub(crate) body: Vec<u8>,
    pub(crate) descriptor: Option<OwnedFd>,
}

/// One end of a connection.
pub(crate) struct End {
    stream: UnixStream,
    /// Received bytes that are not a whole message yet.
    heard: Vec<u8>,
    descriptor: Option<OwnedFd>,
    /// Whether either end has closed the connection.
    pub(crate) gone: bool,
    /// The number of messages sent, or of pieces of them.
    pub(crate) sent: u64,
    pub(crate) answers: u64,
}

impl End {
    pub(crate) fn new(stream: UnixStream) -> End {
        End { stream, heard: Vec::new(), descriptor: None, gone: false, sent: 0, answers: 0 }
    }

    /// Sends bytes with descriptors; bytes without room are dropped.
    pub(crate) fn send(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            let fds = &fds[..fds.len().min(MOST_DESCRIPTORS)];
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)), "there is room for them");
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        self.sent += 1;
        match sendmsg(&self.stream, &[IoSlice::new(bytes)], &mut control, flags) {
            // The other end is slow, or the host allows no more descriptors in flight.
            Ok(_) | Err(Errno::AGAIN | Errno::TOOMANYREFS | Errno::NOBUFS) => {}
            Err(_) => self.gone = true,
        }
    }

    /// The next message of the other end, if it arrives in time.
    pub(crate) fn hear(&mut self, patience: Duration) -> Option<Answer> {
        let begun = Instant::now();
        loop {
            if let Some(answer) = self.whole() {
                self.answers += 1;
                return Some(answer);
            }
            let left = patience.checked_sub(begun.elapsed())?;
            if self.gone || !self.is_readable(left) {
                return None;
            }
            self.receive();
        }
    }

    fn is_readable(&self, patience: Duration) -> bool {
        let patience = Timespec::try_from(patience).expect("a short time");
        let polled = &mut [PollFd::new(&self.stream, PollFlags::IN)];
        matches!(poll(polled, Some(&patience)), Ok(1..) | Err(Errno::INTR))
    }

    fn receive(&mut self) {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let into = &mut [IoSliceMut::new(&mut bytes)];
        match recvmsg(&self.stream, into, &mut control, flags) {
            Ok(got) if got.bytes > 0 => {
                let came = control.drain().find_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                    _ => None,
                });
                self.descriptor = came.or(self.descriptor.take());
                self.heard.extend(&bytes[..got.bytes]);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(_) | Err(_) => self.gone = true,
        }
    }

    /// Takes a whole message from the received bytes.
    fn whole(&mut self) -> Option<Answer> {
        let size = self.heard.get(8..HEADER)?;
        let size = u32::from_le_bytes(size.try_into().expect("four bytes")) as usize;
        if self.heard.len() < HEADER + size {
            return None;
        }
        let rest = self.heard.split_off(HEADER + size);
        let body = std::mem::replace(&mut self.heard, rest).split_off(HEADER);
        Some(Answer { body, descriptor: self.descriptor.take() })
    }
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
