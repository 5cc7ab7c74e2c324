//! A file whose requests wait for us: a FUSE file system of one file.
//!
//! The device opens a regular file. All that it does with it arrives here unchanged, because the
//! kernel caches nothing: reads, writes (with or without `O_DSYNC`), `fsync` and `fdatasync`, and
//! holes. Each waits until [`File::answer`].
//!
//! The file may grow, as files do: a write at or behind its end succeeds, and is forgotten.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Config, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Session, TimeOrNow, WriteFlags,
};

use super::{Asked, Kind, Request};
use crate::base::leftovers::{self, Listed, MOUNTED, unmount};

/// The kernel passes times, which are ignored here.
#[expect(clippy::disallowed_types, reason = "the trait names it")]
type Moment = std::time::SystemTime;

/// The kernel caches no entry and no attribute.
const NO_TIME: Duration = Duration::ZERO;

/// The way to answer a request.
#[derive(Debug)]
enum Reply {
    Data(ReplyData),
    Written(ReplyWrite, u32),
    Empty(ReplyEmpty),
}

impl Reply {
    fn give(self, result: Result<&[u8], i32>) {
        match (self, result) {
            (Reply::Data(reply), Ok(bytes)) => reply.data(bytes),
            (Reply::Written(reply, len), Ok(_)) => reply.written(len),
            (Reply::Empty(reply), Ok(_)) => reply.ok(),
            (Reply::Data(reply), Err(errno)) => reply.error(fuser::Errno::from_i32(errno)),
            (Reply::Written(reply, _), Err(errno)) => reply.error(fuser::Errno::from_i32(errno)),
            (Reply::Empty(reply), Err(errno)) => reply.error(fuser::Errno::from_i32(errno)),
        }
    }
}

/// What the serving thread and ours share.
#[derive(Debug, Default)]
struct Requests {
    last: u64,
    asked: Vec<Asked>,
    waiting: BTreeMap<u64, Reply>,
    /// The device is about to end: every further request fails at once.
    is_over: bool,
    /// The size of the file, which grows with writes behind its end.
    size: u64,
    /// The thread that takes requests from the kernel.
    thread: Option<u32>,
}

impl Requests {
    fn ask(&mut self, request: Request, reply: Reply) {
        if self.is_over {
            return reply.give(Err(libc::EIO));
        }
        self.last += 1;
        self.waiting.insert(self.last, reply);
        self.asked.push(Asked { cookie: self.last, request });
    }
}

type Shared = Arc<Mutex<Requests>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Requests> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A mounted file.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    shared: Shared,
    server: Option<JoinHandle<()>>,
    _listed: Listed,
}

impl File {
    /// Makes a file of `len` bytes at this path.
    ///
    /// # Errors
    /// There is no FUSE, or no permission to mount.
    pub(crate) fn mount(path: &Path, len: u64) -> io::Result<File> {
        fs::write(path, [])?;
        let shared: Shared = Arc::default();
        lock(&shared).size = len;
        let (tell, told) = mpsc::channel();
        let listed = leftovers::mount(path);
        let served = Served { shared: Arc::clone(&shared), len };
        let place = path.to_owned();
        let server = std::thread::Builder::new().name("file".to_owned()).spawn(move || {
            let mut config = Config::default();
            config.mount_options = vec![MountOption::FSName(MOUNTED.to_owned())];
            match Session::new(served, &place, &config) {
                Err(error) => drop(tell.send(Err(error))),
                Ok(session) => {
                    let _ = tell.send(Ok(()));
                    // It ends with its connection.
                    let _ = session.run();
                }
            }
        })?;
        let begun = told.recv().unwrap_or_else(|_| Err(io::Error::other("its thread has ended")));
        begun.map_err(|error| {
            io::Error::new(error.kind(), format!("{error}; a file below needs FUSE and root"))
        })?;
        Ok(File { path: path.to_owned(), shared, server: Some(server), _listed: listed })
    }

    /// The number of the thread that takes requests from the kernel, once it has taken one.
    pub(crate) fn thread(&self) -> Option<u32> {
        lock(&self.shared).thread
    }

