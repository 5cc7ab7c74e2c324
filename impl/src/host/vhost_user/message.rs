//! The messages of the vhost-user protocol that a front-end sends: their numbers, and the fields of
//! their bodies.
//!
//! A message is a header of 12 bytes (request, flags, size of the body, each a u32) and a body, in
//! native byte order. A body may be longer than its fields: front-ends send whole structures with
//! padding and unused elements (Linux' `virtio_uml` always sends a memory table of two regions).
//! The bytes after the fields are ignored. A body that is shorter than its fields is an error.

use std::fmt;

/// Length of a header in bytes.
pub(super) const HEADER: usize = 12;

/// Maximum length of a body in bytes: a memory table with the maximum number of regions, and some
/// room. A longer body is not read.
pub(super) const MOST_BODY: usize = 20 << 10;

/// Maximum number of descriptors in one message: the kernel's limit for a Unix socket.
pub(super) const MOST_DESCRIPTORS: usize = 253;

/// The low two bits of the flags: the version of the protocol.
pub(super) const VERSION_MASK: u32 = 3;
/// The only version.
pub(super) const VERSION: u32 = 1;
/// The message is an answer.
pub(super) const REPLY: u32 = 1 << 2;
/// The sender requests a reply, also to a message that has none of its own (REPLY_ACK).
pub(super) const NEED_REPLY: u32 = 1 << 3;

/// The virtio feature bit that allows protocol features.
pub(super) const F_PROTOCOL_FEATURES: u64 = 1 << 30;

/// Protocol features, by their bits.
pub(super) mod feature {
    pub(in super::super) const MQ: u64 = 1 << 0;
    pub(in super::super) const REPLY_ACK: u64 = 1 << 3;
    pub(in super::super) const BACKEND_REQ: u64 = 1 << 5;
    pub(in super::super) const CONFIG: u64 = 1 << 9;
    pub(in super::super) const INFLIGHT_SHMFD: u64 = 1 << 12;
    pub(in super::super) const RESET_DEVICE: u64 = 1 << 13;
    pub(in super::super) const CONFIGURE_MEM_SLOTS: u64 = 1 << 15;
}

/// The number of a message. Any number may arrive; [`fmt::Display`] names those of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request(pub u32);

/// The numbers and their names, in one place.
macro_rules! requests {
    ($($name:ident = $number:literal,)*) => {
        impl Request {
            $(pub(super) const $name: Request = Request($number);)*

            fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

requests! {
    GET_FEATURES = 1,
    SET_FEATURES = 2,
    SET_OWNER = 3,
    RESET_OWNER = 4,
    SET_MEM_TABLE = 5,
    SET_VRING_NUM = 8,
    SET_VRING_ADDR = 9,
    SET_VRING_BASE = 10,
    GET_VRING_BASE = 11,
    SET_VRING_KICK = 12,
    SET_VRING_CALL = 13,
    SET_VRING_ERR = 14,
    GET_PROTOCOL_FEATURES = 15,
    SET_PROTOCOL_FEATURES = 16,
    GET_QUEUE_NUM = 17,
    SET_VRING_ENABLE = 18,
    SET_BACKEND_REQ_FD = 21,
    GET_CONFIG = 24,
    SET_CONFIG = 25,
    GET_INFLIGHT_FD = 31,
    SET_INFLIGHT_FD = 32,
    RESET_DEVICE = 34,
    GET_MAX_MEM_SLOTS = 36,
    ADD_MEM_REG = 37,
    REM_MEM_REG = 38,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "message {}", self.0),
        }
    }
}

/// The reason why a message is not executed.
#[derive(Debug)]
pub enum MessageError {
    /// The flags are not those of a request of this version of the protocol.
    Flags(Request, u32),
    /// The length of the body in bytes is below that of its fields or above the maximum.
    Size(Request, usize),
    /// The number of descriptors is wrong.
    Descriptors(Request, usize),
    /// Descriptors were lost because this process has reached its limit.
    DescriptorsLost(Request),
    /// The number is unknown or belongs to a feature that was not offered.
    Unknown(Request),
    /// There is no such ring; the last field is the number of rings.
    NoSuchRing(Request, u32, usize),
    /// A field or a descriptor of the message cannot be used.
    Refused(Request, String),
    /// A socket in the message may keep the front-end's own end of the connection open, for the
    /// given reason.
    Socket(String),
    /// There is no room for this reply, because the front-end does not read its replies.
    Unread(Request),
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MessageError::Flags(request, flags) => {
                write!(f, "{request} with flags {flags:#x}: not a request of version {VERSION}")
            }
            MessageError::Size(request, bytes) => {
                write!(f, "{request} with an invalid body length of {bytes} bytes")
            }
            MessageError::Descriptors(request, count) => {
                write!(f, "{request} with a wrong number of descriptors: {count}")
            }
            MessageError::DescriptorsLost(request) => write!(
                f,
                "descriptors of {request} were lost: this process may open no more (ulimit -n)"
            ),
            MessageError::Unknown(request) => write!(f, "{request} was not offered"),
            MessageError::NoSuchRing(request, ring, rings) => {
                write!(f, "{request} for ring {ring}, but the server has {rings}")
            }
            MessageError::Refused(request, why) => write!(f, "{request}: {why}"),
            MessageError::Socket(what) => {
                write!(f, "{what} came with a message and would keep the connection open")
            }
            MessageError::Unread(request) => {
                write!(f, "no room to answer {request}: the front-end does not read its replies")
            }
        }
    }
}

