//! The channel on which a back-end speaks first: it says that the configuration space has changed.
//!
//! The front-end hands it over in a message of its own. The framework takes such a message too, but has no word for this; so it is read before
//! the framework sees it.

use rustix::io::{Errno, IoSliceMut, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recv, recvmsg, send,
};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

/// Bytes of a message's header: request, flags and the size of its body.
const HEADER: usize = 12;

/// SET_BACKEND_REQ_FD, of a front-end.
const SET_CHANNEL: u32 = 21;
/// CONFIG_CHANGE_MSG, of a back-end.
const CONFIG_CHANGED: u32 = 2;

/// Flags: the version of the protocol, and whether a message is an answer or wants one.
const VERSION: u32 = 1;
const ANSWER: u32 = 4;
const WANTS_ANSWER: u32 = 8;

/// A message without a body, or the header of one with.
fn header(request: u32, flags: u32, size: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    for (place, word) in bytes.chunks_exact_mut(4).zip([request, flags, size]) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

fn words(bytes: [u8; HEADER]) -> [u32; 3] {
    let word =
        |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    [word(0), word(4), word(8)]
}

/// The channel of the front-end that is connected, if it has given one.
#[derive(Debug, Default)]
pub(super) struct Channel(Mutex<Option<OwnedFd>>);

impl Channel {
    /// There is none any more.
    pub(super) fn close(&self) {
        *crate::sync::lock(&self.0) = None;
    }

    /// Waits for the next message of a front-end and takes it, if it hands over the channel. Otherwise it stays where it is.
    ///
    /// # Errors
    /// The front-end is gone, or the message makes no sense.
    pub(super) fn intercept(&self, front_end: &UnixStream) -> io::Result<bool> {
        let mut bytes = [0; HEADER];
        let flags = RecvFlags::PEEK | RecvFlags::WAITALL;
        let (seen, _) = retry_on_intr(|| recv(front_end, &mut bytes[..], flags))?;
        let [request, flags, size] = words(bytes);
        if seen != HEADER || request != SET_CHANNEL {
            return Ok(false);
        }
        let fd = receive(front_end)?;
        if size != 0 || fd.is_none() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        *crate::sync::lock(&self.0) = fd;
        if flags & WANTS_ANSWER != 0 {
            let mut answer = header(SET_CHANNEL, VERSION | ANSWER, 8).to_vec();
            answer.extend([0; 8]);
            send_all(front_end, &answer)?;
        }
        Ok(true)
    }

    /// Says that the configuration space has changed; `false` if there is nobody to hear it.
    ///
    /// # Errors
    /// The front-end does not listen.
    pub(super) fn say_config_changed(&self) -> io::Result<bool> {
        match &*crate::sync::lock(&self.0) {
            Some(channel) => send_all(channel, &header(CONFIG_CHANGED, VERSION, 0)).map(|()| true),
            None => Ok(false),
        }
    }
}

/// Receives the header of a message that is there, and a descriptor that may come with it.
fn receive(front_end: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut bytes = [0; HEADER];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::WAITALL | RecvFlags::CMSG_CLOEXEC;
    let into = &mut [IoSliceMut::new(&mut bytes)];
    let got = retry_on_intr(|| recvmsg(front_end, into, &mut control, flags))?;
    if got.bytes != HEADER {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(fd)
}

/// Sends a few bytes without waiting: a front-end that lets so much pile up does not listen.
fn send_all(to: impl std::os::fd::AsFd, bytes: &[u8]) -> io::Result<()> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    match retry_on_intr(|| send(&to, bytes, flags)) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        Ok(_) | Err(Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) => Err(error.into()),
    }
}
