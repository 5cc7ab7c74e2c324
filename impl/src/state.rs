//! The state of a device at rest, as plain data: everything that another process needs to continue
//! where this one stopped.
//!
//! It contains nothing in flight and nothing volatile: a device is saved when it is paused, drained
//! and synced, or the save reports that the sync failed
//! ([`SaveError::NotStable`](crate::SaveError)). Kicks and signals are not in it either: a restored
//! device polls every ring and signals every driver.
//!
//! Its bytes are versioned, in fixed order and little-endian. Bytes that do not read back exactly
//! are refused.

use std::fmt;

/// The first bytes of the format.
const MAGIC: [u8; 8] = *b"pf-state";
/// The version of the bytes after that.
const VERSION: u16 = 1;

/// The state of a device at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceState {
    /// The features it offered.
    pub offered: u64,
    /// The features that the driver has accepted so far.
    pub accepted: u64,
    /// The negotiated features; 0 before FEATURES_OK.
    pub negotiated: u64,
    /// The device status.
    pub status: u8,
    /// The cache mode: whether `writeback` reads 1.
    pub writeback: bool,
    /// The generation of the configuration space.
    pub generation: u32,
    /// The capacity shown to the driver, in bytes.
    pub capacity: u64,
    /// Whether the driver is owed a configuration change notification.
    pub config_signal: bool,
    /// Whether a sync has failed: completed data may not be stable, and no flush succeeds.
    pub failed: bool,
    /// Maximum number of descriptors of a queue.
    pub max_queue_size: u16,
    /// The queues.
    pub queues: Vec<RingState>,
}

/// The ring of one queue, which is the whole state of a queue with nothing in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingState {
    /// Whether the driver has placed it.
    pub ready: bool,
    /// Whether it is invalid and needs a reset.
    pub broken: bool,
    /// Number of descriptors.
    pub size: u16,
    /// The next index to read of the available ring.
    pub next_avail: u16,
    /// The next index to write of the used ring.
    pub next_used: u16,
    /// The address of the descriptor table.
    pub descriptors: u64,
    /// The address of the available ring.
    pub available: u64,
    /// The address of the used ring.
    pub used: u64,
}

/// The reason why bytes are not a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// They do not begin with the magic number.
    Magic,
    /// They have this unknown version.
    Version(u16),
    /// They end too early.
    Short,
    /// This number of bytes is left over.
    Long(usize),
    /// This flag is neither 0 nor 1.
    Flag(u8),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::Magic => write!(f, "these bytes are no saved device"),
            StateError::Version(version) => {
                write!(f, "the saved device is of version {version}, not {VERSION}")
            }
            StateError::Short => write!(f, "the saved device is cut short"),
            StateError::Long(bytes) => write!(f, "{bytes} bytes follow the saved device"),
            StateError::Flag(byte) => write!(f, "{byte} in the saved device is neither 0 nor 1"),
        }
    }
}

impl std::error::Error for StateError {}

impl DeviceState {
    /// The state as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(VERSION.to_le_bytes());
        for word in [self.offered, self.accepted, self.negotiated, self.capacity] {
            out.extend(word.to_le_bytes());
        }
        out.extend(self.generation.to_le_bytes());
        out.push(self.status);
        out.extend([self.writeback, self.config_signal, self.failed].map(u8::from));
        out.extend(self.max_queue_size.to_le_bytes());
        out.extend((self.queues.len() as u16).to_le_bytes());
        for ring in &self.queues {
            out.extend([ring.ready, ring.broken].map(u8::from));
            for half in [ring.size, ring.next_avail, ring.next_used] {
                out.extend(half.to_le_bytes());
            }
            for word in [ring.descriptors, ring.available, ring.used] {
                out.extend(word.to_le_bytes());
            }
        }
        out
    }

    /// The state that these bytes encode.
    ///
    /// [`Device::restore`](crate::Device::restore) checks whether a device can be in that state.
    ///
    /// # Errors
    /// The bytes are not exactly an output of [`to_bytes`](DeviceState::to_bytes).
    pub fn from_bytes(bytes: &[u8]) -> Result<DeviceState, StateError> {
        let mut rest = Rest(bytes);
        if rest.take::<8>().map_err(|_| StateError::Magic)? != MAGIC {
            return Err(StateError::Magic);
        }
        let version = rest.u16()?;
        if version != VERSION {
            return Err(StateError::Version(version));
        }
        let [offered, accepted, negotiated, capacity] =
            [rest.u64()?, rest.u64()?, rest.u64()?, rest.u64()?];
        let generation = u32::from_le_bytes(rest.take()?);
        let [status] = rest.take()?;
        let [writeback, config_signal, failed] = [rest.flag()?, rest.flag()?, rest.flag()?];
        let max_queue_size = rest.u16()?;
        let mut queues = Vec::new();
        for _ in 0..rest.u16()? {
            queues.push(RingState {
                ready: rest.flag()?,
                broken: rest.flag()?,
                size: rest.u16()?,
                next_avail: rest.u16()?,
                next_used: rest.u16()?,
                descriptors: rest.u64()?,
                available: rest.u64()?,
                used: rest.u64()?,
            });
        }
        if !rest.0.is_empty() {
            return Err(StateError::Long(rest.0.len()));
        }
        Ok(DeviceState {
            offered,
            accepted,
            negotiated,
            status,
            writeback,
            generation,
            capacity,
            config_signal,
            failed,
            max_queue_size,
            queues,
        })
    }
}

/// The bytes not read yet.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let (first, rest) = self.0.split_first_chunk().ok_or(StateError::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    fn u16(&mut self) -> Result<u16, StateError> {
        self.take().map(u16::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, StateError> {
        self.take().map(u64::from_le_bytes)
    }

    fn flag(&mut self) -> Result<bool, StateError> {
        match self.take()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(StateError::Flag(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> DeviceState {
        let ring = RingState {
            ready: true,
            broken: false,
            size: 16,
            next_avail: 65_535,
            next_used: 3,
            descriptors: 0x1000,
            available: 0x2000,
            used: 0x3000,
        };
        DeviceState {
            offered: u64::MAX,
            accepted: 1 << 40,
            negotiated: 1 << 32,
            status: 15,
            writeback: true,
            generation: 7,
            capacity: 4096,
            config_signal: false,
            failed: true,
            max_queue_size: 32,
            queues: vec![ring, RingState { ready: false, ..ring }],
        }
    }

    #[test]
    fn a_state_reads_back_as_it_was() {
        assert_eq!(DeviceState::from_bytes(&state().to_bytes()), Ok(state()));
    }

    #[test]
    fn what_is_not_exactly_a_state_is_refused() {
        let bytes = state().to_bytes();
        for len in 0..bytes.len() {
            let error = if len < 8 { StateError::Magic } else { StateError::Short };
            assert_eq!(DeviceState::from_bytes(&bytes[..len]), Err(error), "{len} bytes");
        }
        let changed = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            DeviceState::from_bytes(&bytes)
        };
        assert_eq!(changed(0, b'P'), Err(StateError::Magic));
        assert_eq!(changed(8, 2), Err(StateError::Version(2)));
        assert_eq!(changed(47, 2), Err(StateError::Flag(2)));
        let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
        assert_eq!(DeviceState::from_bytes(&longer), Err(StateError::Long(1)));
    }
}
