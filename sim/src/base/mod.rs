//! Numbers, sets of sectors, files and threads. Nothing here depends on virtio.

pub mod choose;
pub(crate) mod files;
pub(crate) mod leftovers;
pub mod prng;
pub mod sectors;
pub(crate) mod shell;
pub(crate) mod threads;
