//! The socket of one front-end: it receives whole messages with their descriptors, and sends
//! replies.
//!
//! The socket is a stream, so a message may arrive in pieces and its descriptors with any of them.
//! Only the size of the body is interpreted here, and only up to a bound. A front-end that stops in
//! the middle of a message blocks only its own connection: closing the socket from another thread
//! ends the wait.

use super::descriptor;
use super::message::{
    HEADER, MOST_BODY, MOST_DESCRIPTORS, MessageError, NEED_REPLY, REPLY, Request, VERSION,
    VERSION_MASK,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, send, sendmsg,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Maximum time to wait for a front-end that has hundreds of replies to read.
const SLOW: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// A received message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) request: Request,
    /// The front-end requested a reply.
    pub(super) needs_reply: bool,
    pub(super) body: Vec<u8>,
    pub(super) descriptors: Descriptors,
}

/// The descriptors of a message. Those that are not taken are closed where blocking is harmless.
#[derive(Debug, Default)]
pub(super) struct Descriptors(Vec<OwnedFd>);

impl Descriptors {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes the oldest one.
    pub(super) fn take(&mut self) -> Option<OwnedFd> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    /// Takes the only one.
    pub(super) fn single(&mut self, request: Request) -> Result<OwnedFd, MessageError> {
        match self.len() {
            1 => Ok(self.0.remove(0)),
            count => Err(MessageError::Descriptors(request, count)),
        }
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        self.0.drain(..).for_each(descriptor::discard);
    }
}

/// The reason why no message arrived.
#[derive(Debug)]
pub(super) enum End {
    /// The front-end has disconnected, or the server closed the connection.
    Gone,
    /// The received bytes are no message, so the following ones cannot be interpreted.
    ProtocolError(MessageError),
}

impl From<MessageError> for End {
    fn from(error: MessageError) -> End {
        End::ProtocolError(error)
    }
}

