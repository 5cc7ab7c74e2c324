//! The socket of one front-end: whole messages with their descriptors come in, answers go out.
//!
//! The socket is a stream, so a message may come in pieces and its descriptors with any of them. Nothing of a message is believed here but
//! the size of its body, and that only up to a bound. A front-end that stops in the middle of a message holds the connection, and nothing
//! else: closing the socket from another thread ends the wait.

use super::descriptor;
use super::message::{
    HEADER, MOST_BODY, MOST_DESCRIPTORS, MessageError, NEED_REPLY, REPLY, Request, VERSION,
    VERSION_MASK,
};
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// A message as it came.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) request: Request,
    /// The front-end asked to be told what became of it.
    pub(super) needs_reply: bool,
    pub(super) body: Vec<u8>,
    pub(super) descriptors: Descriptors,
}

/// The descriptors that came with a message. Those that are not taken are closed where that may take its time.
#[derive(Debug, Default)]
pub(super) struct Descriptors(Vec<OwnedFd>);

impl Descriptors {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The oldest one.
    pub(super) fn take(&mut self) -> Option<OwnedFd> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    /// The only one.
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

/// Why no message came.
#[derive(Debug)]
pub(super) enum End {
    /// The front-end is gone, or the connection was closed under it.
    Gone,
    /// What came is no message; nothing can be told from what follows.
    Confused(MessageError),
}

impl From<MessageError> for End {
    fn from(error: MessageError) -> End {
        End::Confused(error)
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
    /// The front-end is gone, or it said what makes no sense.
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

    /// Receives exactly as many bytes; says whether descriptors were lost on the way.
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
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    descriptors.0.extend(fds);
                }
            }
            lost |= got.flags.contains(ReturnFlags::CTRUNC);
            if got.bytes == 0 {
                return Err(End::Gone);
            }
            filled += got.bytes;
        }
        Ok(lost)
    }

    /// Answers a message.
    ///
    /// # Errors
    /// The front-end is gone.
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
            let more =
                retry_on_intr(|| sendmsg(&self.stream, from, &mut control, SendFlags::NOSIGNAL));
            sent += more.map_err(|_| End::Gone)?;
            control.clear();
        }
        Ok(())
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
        let bytes = [header(5, 1, 4), vec![0; 4]].concat();
        for part in bytes.chunks(5) {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let fds = [front_end.as_fd()];
            assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
            sendmsg(&front_end, &[IoSlice::new(part)], &mut control, SendFlags::empty())
                .expect("sent");
        }
        assert_eq!(connection.receive().expect("a message").descriptors.len(), 4);
    }

    #[test]
    fn what_is_no_message_says_why() {
        for (bytes, said) in [
            (header(1, 2, 0), "GET_FEATURES with flags 0x2: no request of version 1"),
            (header(1, 5, 0), "GET_FEATURES with flags 0x5: no request of version 1"),
            (
                header(5, 1, u32::MAX),
                "SET_MEM_TABLE with a body of 4294967295 bytes, which it cannot have",
            ),
        ] {
            let (mut front_end, connection) = pair();
            front_end.write_all(&bytes).expect("sent");
            match connection.receive() {
                Err(End::Confused(error)) => assert_eq!(error.to_string(), said),
                other => panic!("{other:?}"),
            }
        }
    }
}
