//! A front-end with full control: vhost-user messages byte by byte, and rings written through a
//! file that is the guest's memory.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

pub(crate) use crate::attack::protocol::{
    ADD_MEM_REG, GET_CONFIG, GET_FEATURES, GET_INFLIGHT_FD, GET_PROTOCOL_FEATURES, GET_VRING_BASE,
    REM_MEM_REG, RESET_DEVICE, SET_BACKEND_REQ_FD, SET_CONFIG, SET_FEATURES, SET_INFLIGHT_FD,
    SET_MEM_TABLE, SET_OWNER, SET_PROTOCOL_FEATURES, SET_VRING_ADDR, SET_VRING_BASE,
    SET_VRING_CALL, SET_VRING_ENABLE, SET_VRING_ERR, SET_VRING_KICK, SET_VRING_NUM, words,
};

/// VERSION_1, FLUSH, CONFIG_WCE and the bit that allows protocol features.
pub(crate) const FEATURES: u64 = 1 << 32 | 1 << 9 | 1 << 11 | 1 << 30;
/// MQ, REPLY_ACK, CONFIG, INFLIGHT_SHMFD, RESET_DEVICE and CONFIGURE_MEM_SLOTS.
pub(crate) const PROTOCOL: u64 = 1 | 1 << 3 | 1 << 9 | 1 << 12 | 1 << 13 | 1 << 15;

/// Bytes of guest memory, from guest address 0 on.
pub(crate) const MEMORY: u64 = 1 << 20;
/// The front-end's user address of guest address 0.
pub(crate) const USER: u64 = 0x7000_0000;
const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
/// Address of the headers and statuses of requests.
const HEADERS: u64 = 0x4000;
/// Address of the data of requests.
pub(crate) const DATA: u64 = 0x1_0000;
/// Descriptors of the ring.
pub(crate) const SIZE: u32 = 64;

pub(crate) struct Front {
    pub(crate) stream: UnixStream,
    pub(crate) memory: File,
    pub(crate) kick: OwnedFd,
    pub(crate) call: OwnedFd,
    published: u16,
}

/// The body of a message about one ring.
pub(crate) fn state(index: u32, value: u32) -> Vec<u8> {
    [index.to_le_bytes(), value.to_le_bytes()].concat()
}

/// The body of ADD_MEM_REG and REM_MEM_REG.
pub(crate) fn region(at: u64, len: u64, offset: u64) -> Vec<u8> {
    words(&[0, at, len, USER + at, offset])
}

/// The body of GET_INFLIGHT_FD, and of SET_INFLIGHT_FD for memory of `bytes` bytes: one ring of
/// [`SIZE`] descriptors.
pub(crate) fn record(bytes: u64) -> Vec<u8> {
    record_of(bytes, 1, SIZE as u16)
}

/// As [`record`], for this many rings and descriptors.
pub(crate) fn record_of(bytes: u64, rings: u16, size: u16) -> Vec<u8> {
    // Padded to whole words, as the protocol's own structure is.
    [words(&[bytes, 0]), words(&[u64::from(rings) | u64::from(size) << 16])].concat()
}

/// A new piece of shared memory.
pub(crate) fn memory(len: u64) -> File {
    let file = File::from(memfd_create("front", MemfdFlags::CLOEXEC).unwrap());
    file.set_len(len).unwrap();
    file
}

impl Front {
    /// Connects without sending a message.
    pub(crate) fn silent(socket: &Path) -> Front {
        Front::over(UnixStream::connect(socket).unwrap())
    }

    /// A front-end over a connected stream.
    pub(crate) fn over(stream: UnixStream) -> Front {
        // Much longer than any answer takes: a server that hangs fails the test instead of blocking
        // it.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let event = || eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        Front { stream, memory: memory(MEMORY), kick: event(), call: event(), published: 0 }
    }

    /// Connects and negotiates.
    pub(crate) fn negotiated(socket: &Path) -> Front {
        Front::silent(socket).negotiate()
    }

    /// Connects the same guest to another server.
    pub(crate) fn reconnect(self, socket: &Path) -> Front {
        Front { stream: Front::silent(socket).stream, ..self }.negotiate()
    }