/// The connection to one front-end.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> Connection {
        Connection { stream }
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// The front-end has disconnected, or sent an invalid message.
    pub(super) fn receive(&self) -> Result<Message, End> {
        let mut descriptors = Descriptors::default();
        let mut header = [0; HEADER];
        let mut lost = self.fill(&mut header, &mut descriptors)?;
        let [request, flags, size] = words(header);
        let request = Request(request);
        if flags & VERSION_MASK != VERSION || flags & REPLY != 0 {
            return Err(MessageError::Flags(request, flags).into());
        }
        let size = size as usize;
        if size > MOST_BODY {
            return Err(MessageError::Size(request, size).into());
        }
        let mut body = vec![0; size];
        lost |= self.fill(&mut body, &mut descriptors)?;
        if lost {
            return Err(MessageError::DescriptorsLost(request).into());
        }
        let needs_reply = flags & NEED_REPLY != 0;
        Ok(Message { request, needs_reply, body, descriptors })
    }

    /// Receives exactly `bytes.len()` bytes; returns whether descriptors were lost.
    fn fill(&self, bytes: &mut [u8], descriptors: &mut Descriptors) -> Result<bool, End> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let (mut filled, mut lost) = (0, false);
        while filled < bytes.len() {
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let got = retry_on_intr(|| {
                let into = &mut [IoSliceMut::new(&mut bytes[filled..])];
                recvmsg(&self.stream, into, &mut control, RecvFlags::CMSG_CLOEXEC)
            });
            let got = got.map_err(|_| End::Gone)?;
            let before = descriptors.len();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    descriptors.0.extend(fds);
                }
            }
            if before < descriptors.len() {
                self.check_sockets(&descriptors.0[before..])?;
            }
            lost |= got.flags.contains(ReturnFlags::CTRUNC);
            if got.bytes == 0 {
                return Err(End::Gone);
            }
            filled += got.bytes;
        }
        Ok(lost)
    }

    /// Checks that none of these keeps the other end of this connection open; otherwise the death
    /// of the front-end would never be noticed.
    fn check_sockets(&self, fds: &[OwnedFd]) -> Result<(), End> {
        for fd in fds {
            descriptor::empty_socket(fd).map_err(MessageError::Socket)?;
        }
        // If one of them was the other end, sends fail now although the front-end has not hung up.
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        if send(&self.stream, &[], flags) == Err(Errno::PIPE) && !self.is_hung_up() {
            return Err(MessageError::Socket("the front-end's own end".to_owned()).into());
        }
        Ok(())
    }

    /// Whether the other end is closed.
    pub(super) fn is_hung_up(&self) -> bool {
        let mut polled = [PollFd::new(&self.stream, PollFlags::empty())];
        poll(&mut polled, Some(&Timespec::default())).is_ok()
            && polled[0].revents().contains(PollFlags::HUP)
    }

    /// Sends a reply.
    ///
    /// # Errors
    /// The front-end has disconnected, or does not read its replies.
    pub(super) fn reply(
        &self,
        request: Request,
        body: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), End> {
        let mut bytes: Vec<u8> =
            [request.0, VERSION | REPLY, body.len() as u32].map(u32::to_ne_bytes).concat();
        bytes.extend(body);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = descriptor.as_slice();
        if !fds.is_empty() {
            let pushed = control.push(SendAncillaryMessage::ScmRights(fds));
            assert!(pushed, "there is room for one");
        }
        let mut sent = 0;
        while sent < bytes.len() {
            let from = &[IoSlice::new(&bytes[sent..])];
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match retry_on_intr(|| sendmsg(&self.stream, from, &mut control, flags)) {
                Ok(more) => sent += more,
                Err(Errno::AGAIN) if self.has_room() => continue,
                Err(Errno::AGAIN) => return Err(MessageError::Unread(request).into()),
                Err(_) => return Err(End::Gone),
            }
            control.clear();
        }
        Ok(())
    }

    /// Waits until a reply can be sent, up to a limit.
    fn has_room(&self) -> bool {
        let mut polled = [PollFd::new(&self.stream, PollFlags::OUT)];
        // A signal ends the wait early, and then the send is retried.
        !matches!(poll(&mut polled, Some(&SLOW)), Ok(0))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn words(header: [u8; HEADER]) -> [u32; 3] {
    let mut words = [0; 3];
    for (word, bytes) in words.iter_mut().zip(header.as_chunks().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn pair() -> (UnixStream, Connection) {
        let (front_end, ours) = UnixStream::pair().expect("a pair of sockets");
        (front_end, Connection::new(ours))
    }

    fn header(request: u32, flags: u32, size: u32) -> Vec<u8> {
        [request, flags, size].map(u32::to_ne_bytes).concat()
    }

    #[test]
    fn a_message_in_pieces_is_whole() {
        let (mut front_end, connection) = pair();
        let bytes = [header(24, 9, 4), vec![1, 2, 3, 4]].concat();
        bytes.iter().for_each(|byte| front_end.write_all(&[*byte]).expect("sent"));
        let message = connection.receive().expect("a message");
        assert_eq!((message.request, message.needs_reply), (Request::GET_CONFIG, true));
        assert_eq!(message.body, [1, 2, 3, 4]);
    }

    #[test]
    fn descriptors_of_every_piece_are_kept() {
        let (front_end, connection) = pair();
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        let bytes = [header(5, 1, 4), vec![0; 4]].concat();
        for part in bytes.chunks(5) {
            send_with(&front_end, part, reader.as_fd());
        }
        assert_eq!(connection.receive().expect("a message").descriptors.len(), 4);
    }

    #[test]
    fn what_is_no_message_says_why() {
        for (bytes, said) in [
            (header(1, 2, 0), "GET_FEATURES with flags 0x2: not a request of version 1"),
            (header(1, 5, 0), "GET_FEATURES with flags 0x5: not a request of version 1"),
            (
                header(5, 1, u32::MAX),
                "SET_MEM_TABLE with an invalid body length of 4294967295 bytes",
            ),
        ] {
            let (mut front_end, connection) = pair();
            front_end.write_all(&bytes).expect("sent");
            match connection.receive() {
                Err(End::ProtocolError(error)) => assert_eq!(error.to_string(), said),
                other => panic!("{other:?}"),
            }
        }
    }

    fn send_with(to: &UnixStream, bytes: &[u8], fd: BorrowedFd<'_>) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [fd];
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::empty()).expect("sent");
    }

    /// The result of half a header with a descriptor, from a front-end that then disconnects.
    fn end_after(fd: impl FnOnce(&UnixStream) -> OwnedFd) -> String {
        let (front_end, connection) = pair();
        let fd = fd(&front_end);
        send_with(&front_end, &header(13, 1, 8)[..3], fd.as_fd());
        drop((fd, front_end));
        match connection.receive().expect_err("half a header") {
            End::Gone => "gone".to_owned(),
            End::ProtocolError(error) => error.to_string(),
        }
    }

    #[test]
    fn a_front_end_that_hands_over_its_own_end_is_not_waited_for() {
        let own = |front_end: &UnixStream| front_end.as_fd().try_clone_to_owned().expect("a copy");
        let said = end_after(own);
        assert!(said.starts_with("the front-end's own end came with a message"), "{said}");
        // The end is in the receive queue of the socket that is sent.
        let hidden = end_after(|front_end| {
            let (to, from) = UnixStream::pair().expect("a pair of sockets");
            send_with(&to, b"x", front_end.as_fd());
            from.into()
        });
        assert_eq!(hidden, "gone");
        let listening = end_after(|_| {
            let path = tempfile::tempdir().expect("a folder");
            let path = path.path().join("socket");
            std::os::unix::net::UnixListener::bind(path).expect("a socket").into()
        });
        assert!(listening.starts_with("a listening socket came with a message"), "{listening}");
        let other = end_after(|_| UnixStream::pair().expect("a pair of sockets").0.into());
        assert_eq!(other, "gone");
    }

    #[test]
    fn answers_that_nobody_reads_end_the_connection() {
        let (front_end, connection) = pair();
        let ended = (0..1_000_000).find_map(|_| {
            let request = Request::GET_CONFIG;
            connection.reply(request, &[0; 256], None).err()
        });
        match ended {
            Some(End::ProtocolError(MessageError::Unread(Request::GET_CONFIG))) => drop(front_end),
            other => panic!("{other:?}"),
        }
    }
}
