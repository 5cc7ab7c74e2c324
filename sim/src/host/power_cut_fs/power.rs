//! The switch: what the owner of the file system can do that its users cannot.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use powerfail_device::Errno;

use super::contents::{Contents, IgnoredSync};
use crate::base::sectors::SectorSet;

/// The switch of one file. A clone is the same switch.
///
/// Sectors are of 512 bytes and count from the start of the file.
#[derive(Clone, Debug, Default)]
pub struct Power {
    contents: Arc<Mutex<Contents>>,
}

impl Power {
    /// Who has the lock uses no file of this file system: its answer would need the lock too.
    pub(super) fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts another file there, with this content, all of it stable. Handles of the last one fail
    /// with `EIO`.
    ///
    /// # Panics
    /// If it is not a whole number of sectors, or more of them than a [`SectorSet`] can hold.
    pub fn fill(&self, image: &[u8]) {
        self.contents().fill(image);
    }

    /// Takes over what another file holds, with all that is dirty or forgotten in it. Handles stay
    /// good.
    pub fn copy_from(&self, other: &Power) {
        let copy = other.contents().clone();
        self.contents().become_copy(copy);
    }

    /// Cuts the power, and switches it on again. Of the [dirty](Self::dirty) sectors `survivors`
    /// are left, the others hold what the medium held. Handles that were open fail with `EIO`.
    pub fn cut(&self, survivors: SectorSet) {
        self.contents().cut(survivors);
    }

    /// Makes the next sync, or the next stable write, fail with this error and forget which of
    /// these sectors were dirty. It does so once, and not any more after a power cut.
    pub fn fail_next_sync(&self, errno: Errno, forgets: SectorSet) {
        self.contents().fail_next(Some((errno, forgets)));
    }

    /// Makes the next write fail with this error and write nothing. It does so once, and not any
    /// more after a power cut.
    pub fn refuse_next_write(&self, errno: Errno) {
        self.contents().refuse_next_write(errno);
    }

    /// Fails to write back these dirty sectors, unasked, and forgets that they were dirty. As NFS
    /// does, it tells every open file once: at its next sync, or at its next write.
    pub fn fail_write_back(&self, errno: Errno, set: SectorSet) {
        self.contents().fail_write_back(errno, set);
    }

    /// Takes back [`fail_next_sync`](Self::fail_next_sync).
    pub fn fail_no_sync(&self) {
        self.contents().fail_next(None);
    }

    /// Makes the file system wrong on purpose: it says that all is well, and does nothing. It stays
    /// so over power cuts.
    pub fn ignore_syncs(&self, ignored: IgnoredSync) {
        self.contents().ignore_syncs(ignored);
    }

    /// Writes dirty sectors back, unasked. False if none of them is dirty.
    pub fn write_back(&self, set: SectorSet) -> bool {
        self.contents().write_back(set)
    }

    /// Makes dirty again what failed syncs forgot: as if nobody had been told of them.
    pub fn remember(&self) {
        self.contents().remember();
    }

    /// The sectors that a power cut may take back to what the medium holds.
    #[must_use]
    pub fn dirty(&self) -> SectorSet {
        self.contents().dirty()
    }

    /// The sectors whose dirtiness a failed sync forgot: a power cut does take these.
    #[must_use]
    pub fn forgotten(&self) -> SectorSet {
        self.contents().forgotten()
    }

    /// How many syncs and stable writes there were since the file was put there.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.contents().syncs()
    }

    /// What a power cut without survivors would leave.
    #[must_use]
    pub fn medium(&self) -> Vec<u8> {
        self.contents().medium().to_vec()
    }
}