impl std::error::Error for MessageError {}

/// The fields of a body, read from its start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    request: Request,
    whole: usize,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(request: Request, body: &'a [u8]) -> Fields<'a> {
        Fields { request, whole: body.len(), rest: body }
    }

    /// The next `len` bytes.
    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], MessageError> {
        let (bytes, rest) =
            self.rest.split_at_checked(len).ok_or(MessageError::Size(self.request, self.whole))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let bytes = self.bytes(N)?;
        Ok(bytes.try_into().expect("it has that length"))
    }

    pub(super) fn u16(&mut self) -> Result<u16, MessageError> {
        self.array().map(u16::from_ne_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, MessageError> {
        self.array().map(u32::from_ne_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, MessageError> {
        self.array().map(u64::from_ne_bytes)
    }
}

/// One region of guest memory, as a front-end describes it. All in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// Its first guest-physical address.
    pub(super) guest: u64,
    pub(super) len: u64,
    /// Its address in the front-end.
    pub(super) front_end: u64,
    /// Its offset in its file.
    pub(super) offset: u64,
}

impl Region {
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Region, MessageError> {
        Ok(Region {
            guest: fields.u64()?,
            len: fields.u64()?,
            front_end: fields.u64()?,
            offset: fields.u64()?,
        })
    }
}

/// The memory of in-flight records, as GET_INFLIGHT_FD and SET_INFLIGHT_FD describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inflight {
    /// Length of the memory in bytes.
    pub(super) len: u64,
    /// Its offset in its file, in bytes.
    pub(super) offset: u64,
    pub(super) queues: u16,
    pub(super) queue_size: u16,
}

impl Inflight {
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Inflight, MessageError> {
        Ok(Inflight {
            len: fields.u64()?,
            offset: fields.u64()?,
            queues: fields.u16()?,
            queue_size: fields.u16()?,
        })
    }

    /// The body of the reply, in the length of the request: some front-ends pad the structure to
    /// whole words, others do not.
    pub(super) fn body(self, len: usize) -> Vec<u8> {
        let mut body = [self.len.to_ne_bytes(), self.offset.to_ne_bytes()].concat();
        body.extend(self.queues.to_ne_bytes());
        body.extend(self.queue_size.to_ne_bytes());
        body.resize(len.clamp(body.len(), 24), 0);
        body
    }
}

/// The body of a message with one number about one ring.
pub(super) fn vring_state(ring: u32, value: u32) -> Vec<u8> {
    [ring.to_ne_bytes(), value.to_ne_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_fields_is_not_looked_at() {
        let mut body = [1_u64, 2, 3, 4].map(u64::to_ne_bytes).concat();
        body.extend([0xee; 40]);
        let region = Region::read(&mut Fields::of(Request::ADD_MEM_REG, &body));
        let expected = Region { guest: 1, len: 2, front_end: 3, offset: 4 };
        assert_eq!(region.expect("it is long enough"), expected);
    }

    #[test]
    fn a_body_that_is_too_short_says_its_length() {
        let error = Region::read(&mut Fields::of(Request::ADD_MEM_REG, &[0; 31])).unwrap_err();
        assert_eq!(error.to_string(), "ADD_MEM_REG with an invalid body length of 31 bytes");
    }

    #[test]
    fn an_answer_is_as_long_as_its_question() {
        let inflight = Inflight { len: 1, offset: 0, queues: 2, queue_size: 3 };
        for (asked, answered) in [(20, 20), (24, 24), (40, 24)] {
            assert_eq!(inflight.body(asked).len(), answered);
        }
    }

    #[test]
    fn messages_have_their_names() {
        assert_eq!(Request::SET_INFLIGHT_FD.to_string(), "SET_INFLIGHT_FD");
        assert_eq!(Request(99).to_string(), "message 99");
    }
}
