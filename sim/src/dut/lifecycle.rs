//! Events in the life of a device besides requests, resets and crashes: actions of the virtual
//! machine monitor that the driver does not see, and the reset of one queue.

/// The events that a device supports. The others never happen to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Abilities {
    /// Pause, resume, save and restore.
    pub pause: bool,
    /// The reset of one queue, where RING_RESET is negotiated.
    pub queue_reset: bool,
    /// To grow with its disk.
    pub resize: bool,
    /// To die under a live driver, and to be gone on for by another one.
    pub reconnect: bool,
}

impl Abilities {
    /// None of them.
    pub const NONE: Abilities =
        Abilities { pause: false, queue_reset: false, resize: false, reconnect: false };
    /// All of them.
    pub const ALL: Abilities =
        Abilities { pause: true, queue_reset: true, resize: true, reconnect: true };

    /// Those that either has.
    #[must_use]
    pub fn or(self, other: Abilities) -> Abilities {
        Abilities {
            pause: self.pause | other.pause,
            queue_reset: self.queue_reset | other.queue_reset,
            resize: self.resize | other.resize,
            reconnect: self.reconnect | other.reconnect,
        }
    }
}

/// Where a backend dies that dies inside a step of a queue's thread. A step in which that cannot be
/// is done as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A head was taken, and the record of what is in flight does not have it.
    Unrecorded,
    /// The last used element was written, and the used index has not passed it.
    Element,
    /// The used index has passed it, and the record of what is in flight does not say so.
    Index,
}

impl Cut {
    /// All of them, with their words.
    pub const NAMES: [(Cut, &'static str); 3] =
        [(Cut::Unrecorded, "taken"), (Cut::Element, "element"), (Cut::Index, "index")];

    /// In a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        Cut::NAMES.iter().find(|named| named.0 == self).map_or("", |named| named.1)
    }
}

/// Something that happens to a live device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// Nothing is taken from its rings from now on.
    Pause,
    /// It goes on.
    Resume,
    /// Paused and drained, it begins to make stable what completed.
    Save,
    /// That is over: its state is saved, and another process goes on from it.
    Restore,
    /// Paused and drained, its rings are stopped; then they are started again where they are.
    RestartRings,
    /// The front-end leaves, what the host has in hand ends, and the front-end comes back with its
    /// record of what was in flight.
    Leave,
    /// Its disk has grown to so many sectors, and it is told.
    Resize {
        /// The new size.
        sectors: u32,
    },
    /// The driver resets one queue.
    ResetQueue {
        /// Which.
        queue: u8,
    },
    /// The driver looks whether that reset is over.
    PollQueue {
        /// Which.
        queue: u8,
    },
    /// The driver places a queue that was reset anew.
    PlaceQueue {
        /// Which.
        queue: u8,
        /// With so many descriptors.
        size: u16,
    },
    /// The backend dies, and another one goes on with the rings as they are. The guest sees nothing
    /// of it.
    Reconnect {
        /// Inside a step of this queue's thread, if not between two.
        inside: Option<(u8, Cut)>,
    },
}

impl Lifecycle {
    /// What happened, as a sentence of a story.
    #[must_use]
    pub fn happened(self) -> String {
        match self {
            Lifecycle::Pause => "the device is paused".to_owned(),
            Lifecycle::Resume => "the device is resumed".to_owned(),
            Lifecycle::Save => "the device is being saved".to_owned(),
            Lifecycle::Restore => "the device is restored".to_owned(),
            Lifecycle::RestartRings => "the rings are stopped and started again".to_owned(),
            Lifecycle::Leave => "the front-end leaves and comes back".to_owned(),
            Lifecycle::Resize { sectors } => format!("the disk grows to {sectors} sectors"),
            Lifecycle::ResetQueue { queue } => format!("queue {queue} is reset"),
            Lifecycle::PollQueue { queue } => format!("the reset of queue {queue} shows"),
            Lifecycle::PlaceQueue { queue, .. } => format!("queue {queue} is placed anew"),
            Lifecycle::Reconnect { .. } => "the backend dies and another goes on".to_owned(),
        }
    }
}

/// What came of moving to another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// Requests that completed before the save are stable.
    Stable,
    /// They may not be stable: a sync has failed.
    NotStable,
}

/// A queue as its driver sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum QueueState {
    /// In use, if the device is.
    #[default]
    Live,
    /// Its reset was asked for and has not shown.
    Resetting,
    /// It was reset and is not placed.
    Down,
}