    fn negotiate(self) -> Front {
        let mut front = self;
        front.send(SET_OWNER, &[], &[]);
        let offered = front.ask(GET_FEATURES, &[]).unwrap();
        assert_eq!(u64::from_le_bytes(offered.try_into().unwrap()) & FEATURES, FEATURES);
        let offered = front.ask(GET_PROTOCOL_FEATURES, &[]).unwrap();
        assert_eq!(u64::from_le_bytes(offered.try_into().unwrap()) & PROTOCOL, PROTOCOL);
        front.send(SET_PROTOCOL_FEATURES, &words(&[PROTOCOL]), &[]);
        front.tell(SET_FEATURES, &words(&[FEATURES]), &[]).unwrap();
        front
    }

    /// Connects, negotiates and shares its memory.
    pub(crate) fn sharing(socket: &Path) -> Front {
        let mut front = Front::negotiated(socket);
        front.share(MEMORY).unwrap();
        front
    }

    /// Connects and sets up the first ring.
    pub(crate) fn ready(socket: &Path) -> Front {
        let mut front = Front::sharing(socket);
        front.set_up(0).unwrap();
        front
    }

    /// Shares only the first `len` bytes of its memory.
    pub(crate) fn share(&mut self, len: u64) -> io::Result<()> {
        let memory = self.memory.try_clone()?;
        let mut table = words(&[1]);
        table.extend(words(&[0, len, USER, 0]));
        self.tell(SET_MEM_TABLE, &table, &[memory.as_fd()])
    }

    /// Sets up the first ring, to continue with the `base`th request, without enabling it.
    pub(crate) fn set_up_silently(&mut self, base: u16) -> io::Result<()> {
        self.tell(SET_VRING_NUM, &state(0, SIZE), &[])?;
        self.tell(SET_VRING_BASE, &state(0, base.into()), &[])?;
        self.tell(SET_VRING_ADDR, &Front::address(), &[])?;
        let (kick, call) = (self.kick.try_clone()?, self.call.try_clone()?);
        self.tell(SET_VRING_CALL, &words(&[0]), &[call.as_fd()])?;
        self.tell(SET_VRING_KICK, &words(&[0]), &[kick.as_fd()])
    }

    /// Sets up the first ring, to continue with the `base`th request.
    pub(crate) fn set_up(&mut self, base: u16) -> io::Result<()> {
        self.set_up_silently(base)?;
        self.tell(SET_VRING_ENABLE, &state(0, 1), &[])
    }

    /// The addresses of the first ring.
    pub(crate) fn address() -> Vec<u8> {
        words(&[0, USER + DESCRIPTORS, USER + USED, USER + AVAILABLE, 0])
    }

    /// Sends a message without waiting for a result.
    pub(crate) fn send(&mut self, request: u32, body: &[u8], fds: &[BorrowedFd<'_>]) {
        self.message(request, 1, body, fds).unwrap();
    }

    /// Sends a message and returns the body of the answer.
    pub(crate) fn ask(&mut self, request: u32, body: &[u8]) -> io::Result<Vec<u8>> {
        self.message(request, 1, body, &[])?;
        self.answer(request)
    }

    /// Sends a message and waits until it is processed.
    pub(crate) fn tell(
        &mut self,
        request: u32,
        body: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        self.message(request, 1 | 8, body, fds)?;
        let answer = self.answer(request)?;
        if answer == [0; 8] { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    fn message(
        &mut self,
        request: u32,
        flags: u32,
        body: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut bytes = [request, flags, body.len() as u32].map(u32::to_le_bytes).concat();
        bytes.extend(body);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)), "at most eight");
        }
        sendmsg(&self.stream, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Receives the answer to a message that was sent.
    pub(crate) fn answer(&mut self, request: u32) -> io::Result<Vec<u8>> {
        let mut header = [0; 12];
        self.stream.read_exact(&mut header)?;
        assert_eq!(header[..4], request.to_le_bytes(), "the answer has the number of the request");
        let len = u32::from_le_bytes(*header.last_chunk().expect("twelve bytes"));
        let mut body = vec![0; len as usize];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    /// Lets the server create the in-flight record of one ring. Returns its description and memory.
    pub(crate) fn make_record(&mut self) -> (Vec<u8>, OwnedFd) {
        self.make_record_as(&record(0))
    }

    /// As [`make_record`](Self::make_record), with this body.
    pub(crate) fn make_record_as(&mut self, asked: &[u8]) -> (Vec<u8>, OwnedFd) {
        self.message(GET_INFLIGHT_FD, 1, asked, &[]).unwrap();
        let mut header = [0; 12];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut header)];
        let flags = RecvFlags::WAITALL | RecvFlags::CMSG_CLOEXEC;
        let got = recvmsg(&self.stream, into, &mut control, flags).unwrap();
        assert_eq!(got.bytes, header.len());
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let mut body = vec![0; u32::from_le_bytes(*header.last_chunk().expect("twelve")) as usize];
        self.stream.read_exact(&mut body).unwrap();
        (body, fd.expect("a descriptor comes with it"))
    }

