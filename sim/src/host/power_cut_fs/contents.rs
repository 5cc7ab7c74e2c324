//! The content of the file: two images, and the reason why sectors differ between them.

use std::collections::BTreeMap;
use std::ops::Range;

use powerfail_device::Errno;

use crate::base::sectors::SectorSet;
use crate::guest::payload::SECTOR;

/// The fault of a mutant file system: syncs that succeed without effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IgnoredSync {
    /// No fault.
    #[default]
    None,
    /// Every sync.
    All,
}

/// The name of an open file, from its opening to its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Handle(pub(super) u64);

/// The state of an open file.
#[derive(Clone, Copy, Debug)]
struct Opened {
    /// The life it was opened in. The handle is valid iff this is the current life.
    life: u64,
    /// Whether punching holes and zeroing through it is stable on return.
    stable: bool,
    /// The number of failed syncs before it was opened or reported through it.
    told: u64,
}

/// A sync that is going to fail.
#[derive(Clone, Copy, Debug)]
struct Failing {
    errno: Errno,
    forgets: SectorSet,
}

/// The file's content.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    medium: Vec<u8>,
    cache: Vec<u8>,
    /// A sector is dirty iff a power cut may lose its cached content and a sync can persist it.
    dirty: SectorSet,
    /// A sector is forgotten iff a failed sync marked it clean and it was not written since.
    forgotten: SectorSet,
    /// The number of the current life: each power cut and each new file begins one.
    life: u64,
    opened: BTreeMap<Handle, Opened>,
    /// The number of openings so far.
    openings: u64,
    failing: Option<Failing>,
    /// The error of the next write, which then writes nothing.
    refusing: Option<Errno>,
    /// Whether writes report a failed writeback too, and not only syncs.
    reports_to_writes: bool,
    /// The number of failed syncs, and the error of the last one.
    failed: u64,
    error: Option<Errno>,
    /// The number of syncs, stable writes included.
    syncs: u64,
    /// The fault set by the owner, which a power cut does not change.
    ignored: IgnoredSync,
}

impl Contents {
    /// Replaces the file with a new one with this content, all of it stable. Handles of the old one
    /// become invalid.
    pub(super) fn fill(&mut self, image: &[u8]) {
        let most = SectorSet::CAPACITY as usize * SECTOR;
        assert!(
            image.len() <= most && image.len().is_multiple_of(SECTOR),
            "a file of {} bytes is not a whole number of sectors up to {most} bytes",
            image.len()
        );
        *self = Contents {
            medium: image.to_vec(),
            cache: image.to_vec(),
            life: self.life + 1,
            opened: std::mem::take(&mut self.opened),
            openings: self.openings,
            ignored: self.ignored,
            ..Contents::default()
        };
    }

    /// Copies the state of another file. Handles stay valid; the n-th valid one takes over the
    /// reported failures of the n-th valid one there.
    pub(super) fn become_copy(&mut self, other: Contents) {
        let mut opened = std::mem::take(&mut self.opened);
        let mine = opened.values_mut().filter(|open| open.life == self.life);
        let theirs = other.opened.values().filter(|open| open.life == other.life);
        mine.zip(theirs).for_each(|(mine, theirs)| mine.told = theirs.told);
        *self = Contents {
            life: self.life,
            opened,
            openings: self.openings,
            ignored: self.ignored,
            ..other
        };
    }

    pub(super) fn size(&self) -> u64 {
        self.cache.len() as u64
    }

    pub(super) fn dirty(&self) -> SectorSet {
        self.dirty
    }

    pub(super) fn forgotten(&self) -> SectorSet {
        self.forgotten
    }

    pub(super) fn syncs(&self) -> u64 {
        self.syncs
    }

    pub(super) fn failures(&self) -> u64 {
        self.failed
    }

    pub(super) fn medium(&self) -> &[u8] {
        &self.medium
    }

    /// Makes the next sync fail, or cancels that.
    pub(super) fn fail_next(&mut self, failing: Option<(Errno, SectorSet)>) {
        self.failing = failing.map(|(errno, forgets)| Failing { errno, forgets });
    }

    /// Makes the next write fail without writing anything.
    pub(super) fn refuse_next_write(&mut self, errno: Errno) {
        self.refusing = Some(errno);
    }

    /// Fails a writeback of dirty sectors, which are forgotten. Every open file reports that once,
    /// at its next write or sync.
    pub(super) fn fail_write_back(&mut self, errno: Errno, set: SectorSet) {
        self.forget(Failing { errno, forgets: set.and(self.dirty) });
        self.reports_to_writes = true;
    }