    /// Takes what has arrived. Returns whether anything has.
    pub(crate) fn poll(&mut self, asked: &mut Vec<Asked>) -> bool {
        let mut requests = lock(&self.shared);
        let any = !requests.asked.is_empty();
        asked.append(&mut requests.asked);
        any
    }

    /// Answers a request: with data if it is a read, or with an error number of the host.
    pub(crate) fn answer(&mut self, cookie: u64, result: Result<&[u8], i32>) {
        let reply = lock(&self.shared).waiting.remove(&cookie);
        if let Some(reply) = reply {
            reply.give(result);
        }
    }

    /// Fails everything from now on, so that a process that waits for an answer can end.
    pub(crate) fn give_up(&mut self) {
        let mut requests = lock(&self.shared);
        requests.is_over = true;
        requests.asked.clear();
        for (_, reply) in std::mem::take(&mut requests.waiting) {
            reply.give(Err(libc::EIO));
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.give_up();
        let _ = unmount(&self.path);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// The file system. Its root is the file.
struct Served {
    shared: Shared,
    len: u64,
}

impl Served {
    fn attributes(&self, ino: INodeNo) -> FileAttr {
        let size = lock(&self.shared).size;
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

impl Filesystem for Served {
    fn lookup(&self, _: &fuser::Request, _: INodeNo, _: &std::ffi::OsStr, reply: ReplyEntry) {
        reply.error(fuser::Errno::ENOENT);
    }

    fn getattr(&self, _: &fuser::Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&NO_TIME, &self.attributes(ino));
    }

    /// Changes of times and permissions are ignored; a change of the size fails.
    fn setattr(
        &self,
        _: &fuser::Request,
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

    fn open(&self, _: &fuser::Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        lock(&self.shared).thread = Some(nix::unistd::gettid().as_raw() as u32);
        let how = FopenFlags::FOPEN_DIRECT_IO
            | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES
            | FopenFlags::FOPEN_NOFLUSH;
        reply.opened(FileHandle(0), how);
    }

    fn read(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        // A read ends at the end of the file.
        let len = u64::from(size).min(self.len.saturating_sub(offset));
        if len == 0 {
            return reply.data(&[]);
        }
        let request = Request { kind: Kind::Read, offset, len, stable: false };
        lock(&self.shared).ask(request, Reply::Data(reply));
    }

    fn write(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let len = bytes.len() as u64;
        let end = offset.saturating_add(len);
        if end > self.len {
            let mut requests = lock(&self.shared);
            requests.size = requests.size.max(end);
            return reply.written(len as u32);
        }
        // The kernel sends no sync after a direct write that must be stable. Its flags say so: the
        // `O_DSYNC` of the handle or the `RWF_DSYNC` of this write.
        let stable = flags.0 & libc::O_DSYNC != 0;
        let request = Request { kind: Kind::Write(bytes.to_vec()), offset, len, stable };
        lock(&self.shared).ask(request, Reply::Written(reply, len as u32));
    }

    fn fsync(&self, _: &fuser::Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let request = Request { kind: Kind::Sync, offset: 0, len: 0, stable: false };
        lock(&self.shared).ask(request, Reply::Empty(reply));
    }

    /// Closing makes nothing stable. With ENOSYS the kernel stops sending this request.
    fn flush(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn release(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fallocate(
        &self,
        _: &fuser::Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        len: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let may_unmap = match mode & !libc::FALLOC_FL_KEEP_SIZE {
            libc::FALLOC_FL_PUNCH_HOLE => true,
            libc::FALLOC_FL_ZERO_RANGE => false,
            // Every block is allocated already.
            0 => return reply.ok(),
            _ => return reply.error(fuser::Errno::EOPNOTSUPP),
        };
        // Behind the end there is nothing to zero.
        let len = len.min(self.len.saturating_sub(offset));
        if len == 0 {
            return reply.ok();
        }
        let request = Request { kind: Kind::WriteZeroes { may_unmap }, offset, len, stable: false };
        lock(&self.shared).ask(request, Reply::Empty(reply));
    }
}
