//! The host below a foreign device: its requests wait until the scheduler lets them complete.

mod nbd;

pub(super) use nbd::Nbd;

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