    /// Sends bytes that need not be a message.
    pub(crate) fn babble(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Waits until the server ends the connection.
    pub(crate) fn is_hung_up_on(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// Stops the first ring. Returns the number of requests taken from it.
    pub(crate) fn stop(&mut self) -> u16 {
        let answer = self.ask(GET_VRING_BASE, &state(0, 0)).unwrap();
        answer[4].into()
    }

    /// Publishes a write of one sector full of `byte`, with its data at this guest address.
    pub(crate) fn publish(&mut self, sector: u64, byte: u8, data: u64) {
        let slot = u64::from(self.published) % (u64::from(SIZE) / 4);
        let header = HEADERS + slot * 32;
        self.put(header, &[1_u32.to_le_bytes(), [0; 4]].concat());
        self.put(header + 8, &sector.to_le_bytes());
        self.put(header + 16, &[0xff]);
        if data < MEMORY {
            self.put(data, &[byte; 512]);
        }
        for (part, (addr, len, flags)) in
            (0_u64..).zip([(header, 16_u32, 1_u16), (data, 512, 1), (header + 16, 1, 2)])
        {
            let index = slot * 4 + part;
            let mut descriptor = addr.to_le_bytes().to_vec();
            descriptor.extend(len.to_le_bytes());
            descriptor.extend(flags.to_le_bytes());
            descriptor.extend((index as u16 + 1).to_le_bytes());
            self.put(DESCRIPTORS + index * 16, &descriptor);
        }
        let entry = u64::from(self.published) % u64::from(SIZE);
        self.put(AVAILABLE + 4 + entry * 2, &(slot as u16 * 4).to_le_bytes());
        self.published += 1;
        self.put(AVAILABLE + 2, &self.published.to_le_bytes());
    }

    /// The number of published requests.
    pub(crate) fn published(&self) -> u16 {
        self.published
    }

    /// The number of answered requests.
    pub(crate) fn used(&self) -> u16 {
        let mut index = [0; 2];
        self.memory.read_exact_at(&mut index, USED + 2).unwrap();
        u16::from_le_bytes(index)
    }

    /// The status of the `n`th request.
    pub(crate) fn status(&self, n: u16) -> u8 {
        let slot = u64::from(n) % (u64::from(SIZE) / 4);
        let mut status = [0];
        self.memory.read_exact_at(&mut status, HEADERS + slot * 32 + 16).unwrap();
        status[0]
    }

    /// The slots that were answered, from the `from`th answer on; a slot is a quarter of its head.
    pub(crate) fn answers(&self, from: u16) -> Vec<u16> {
        (from..self.used())
            .map(|n| {
                let mut head = [0; 4];
                let at = USED + 4 + 8 * (u64::from(n) % u64::from(SIZE));
                self.memory.read_exact_at(&mut head, at).unwrap();
                u32::from_le_bytes(head) as u16 / 4
            })
            .collect()
    }

    /// Kicks the first ring.
    pub(crate) fn kick(&self) {
        rustix::io::write(&self.kick, &1_u64.to_ne_bytes()).unwrap();
    }

    /// Kicks and sleeps until every request is answered.
    pub(crate) fn finish(&self) {
        self.finish_as(self.published, || self.used());
    }

    /// As [`finish`](Self::finish), for another ring.
    pub(crate) fn finish_as(&self, published: u16, used: impl Fn() -> u16) {
        self.kick();
        while used() != published {
            let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(&self.call, PollFlags::IN)], Some(&patience));
            assert_eq!(ready.unwrap(), 1, "{} of {published} answered", used());
            rustix::io::read(&self.call, &mut [0; 8]).unwrap();
        }
    }

    /// Restarts a ring at index zero, as a driver does after a reset.
    pub(crate) fn clear(&mut self) {
        self.put(AVAILABLE, &[0; 0x2000]);
        self.published = 0;
    }

    /// Writes guest memory.
    pub(crate) fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.write_all_at(bytes, at).unwrap();
    }
}
