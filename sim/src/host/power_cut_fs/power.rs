//! The power switch: the operations of the file system's owner, which its users cannot do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use powerfail_device::Errno;

use super::contents::{Contents, IgnoredSync};
use crate::base::sectors::SectorSet;

/// The power switch of one file. A clone is the same switch.
///
/// Sectors are of 512 bytes and count from the start of the file.
#[derive(Clone, Debug, Default)]
pub struct Power {
    contents: Arc<Mutex<Contents>>,
}

impl Power {
    /// The holder of the lock must not use a file of this file system, because its answer needs the
    /// lock.
    pub(super) fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the file with a new one with this content, all of it stable. Handles of the old one
    /// fail with `EIO`.
    ///
    /// # Panics
    /// If `image` is not a whole number of sectors, or has more than a [`SectorSet`] can hold.
    pub fn fill(&self, image: &[u8]) {
        self.contents().fill(image);
    }

    /// Copies the state of another file: content, dirty and forgotten sectors. Handles stay valid.
    pub fn copy_from(&self, other: &Power) {
        let copy = other.contents().clone();
        self.contents().become_copy(copy);
    }

    /// Cuts the power, and switches it on again. Of the [dirty](Self::dirty) sectors `survivors`
    /// are kept; the others revert to the medium. Open handles fail with `EIO`.
    pub fn cut(&self, survivors: SectorSet) {
        self.contents().cut(survivors);
    }

    /// Makes the next sync or stable write fail with this error and mark these dirty sectors clean.
    /// This happens once; a power cut cancels it.
    pub fn fail_next_sync(&self, errno: Errno, forgets: SectorSet) {
        self.contents().fail_next(Some((errno, forgets)));
    }

    /// Makes the next write fail with this error and write nothing. This happens once; a power cut
    /// cancels it.
    pub fn refuse_next_write(&self, errno: Errno) {
        self.contents().refuse_next_write(errno);
    }

    /// Fails a writeback of these dirty sectors and marks them clean. As on NFS, every open file
    /// reports the error once: at its next sync or write.
    pub fn fail_write_back(&self, errno: Errno, set: SectorSet) {
        self.contents().fail_write_back(errno, set);
    }

    /// Cancels [`fail_next_sync`](Self::fail_next_sync).
    pub fn fail_no_sync(&self) {
        self.contents().fail_next(None);
    }

    /// Makes the file system a mutant whose syncs succeed without effect. A power cut does not
    /// change this.
    pub fn ignore_syncs(&self, ignored: IgnoredSync) {
        self.contents().ignore_syncs(ignored);
    }

    /// Writes dirty sectors back without a sync. Returns `false` if none of them is dirty.
    pub fn write_back(&self, set: SectorSet) -> bool {
        self.contents().write_back(set)
    }

    /// Makes forgotten sectors dirty again, as if no sync had failed.
    pub fn remember(&self) {
        self.contents().remember();
    }

    /// The sectors that a power cut may revert to the medium.
    #[must_use]
    pub fn dirty(&self) -> SectorSet {
        self.contents().dirty()
    }

    /// The sectors that a failed sync marked clean: a power cut loses these.
    #[must_use]
    pub fn forgotten(&self) -> SectorSet {
        self.contents().forgotten()
    }

    /// The number of syncs and stable writes since the last [`fill`](Self::fill).
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.contents().syncs()
    }

    /// The number of syncs and write-backs that failed.
    #[must_use]
    pub(crate) fn failures(&self) -> u64 {
        self.contents().failures()
    }

    /// The content after a power cut without survivors.
    #[must_use]
    pub fn medium(&self) -> Vec<u8> {
        self.contents().medium().to_vec()
    }
}
