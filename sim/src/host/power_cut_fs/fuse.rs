//! The FUSE side of the file system: its root is a regular file.

use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
use powerfail_device::Errno;

use super::contents::Handle;
use super::power::Power;

/// The kernel caches no entry and no attribute.
const NO_TIME: Duration = Duration::ZERO;

/// The kernel passes times, which are ignored here.
#[expect(clippy::disallowed_types, reason = "the trait names it")]
type Moment = std::time::SystemTime;

/// The file system over one [`Power`].
#[derive(Debug)]
pub(super) struct Served {
    pub(super) power: Power,
    /// Whether the kernel caches pages of the file, as a mapping requires.
    pub(super) mapped: bool,
}

impl Served {
    fn attributes(&self, ino: INodeNo) -> FileAttr {
        let size = self.power.contents().size();
        FileAttr {
            ino,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: FileType::RegularFile,
            perm: 0o600,
            nlink: 1,
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

fn handle_of(handle: FileHandle) -> Handle {
    Handle(handle.0)
}

/// `O_SYNC` includes the bit of `O_DSYNC`.
fn is_stable(flags: OpenFlags) -> bool {
    flags.0 & libc::O_DSYNC != 0
}

fn said(errno: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(errno.0)
}

fn answer(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(said(errno)),
    }
}

impl Filesystem for Served {
    /// No file but the root exists.
    fn lookup(&self, _: &Request, _: INodeNo, _: &std::ffi::OsStr, reply: ReplyEntry) {
        reply.error(fuser::Errno::ENOENT);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&NO_TIME, &self.attributes(ino));
    }

    /// Changes of times and permissions are ignored; a change of the size fails.
    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<Moment>,
        _handle: Option<FileHandle>,
        _crtime: Option<Moment>,
        _chgtime: Option<Moment>,
        _bkuptime: Option<Moment>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let attributes = self.attributes(ino);
        if size.is_some_and(|size| size != attributes.size) {
            reply.error(fuser::Errno::EPERM);
        } else {
            reply.attr(&NO_TIME, &attributes);
        }
    }

    fn open(&self, _: &Request, _: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let handle = self.power.contents().open(is_stable(flags));
        // Direct I/O bypasses the page cache, so that every transfer arrives unchanged. Several
        // threads may write at once.
        let how = if self.mapped {
            // The kernel writes stores to a mapping when the file is closed, and drops its pages
            // when it is opened again.
            FopenFlags::empty()
        } else {
            FopenFlags::FOPEN_DIRECT_IO
                | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES
                | FopenFlags::FOPEN_NOFLUSH
        };
        reply.opened(FileHandle(handle.0), how);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.power.contents().read(handle_of(handle), offset, size.into()) {
            Ok(bytes) => reply.data(bytes),
            Err(errno) => reply.error(said(errno)),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // The kernel sends no sync after a direct write that must be stable. Its flags say so: the
        // `O_DSYNC` of the handle or the `RWF_DSYNC` of this write.
        let stable = is_stable(flags);
        match self.power.contents().write(handle_of(handle), offset, bytes, stable) {
            Ok(written) => reply.written(written),
            Err(errno) => reply.error(said(errno)),
        }
    }

    /// The size never changes, so `fdatasync` and `fsync` are the same.
    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        answer(reply, self.power.contents().sync(handle_of(handle)));
    }

    /// Closing makes nothing stable. With ENOSYS the kernel stops sending this request.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.power.contents().release(handle_of(handle));
        reply.ok();
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mut contents = self.power.contents();
        let grows = mode & libc::FALLOC_FL_KEEP_SIZE == 0
            && offset.checked_add(len).is_none_or(|end| end > contents.size());
        let result = match mode & !libc::FALLOC_FL_KEEP_SIZE {
            _ if grows => Err(Errno::ENOSPC),
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE => {
                contents.zero(handle_of(handle), offset, len)
            }
            // Every block is allocated already.
            0 => contents.read(handle_of(handle), 0, 0).map(drop),
            _ => Err(Errno::EOPNOTSUPP),
        };
        answer(reply, result);
    }
}
