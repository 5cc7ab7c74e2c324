//! An NBD server whose requests wait for us.
//!
//! It speaks the fixed newstyle handshake with `NBD_OPT_GO` and `NBD_OPT_EXPORT_NAME`, and simple
//! replies. It offers flush, FUA, trim, zeroes and blocks of 512 bytes. It never blocks: what has
//! arrived is read, and everything is answered when we say so, in any order.
//!
//! The protocol: <https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::{Asked, Kind, Request};

const MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;

/// `NBD_FLAG_FIXED_NEWSTYLE` and `NBD_FLAG_NO_ZEROES`.
const HANDSHAKE: u16 = 1 | 2;
/// `HAS_FLAGS`, `SEND_FLUSH`, `SEND_FUA`, `SEND_TRIM` and `SEND_WRITE_ZEROES`.
const TRANSMISSION: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6;

/// `NBD_CMD_FLAG_FUA` and `NBD_CMD_FLAG_NO_HOLE`.
const FUA: u16 = 1;
const NO_HOLE: u16 = 2;

const EXPORT_NAME: u32 = 1;
const ABORT: u32 = 2;
const GO: u32 = 7;
const ACK: u32 = 1;
const INFO: u32 = 3;
const UNSUPPORTED: u32 = 1 << 31 | 1;

/// The longest request that is believed, in bytes.
const MOST: usize = 1 << 25;

/// The part of the protocol that a connection has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Flags,
    Options,
    Transmission,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    arrived: Vec<u8>,
    phase: Phase,
    no_zeroes: bool,
}

/// A server of one export, for one connection at a time.
#[derive(Debug)]
pub(crate) struct Nbd {
    listener: UnixListener,
    connection: Option<Connection>,
    len: u64,
}

/// A big-endian number of a message.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl Nbd {
    /// Listens at `socket` with an export of `len` bytes.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub(crate) fn listen(socket: &Path, len: u64) -> io::Result<Nbd> {
        let listener = UnixListener::bind(socket)?;
        listener.set_nonblocking(true)?;
        Ok(Nbd { listener, connection: None, len })
    }

    /// Takes what has arrived. Returns whether anything has; requests are added to `asked`.
    ///
    /// # Errors
    /// The client breaks the protocol.
    pub(crate) fn poll(&mut self, asked: &mut Vec<Asked>) -> io::Result<bool> {
        let mut any = false;
        if let Some(stream) = would_block(self.listener.accept())? {
            let (mut stream, _) = stream;
            stream.write_all(
                &[&MAGIC.to_be_bytes()[..], &OPTION.to_be_bytes(), &HANDSHAKE.to_be_bytes()]
                    .concat(),
            )?;
            stream.set_nonblocking(true)?;
            let (arrived, phase) = (Vec::new(), Phase::Flags);
            self.connection = Some(Connection { stream, arrived, phase, no_zeroes: false });
            any = true;
        }
        let Some(connection) = &mut self.connection else { return Ok(any) };
        loop {
            let had = connection.arrived.len();
            connection.arrived.resize(had + (1 << 16), 0);
            let read = would_block(connection.stream.read(&mut connection.arrived[had..]));
            let read = match read {
                // The client died with answers that it has not read.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => Some(0),
                read => read?,
            };
            connection.arrived.truncate(had + read.unwrap_or(0));
            match read {
                None => break,
                Some(0) => {
                    self.connection = None;
                    return Ok(true);
                }
                Some(_) => any = true,
            }
        }
        while connection.advance(self.len, asked)? {}
        Ok(any)
    }

    /// Answers a request: with data if it is a read, or with an error number of the host.
    ///
    /// # Errors
    /// The client has closed the connection.
    pub(crate) fn answer(&mut self, cookie: u64, result: Result<&[u8], i32>) -> io::Result<()> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let errno = result.map_or_else(nbd_errno, |_| 0);
        let head = [&REPLY.to_be_bytes()[..], &errno.to_be_bytes(), &cookie.to_be_bytes()];
        let mut bytes = head.concat();
        bytes.extend(result.unwrap_or_default());
        connection.send(&bytes)
    }
}

/// The error number of a reply. The protocol has a few of Linux.
fn nbd_errno(errno: i32) -> u32 {
    match errno {
        libc::ENOSPC | libc::EDQUOT => libc::ENOSPC as u32,
        libc::EOPNOTSUPP => libc::EOPNOTSUPP as u32,
        libc::EPERM | libc::EROFS => libc::EPERM as u32,
        libc::EINVAL => libc::EINVAL as u32,
        _ => libc::EIO as u32,
    }
}

