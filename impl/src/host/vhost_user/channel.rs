//! The back-end channel: it notifies the front-end that the configuration space has changed.

use super::message::{HEADER, VERSION};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendFlags, send};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

/// The back-end message CONFIG_CHANGE_MSG.
const CONFIG_CHANGED: u32 = 2;

/// The channel of the connected front-end, if it has provided one.
#[derive(Debug, Default)]
pub(super) struct Channel(Mutex<Option<OwnedFd>>);

impl Channel {
    /// Sets the socket that the front-end listens on.
    pub(super) fn open(&self, socket: Option<OwnedFd>) {
        *crate::sync::lock(&self.0) = socket;
    }

    /// Removes the socket.
    pub(super) fn close(&self) {
        *crate::sync::lock(&self.0) = None;
    }

    /// Notifies the front-end that the configuration space has changed; `false` if there is no
    /// channel. Never blocks.
    ///
    /// # Errors
    /// The front-end does not listen: its receive buffer has no room for a few bytes, or it has
    /// hung up.
    pub(super) fn say_config_changed(&self) -> io::Result<bool> {
        let channel = crate::sync::lock(&self.0);
        let Some(channel) = &*channel else { return Ok(false) };
        let message: Vec<u8> = [CONFIG_CHANGED, VERSION, 0].map(u32::to_ne_bytes).concat();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match retry_on_intr(|| send(channel, &message, flags)) {
            Ok(HEADER) => Ok(true),
            Ok(_) | Err(Errno::AGAIN) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        }
    }
}
