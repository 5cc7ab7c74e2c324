//! A device at rest, as plain data: what another process needs to go on where this one stopped.
//!
//! There is nothing in flight in it, and nothing volatile goes with it: a device is saved when it
//! is paused, drained and synced, or says that it could not be synced
//! ([`SaveError::NotStable`](crate::SaveError)). Kicks and signals are not in it either: who goes
//! on looks at every ring and signals every driver.
//!
//! As bytes it is versioned, of fixed order and little-endian, and whatever does not read back
//! exactly is refused.

use std::fmt;

/// How the bytes begin.
const MAGIC: [u8; 8] = *b"pf-state";
/// The version of the bytes after that.
const VERSION: u16 = 1;

/// A device at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceState {
    /// The features it offered.
    pub offered: u64,
    /// What the driver has said it accepts.
    pub accepted: u64,
    /// The negotiated features; 0 before FEATURES_OK.
    pub negotiated: u64,
    /// The device status.
    pub status: u8,
    /// What `writeback` reads.
    pub writeback: bool,
    /// The generation of the configuration space.
    pub generation: u32,
    /// The capacity that the driver is shown, in bytes.
    pub capacity: u64,
    /// Whether the driver is owed a configuration change notification.
    pub config_signal: bool,
    /// Whether a sync has failed: then what completed may not be stable, and no flush will say so.
    pub failed: bool,
    /// The most descriptors of a queue.
    pub max_queue_size: u16,
    /// The queues.
    pub queues: Vec<RingState>,
}

/// One queue's ring: all there is to a queue with nothing in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingState {
    /// Whether the driver has placed it.
    pub ready: bool,
    /// Whether it made no sense, and needs a reset.
    pub broken: bool,
    /// Number of descriptors.
    pub size: u16,
    /// The place of the next head to be taken.
    pub next_avail: u16,
    /// The place of the next used entry.
    pub next_used: u16,
    /// The descriptor table.
    pub descriptors: u64,
    /// The available ring.
    pub available: u64,
    /// The used ring.
    pub used: u64,
}

/// Why bytes are no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// They do not begin as a state does.
    Magic,
    /// They are of a version this one does not know.
    Version(u16),
    /// They end too early.
    Short,
    /// So many bytes are left over.
    Long(usize),
    /// This is neither yes nor no.
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

    /// The state that these bytes are.
    ///
    /// Whether a device can be in that state says [`Device::restore`](crate::Device::restore).
    ///
    /// # Errors
    /// They are not exactly what [`to_bytes`](DeviceState::to_bytes) wrote.
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

/// The bytes that were not read yet.
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