    fn forget(&mut self, Failing { errno, forgets }: Failing) {
        self.dirty = self.dirty.minus(forgets);
        self.forgotten = self.forgotten.or(forgets);
        self.failed += 1;
        self.error = Some(errno);
    }

    /// Reports the last failed sync through an open file, if it has not done so yet.
    fn news(&mut self, handle: Handle) -> Result<(), Errno> {
        let opened = self.opened.get_mut(&handle).expect("`check` has found the handle");
        let news = std::mem::replace(&mut opened.told, self.failed) < self.failed;
        self.error.filter(|_| news).map_or(Ok(()), Err)
    }

    /// Ignores these syncs from now on.
    pub(super) fn ignore_syncs(&mut self, ignored: IgnoredSync) {
        self.ignored = ignored;
    }

    /// Makes forgotten sectors dirty again.
    pub(super) fn remember(&mut self) {
        self.dirty = self.dirty.or(std::mem::take(&mut self.forgotten));
    }

    /// Writes dirty sectors to the medium. Returns `false` if none of them is dirty.
    pub(super) fn write_back(&mut self, set: SectorSet) -> bool {
        let set = set.and(self.dirty);
        for sector in set.iter() {
            let bytes = bytes_of(sector);
            self.medium[bytes.clone()].copy_from_slice(&self.cache[bytes]);
        }
        self.dirty = self.dirty.minus(set);
        !set.is_empty()
    }

    /// Cuts the power and switches it on again: of the dirty sectors only `survivors` are kept.
    pub(super) fn cut(&mut self, survivors: SectorSet) {
        self.write_back(survivors);
        self.cache.copy_from_slice(&self.medium);
        (self.dirty, self.forgotten) = Default::default();
        self.failing = None;
        self.refusing = None;
        self.reports_to_writes = false;
        self.life += 1;
    }

    /// A handle for the current life.
    pub(super) fn open(&mut self, stable: bool) -> Handle {
        self.openings += 1;
        let handle = Handle(self.openings);
        self.opened.insert(handle, Opened { life: self.life, stable, told: self.failed });
        handle
    }

    /// Closes a handle for its last user.
    pub(super) fn release(&mut self, handle: Handle) {
        self.opened.remove(&handle);
    }

    fn check(&self, handle: Handle) -> Result<Opened, Errno> {
        self.opened.get(&handle).copied().filter(|open| open.life == self.life).ok_or(Errno::EIO)
    }

    /// The bytes `offset..offset + len`, clipped to the end of the file.
    pub(super) fn read(&self, handle: Handle, offset: u64, len: u64) -> Result<&[u8], Errno> {
        self.check(handle)?;
        Ok(&self.cache[self.within(offset, len)])
    }

    /// Writes up to the end of the file, and returns the number of bytes written. They are stable
    /// on return if `stable`.
    pub(super) fn write(
        &mut self,
        handle: Handle,
        offset: u64,
        bytes: &[u8],
        stable: bool,
    ) -> Result<u32, Errno> {
        self.check(handle)?;
        if let Some(errno) = self.refusing.take() {
            return Err(errno);
        }
        if self.reports_to_writes {
            self.news(handle)?;
        }
        let range = self.within(offset, bytes.len() as u64);
        if range.is_empty() && !bytes.is_empty() {
            return Err(Errno::ENOSPC);
        }
        self.cache[range.clone()].copy_from_slice(&bytes[..range.len()]);
        self.changed(&range);
        if stable {
            self.sync_set(handle, touched(&range))?;
        }
        Ok(range.len() as u32)
    }

    /// Zeroes a range, clipped to the end of the file.
    pub(super) fn zero(&mut self, handle: Handle, offset: u64, len: u64) -> Result<(), Errno> {
        let opened = self.check(handle)?;
        let range = self.within(offset, len);
        self.cache[range.clone()].fill(0);
        self.changed(&range);
        if opened.stable {
            self.sync_set(handle, touched(&range))?;
        }
        Ok(())
    }

    /// Makes all writes stable, unless the owner has arranged a failure or a fault.
    pub(super) fn sync(&mut self, handle: Handle) -> Result<(), Errno> {
        self.check(handle)?;
        if self.ignored == IgnoredSync::All { Ok(()) } else { self.sync_set(handle, self.dirty) }
    }

