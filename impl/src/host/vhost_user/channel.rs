//! The channel on which a back-end speaks first: it says that the configuration space has changed.

use super::message::{HEADER, VERSION};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendFlags, send};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Mutex;

/// CONFIG_CHANGE_MSG, of a back-end.
const CONFIG_CHANGED: u32 = 2;

/// The channel of the front-end that is connected, if it has given one.
#[derive(Debug, Default)]
pub(super) struct Channel(Mutex<Option<OwnedFd>>);

impl Channel {
    /// The front-end listens on this socket from now on.
    pub(super) fn open(&self, socket: Option<OwnedFd>) {
        *crate::sync::lock(&self.0) = socket;
    }

    /// There is none any more.
    pub(super) fn close(&self) {
        *crate::sync::lock(&self.0) = None;
    }

    /// Says that the configuration space has changed; `false` if there is nobody to hear it. Never
    /// waits.
    ///
    /// # Errors
    /// The front-end does not listen: it has let so much pile up that a few bytes have no room, or
    /// it has hung up.
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
