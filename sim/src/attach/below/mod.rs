//! The host below a foreign device: its requests wait until the scheduler lets them complete.

mod file;
mod nbd;

use std::io;
use std::path::Path;

use file::File;
use nbd::Nbd;

/// The host below: a server of the NBD protocol, or a file.
#[derive(Debug)]
pub(super) enum Below {
    Nbd(Nbd),
    File(File),
}

impl Below {
    /// A disk of `len` bytes at this path: the socket of a server, or a file.
    ///
    /// # Errors
    /// The socket or the mount fails.
    pub(super) fn new(is_file: bool, path: &Path, len: u64) -> io::Result<Below> {
        Ok(match is_file {
            true => Below::File(File::mount(path, len)?),
            false => Below::Nbd(Nbd::listen(path, len)?),
        })
    }

    /// The thread of this process that works for the device, once it has opened its file.
    pub(super) fn thread(&self) -> Option<u32> {
        match self {
            Below::Nbd(_) => None,
            Below::File(file) => file.thread(),
        }
    }

    /// Takes what has arrived. Returns whether anything has; requests are added to `asked`.
    ///
    /// # Errors
    /// The device breaks the protocol.
    pub(super) fn poll(&mut self, asked: &mut Vec<Asked>) -> io::Result<bool> {
        match self {
            Below::Nbd(nbd) => nbd.poll(asked),
            Below::File(file) => Ok(file.poll(asked)),
        }
    }

    /// Answers a request: with data if it is a read, or with an error number of the host.
    ///
    /// # Errors
    /// The device has closed the connection.
    pub(super) fn answer(&mut self, cookie: u64, result: Result<&[u8], i32>) -> io::Result<()> {
        match self {
            Below::Nbd(nbd) => nbd.answer(cookie, result),
            Below::File(file) => {
                file.answer(cookie, result);
                Ok(())
            }
        }
    }

    /// Fails everything from now on, so that a process that waits for an answer can end.
    pub(super) fn give_up(&mut self) {
        if let Below::File(file) = self {
            file.give_up();
        }
    }
}

/// The type of a request of the device to its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    /// A write of these bytes.
    Write(Vec<u8>),
    Sync,
    Discard,
    WriteZeroes {
        may_unmap: bool,
    },
}

/// A request of the device to its host. Offset and length are in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// Whether its effect must be stable before it is answered.
    pub(crate) stable: bool,
}

/// A request with the name that its answer needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) cookie: u64,
    pub(crate) request: Request,
}
