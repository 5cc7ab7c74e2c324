//! One line of a report: an event in three columns.

/// The event of a line, for sentences that point at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mark {
    #[default]
    Nothing,
    Sent(u32),
    Returned(u32),
    Start(u8),
    Mode(u8),
    Reset(u8),
    ResetShown(u8),
    PowerLoss,
    Kill(u8),
    SyncFailed,
    Kicked,
}

/// One line of a story.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) number: usize,
    pub(super) guest: String,
    pub(super) device: String,
    pub(super) host: String,
    /// Drawn across the columns: a crash.
    pub(super) across: bool,
    pub(super) crashes: bool,
    /// The line shows the broken promise.
    pub(super) broken: bool,
    pub(super) mark: Mark,
    /// The number of steps done up to this event.
    pub(super) step: usize,
}

impl Line {
    pub(super) fn cells(&self) -> [&str; 3] {
        [&self.guest, &self.device, &self.host]
    }
}
