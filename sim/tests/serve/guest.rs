//! A guest: the block driver that `libblkio` uses, over a vhost-user socket.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::Path;

use memmap2::MmapMut;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use virtio_driver::{
    VhostUser, VirtioBlkFeatureFlags, VirtioBlkQueue, VirtioBlkTransport, VirtioFeatureFlags,
};

/// All features of the driver except EVENT_IDX.
pub(crate) const PLAIN: u64 = VirtioFeatureFlags::VERSION_1.bits()
    | VirtioFeatureFlags::RING_INDIRECT_DESC.bits()
    | VirtioBlkFeatureFlags::all().bits();
/// All features of the driver.
pub(crate) const EVENT_IDX: u64 = PLAIN | VirtioFeatureFlags::RING_EVENT_IDX.bits();

/// The size of a buffer of the queues.
pub(crate) const PIECE: usize = 4096;
/// The number of buffers of a queue.
pub(crate) const PIECES: usize = 64;

/// A connected guest; each of its queues has [`PIECES`] buffers.
pub(crate) struct Guest {
    queues: Vec<VirtioBlkQueue<'static, usize>>,
    transport: Box<VirtioBlkTransport>,
    memory: MmapMut,
    _file: File,
}

/// A request of the guest. Offsets and lengths are in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum GuestRequest {
    Read(u64),
    Write(u64),
    Flush,
    Discard(u64, u64),
    Zero(u64, u64, bool),
}

impl Guest {
    pub(crate) fn connect(socket: &Path, features: u64, queues: usize) -> io::Result<Guest> {
        let path = socket.to_str().expect("the path is UTF-8");
        let mut transport: Box<VirtioBlkTransport> = Box::new(VhostUser::new(path, features)?);
        let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC)?);
        let len = queues * PIECES * PIECE;
        file.set_len(len as u64)?;
        // SAFETY: only this guest and the device access the file; the device writes only to buffers
        // that are lent to it.
        let memory = unsafe { MmapMut::map_mut(&file) }?;
        let queues = VirtioBlkQueue::setup_queues(&mut *transport, queues, 128)?;
        let at = memory.as_ptr() as usize;
        transport.map_mem_region(at, len, file.as_raw_fd(), 0)?;
        Ok(Guest { queues, transport, memory, _file: file })
    }

    pub(crate) fn features(&self) -> u64 {
        self.transport.get_features()
    }

    pub(crate) fn config(&self) -> virtio_driver::VirtioBlkConfig {
        self.transport.get_config().unwrap()
    }

    /// A buffer of a queue.
    pub(crate) fn piece(&mut self, queue: usize, piece: usize) -> &mut [u8] {
        let at = (queue * PIECES + piece) * PIECE;
        &mut self.memory[at..at + PIECE]
    }

    /// Submits a request with this buffer, whose index also identifies its completion.
    pub(crate) fn submit(&mut self, queue: usize, piece: usize, ask: GuestRequest) {
        let at = (queue * PIECES + piece) * PIECE;
        self.submit_with(queue, piece, ask, at..at + PIECE);
    }

    /// Number of queues.
    pub(crate) fn queues(&self) -> usize {
        self.queues.len()
    }

    /// Its memory.
    pub(crate) fn memory(&mut self) -> &mut [u8] {
        &mut self.memory
    }

    /// Submits a request with this range of its memory as the buffer.
    pub(crate) fn submit_with(
        &mut self,
        queue: usize,
        piece: usize,
        ask: GuestRequest,
        bytes: Range<usize>,
    ) {
        let buffer = &mut self.memory[bytes];
        let lane = &mut self.queues[queue];
        let handed = match ask {
            GuestRequest::Read(offset) => lane.read(offset, buffer, piece),
            GuestRequest::Write(offset) => lane.write(offset, buffer, piece),
            GuestRequest::Flush => lane.flush(piece),
            GuestRequest::Discard(offset, len) => lane.discard(offset, len, piece),
            GuestRequest::Zero(offset, len, unmap) => lane.write_zeroes(offset, len, unmap, piece),
        };
        handed.expect("the ring has room");
    }

    /// Kicks the device, if it has enabled notifications.
    pub(crate) fn kick(&mut self, queue: usize) {
        if self.queues[queue].avail_notif_needed() {
            self.transport.get_submission_notifier(queue).notify().unwrap();
        }
    }

    /// Takes the available completions, as buffer and status.
    pub(crate) fn take(&mut self, queue: usize) -> Vec<(usize, i32)> {
        self.queues[queue].completions().map(|done| (done.context, done.ret)).collect()
    }

    /// Sleeps until the device signals, and takes the completions.
    ///
    /// # Errors
    /// The signal did not come.
    pub(crate) fn wait(&mut self, queue: usize) -> io::Result<Vec<(usize, i32)>> {
        loop {
            let done = self.take(queue);
            if !done.is_empty() {
                return Ok(done);
            }
            self.queues[queue].set_used_notif_enabled(true);
            if self.queues[queue].completions().has_next() {
                continue;
            }
            let fd = self.transport.get_completion_fd(queue);
            // Long enough for a busy machine; this is not a measurement.
            let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
            if poll(&mut [PollFd::new(&*fd, PollFlags::IN)], Some(&patience))? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            fd.read()?;
        }
    }

    /// Runs one request to its end. Returns its status.
    pub(crate) fn run(&mut self, queue: usize, piece: usize, ask: GuestRequest) -> i32 {
        self.submit(queue, piece, ask);
        self.kick(queue);
        let done = self.wait(queue).expect("a signal");
        assert_eq!(done.len(), 1, "one request, one completion");
        assert_eq!(done[0].0, piece, "of the request that was made");
        done[0].1
    }

    /// Writes a buffer full of `byte`.
    pub(crate) fn write(&mut self, queue: usize, offset: u64, byte: u8) {
        self.piece(queue, 0).fill(byte);
        assert_eq!(self.run(queue, 0, GuestRequest::Write(offset)), 0);
    }

    /// Reads a full buffer.
    pub(crate) fn read(&mut self, queue: usize, offset: u64) -> Vec<u8> {
        self.piece(queue, 1).fill(0xee);
        assert_eq!(self.run(queue, 1, GuestRequest::Read(offset)), 0);
        self.piece(queue, 1).to_vec()
    }
}