    fn sync_set(&mut self, handle: Handle, set: SectorSet) -> Result<(), Errno> {
        self.syncs += 1;
        if let Some(failing) = self.failing.take() {
            let forgets = failing.forgets.and(set).and(self.dirty);
            self.forget(Failing { forgets, ..failing });
        } else {
            self.write_back(set);
        }
        // Every open file reports a failure once, whichever handle the failed sync used.
        self.news(handle)
    }

    fn changed(&mut self, range: &Range<usize>) {
        let set = touched(range);
        self.dirty = self.dirty.or(set);
        self.forgotten = self.forgotten.minus(set);
    }

    /// A range of bytes clipped to the end of the file.
    fn within(&self, offset: u64, len: u64) -> Range<usize> {
        let start = offset.min(self.size());
        let end = offset.saturating_add(len).min(self.size());
        start as usize..end as usize
    }
}

fn bytes_of(sector: u32) -> Range<usize> {
    sector as usize * SECTOR..(sector as usize + 1) * SECTOR
}

/// The sectors that a range of bytes touches.
fn touched(range: &Range<usize>) -> SectorSet {
    if range.is_empty() {
        return SectorSet::EMPTY;
    }
    let (first, end) = (range.start / SECTOR, range.end.div_ceil(SECTOR));
    SectorSet::range(first as u32, (end - first) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (Contents, Handle) {
        let mut contents = Contents::default();
        contents.fill(&[0; 16 * SECTOR]);
        let handle = contents.open(false);
        (contents, handle)
    }

    fn set(text: &str) -> SectorSet {
        text.parse().expect("a set")
    }

    #[test]
    fn a_write_of_a_few_bytes_dirties_the_sectors_it_touches() {
        let (mut contents, handle) = file();
        contents.write(handle, 511, &[1, 1], false).unwrap();
        assert_eq!(contents.dirty(), set("0-1"));
        contents.zero(handle, 5 * 512, 0).unwrap();
        assert_eq!(contents.dirty(), set("0-1"), "nothing was zeroed");
        contents.cut(set("1"));
        assert_eq!((contents.medium()[511], contents.medium()[512]), (0, 1));
    }

    #[test]
    fn the_end_of_the_file_is_the_end() {
        let (mut contents, handle) = file();
        let end = contents.size();
        assert_eq!(contents.write(handle, end - 100, &[1; 300], false), Ok(100));
        assert_eq!(contents.write(handle, end, &[1], false), Err(Errno::ENOSPC));
        assert_eq!(contents.write(handle, u64::MAX, &[1], false), Err(Errno::ENOSPC));
        assert_eq!(contents.read(handle, end - 1, u64::MAX), Ok(&[1][..]));
        assert_eq!(contents.read(handle, end + 1, 1), Ok(&[][..]));
    }

    #[test]
    fn a_stable_write_makes_nothing_else_stable() {
        let (mut contents, handle) = file();
        contents.write(handle, 0, &[1; 512], false).unwrap();
        contents.write(handle, 512, &[2; 512], true).unwrap();
        assert_eq!(contents.dirty(), set("0"));
        contents.cut(SectorSet::EMPTY);
        assert_eq!((contents.medium()[0], contents.medium()[512]), (0, 2));
    }

    #[test]
    fn what_is_forgotten_is_dirty_again_once_written_or_remembered() {
        let (mut contents, handle) = file();
        contents.write(handle, 0, &[1; 1536], false).unwrap();
        contents.fail_next(Some((Errno::EIO, set("0-1,9"))));
        assert_eq!(contents.sync(handle), Err(Errno::EIO));
        assert_eq!((contents.dirty(), contents.forgotten()), (set("2"), set("0-1")));
        contents.write(handle, 0, &[2; 512], false).unwrap();
        assert_eq!((contents.dirty(), contents.forgotten()), (set("0,2"), set("1")));
        contents.remember();
        assert_eq!((contents.dirty(), contents.forgotten()), (set("0-2"), SectorSet::EMPTY));
    }

    #[test]
    fn a_handle_lives_as_long_as_the_power_is_on() {
        let (mut contents, handle) = file();
        contents.cut(SectorSet::EMPTY);
        assert_eq!(contents.read(handle, 0, 1), Err(Errno::EIO));
        assert_eq!(contents.write(handle, 0, &[1], true), Err(Errno::EIO));
        assert_eq!(contents.zero(handle, 0, 1), Err(Errno::EIO));
        assert_eq!(contents.sync(handle), Err(Errno::EIO));
        let handle = contents.open(false);
        assert_eq!(contents.read(handle, 0, 1), Ok(&[0][..]));
        contents.release(handle);
        assert_eq!(contents.read(handle, 0, 1), Err(Errno::EIO));
    }
}