/// The result of a call that may find nothing to do.
fn would_block<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

impl Connection {
    /// Takes one message out of what has arrived. Returns whether there was one.
    fn advance(&mut self, len: u64, asked: &mut Vec<Asked>) -> io::Result<bool> {
        let bytes = &self.arrived;
        match self.phase {
            Phase::Flags => {
                if bytes.len() < 4 {
                    return Ok(false);
                }
                self.no_zeroes = bytes[3] & 2 != 0;
                self.phase = Phase::Options;
                self.arrived.drain(..4);
            }
            Phase::Options => {
                if bytes.len() < 16 {
                    return Ok(false);
                }
                if number(&bytes[..8]) != OPTION {
                    return Err(nonsense("an NBD option without its magic number"));
                }
                let (option, size) = (number(&bytes[8..12]) as u32, number(&bytes[12..16]));
                let end = 16 + usize::try_from(size).unwrap_or(MOST).min(MOST);
                if bytes.len() < end {
                    return Ok(false);
                }
                self.arrived.drain(..end);
                self.option(option, len)?;
            }
            Phase::Transmission => return self.request(asked),
        }
        Ok(true)
    }

    fn option(&mut self, option: u32, len: u64) -> io::Result<()> {
        match option {
            EXPORT_NAME => {
                let mut bytes = [&len.to_be_bytes()[..], &TRANSMISSION.to_be_bytes()].concat();
                bytes.resize(bytes.len() + if self.no_zeroes { 0 } else { 124 }, 0);
                self.phase = Phase::Transmission;
                self.send(&bytes)
            }
            GO => {
                let export = [&[0, 0][..], &len.to_be_bytes(), &TRANSMISSION.to_be_bytes()];
                self.reply(option, INFO, &export.concat())?;
                let sizes = [512_u32, 4096, MOST as u32].map(u32::to_be_bytes).concat();
                self.reply(option, INFO, &[&[0, 3][..], &sizes].concat())?;
                self.phase = Phase::Transmission;
                self.reply(option, ACK, &[])
            }
            ABORT => self.reply(option, ACK, &[]),
            _ => self.reply(option, UNSUPPORTED, &[]),
        }
    }

    fn reply(&mut self, option: u32, kind: u32, body: &[u8]) -> io::Result<()> {
        let head = [&OPTION_REPLY.to_be_bytes()[..], &option.to_be_bytes(), &kind.to_be_bytes()];
        let len = (body.len() as u32).to_be_bytes();
        self.send(&[&head.concat()[..], &len, body].concat())
    }

    fn request(&mut self, asked: &mut Vec<Asked>) -> io::Result<bool> {
        let bytes = &self.arrived;
        if bytes.len() < 28 {
            return Ok(false);
        }
        if number(&bytes[..4]) != u64::from(REQUEST) {
            return Err(nonsense("an NBD request without its magic number"));
        }
        let flags = number(&bytes[4..6]) as u16;
        let command = number(&bytes[6..8]);
        let cookie = number(&bytes[8..16]);
        let (offset, len) = (number(&bytes[16..24]), number(&bytes[24..28]));
        let with = if command == 1 { len as usize } else { 0 };
        if with > MOST {
            return Err(nonsense("an NBD write of more bytes than was agreed"));
        }
        if bytes.len() < 28 + with {
            return Ok(false);
        }
        let data: Vec<u8> = self.arrived.drain(..28 + with).skip(28).collect();
        let may_unmap = flags & NO_HOLE == 0;
        let kind = match command {
            0 => Kind::Read,
            1 => Kind::Write(data),
            3 => Kind::Sync,
            4 => Kind::Discard,
            6 => Kind::WriteZeroes { may_unmap },
            // A disconnect has no answer.
            2 => return Ok(true),
            _ => return Err(nonsense("an NBD command that was not offered")),
        };
        let (offset, len) = if kind == Kind::Sync { (0, 0) } else { (offset, len) };
        let stable = flags & FUA != 0;
        asked.push(Asked { cookie, request: Request { kind, offset, len, stable } });
        Ok(true)
    }

    /// Sends bytes, however little of them the socket takes at once.
    fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match would_block(self.stream.write(bytes)) {
                Ok(Some(sent)) => bytes = &bytes[sent..],
                Ok(None) => std::thread::yield_now(),
                // It has died, and needs no answer.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the device sends {what}"))
}
