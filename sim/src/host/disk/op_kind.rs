//! The types of operations of the host.

/// The type of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpKind {
    /// Copy sectors to guest memory.
    Read,
    /// Copy sectors from guest memory into the cache.
    Write,
    /// Make completed effects stable.
    Sync,
    /// Zero sectors, or leave them as they are.
    Discard,
    /// Zero sectors.
    WriteZeroes,
}

impl OpKind {
    const ALL: [OpKind; 5] =
        [OpKind::Read, OpKind::Write, OpKind::Sync, OpKind::Discard, OpKind::WriteZeroes];

    /// The kind with this [name](Self::words).
    pub(super) fn from_name(name: &str) -> Option<OpKind> {
        OpKind::ALL.into_iter().find(|kind| kind.words() == name)
    }

    /// Whether it may change the content of sectors.
    pub(crate) fn mutates(self) -> bool {
        !matches!(self, OpKind::Read | OpKind::Sync)
    }

    /// Its name in traces and reports.
    pub(crate) fn words(self) -> &'static str {
        match self {
            OpKind::Read => "read",
            OpKind::Write => "write",
            OpKind::Sync => "sync",
            OpKind::Discard => "discard",
            OpKind::WriteZeroes => "write-zeroes",
        }
    }
}
