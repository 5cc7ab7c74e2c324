//! Self-describing content of sectors and words.
//!
//! Every sector that the guest writes names its run, its disk, its sector and its version, and
//! every other word follows from those four. A lost, stale, torn, misdirected or foreign sector is
//! therefore recognised without a table.
//!
//! Layout: word 0 holds the run (high half) and the version (low half), word 1 the disk and the
//! sector, word `i` a base mixed from both plus `i` times an odd constant. Only a zeroed sector
//! does not name its origin.

use powerfail_model::{Content, Observed, RequestId};

use crate::base::prng::mix;
use crate::guest::Kind;

/// Bytes in a sector, whatever the disk's own block size: virtio 1.4, 5.2.4.
pub const SECTOR: usize = 512;

/// The content of bytes of a buffer that the device has not written. It is neither zero nor a valid
/// status.
pub(super) const POISON: u8 = 0xc5;

impl Author {
    /// The disk number of sectors that belong to no disk.
    pub const NO_DISK: u8 = 0x7f;
    /// The author of a zeroed sector.
    pub(crate) const ZERO: Author = Author { run: 0, disk: 0xff };
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
const WORDS: usize = SECTOR / 8;
/// The addend to the base for each word. It is a table because base plus table compiles to vector
/// instructions.
static STEPS: [u64; WORDS] = {
    let mut steps = [0; WORDS];
    let mut index = 1;
    while index < WORDS {
        steps[index] = STEP.wrapping_mul(index as u64);
        index += 1;
    }
    steps
};

/// The writer of a sector. It is part of the content, so that the content of another run or another
/// disk is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Author {
    /// The number of the run; runs with different numbers share no content.
    pub run: u32,
    /// The disk in the run.
    pub disk: u8,
}

#[inline]
fn head(author: Author, sector: u32, version: u32) -> (u64, u64) {
    let who = u64::from(author.run) << 32 | u64::from(version);
    // Bit 63 is always set, so that no named sector is all zeroes.
    let place = 1 << 63 | u64::from(author.disk) << 32 | u64::from(sector);
    (who, place)
}

#[inline]
fn base(who: u64, place: u64) -> u64 {
    mix(who ^ place.rotate_left(17))
}

/// Fills one sector with the content of `version` (zero for the initial image).
///
/// # Panics
/// If `out` is not one sector long.
#[inline]
pub fn fill(out: &mut [u8], author: Author, sector: u32, version: u32) {
    let out: &mut [u8; SECTOR] = out.try_into().expect("a payload is one sector");
    let (who, place) = head(author, sector, version);
    let base = base(who, place);
    let (words, _) = out.as_chunks_mut::<8>();
    for (word, step) in words.iter_mut().zip(&STEPS) {
        *word = base.wrapping_add(*step).to_le_bytes();
    }
    words[0] = who.to_le_bytes();
    words[1] = place.to_le_bytes();
}

/// Bits of a word's version.
const VERSION_BITS: u32 = 20;

/// The word of a persistent memory with the content of `version` (zero for the initial image): 8
/// self-describing bytes.
///
/// Layout: the low half holds the version, the word's number and the disk, the high half follows
/// from those and the run. No word is zero.
///
/// # Panics
/// If the version has more than 20 bits or the number more than 8.
#[inline]
#[must_use]
pub fn word(author: Author, number: u32, version: u32) -> u64 {
    assert!(version < 1 << VERSION_BITS && number < 1 << 8, "version {version} of word {number}");
    let disk = u32::from(author.disk) & 7;
    let low = 1 << 31 | disk << 28 | number << VERSION_BITS | version;
    mix(u64::from(author.run) << 32 | u64::from(low)) & !u64::from(u32::MAX) | u64::from(low)
}

/// Decodes a word that was loaded as word `number` of `author`'s memory.
#[inline]
#[must_use]
pub fn read_word(found: u64, author: Author, number: u32) -> Observed {
    let low = found as u32;
    let (version, home) = (low & ((1 << VERSION_BITS) - 1), low >> VERSION_BITS & 0xff);
    let disk = (low >> 28 & 7) as u8;
    if found != word(Author { disk, ..author }, home, version) {
        return if found == 0 { Observed::Content(Content::ZERO) } else { Observed::Garbage };
    }
    if disk != author.disk & 7 {
        return Observed::Foreign;
    }
    if home != number {
        return Observed::Misdirected { content: content(version), home: u64::from(home) };
    }
    Observed::Content(content(version))
}

/// The content of `version`, as the oracle names it.
#[inline]
#[must_use]
pub fn content(version: u32) -> Content {
    if version == 0 { Content::INITIAL } else { Content::of(RequestId(version)) }
}

/// An observation as a number; equal observations have equal numbers.
#[must_use]
pub(crate) fn code(seen: Observed) -> u64 {
    let name = |content: Content| match content.writer() {
        Some(writer) => u64::from(writer.0) + 2,
        None => u64::from(content == Content::INITIAL),
    };
    match seen {
        Observed::Content(content) => name(content),
        Observed::Misdirected { content, home } => {
            1 << 33 | (home & 0xff_ffff) << 34 | name(content)
        }
        Observed::Torn => 1 << 61,
        Observed::Foreign => 2 << 61,
        Observed::Garbage => 3 << 61,
    }
}

/// Bytes whose observation has this [`code`]; noise for a torn, foreign or garbage one.
#[must_use]
pub(crate) fn of_code(kind: Kind, author: Author, number: u32, code: u64) -> Vec<u8> {
    let misdirected = code >> 33 & 1 == 1 && code >> 61 == 0;
    let home = if misdirected { (code >> 34 & 0xff_ffff) as u32 } else { number };
    let name = code & 0x1_ffff_ffff;
    let version = name.saturating_sub(2) as u32;
    let mut bytes = vec![0; if kind == Kind::Memory { 8 } else { SECTOR }];
    let noise = code >> 61 != 0;
    match kind {
        _ if noise => bytes.fill(0xa5),
        _ if name == 0 => {}
        Kind::Disk => fill(&mut bytes, author, home, version),
        Kind::Memory => bytes.copy_from_slice(&word(author, home, version).to_le_bytes()),
    }
    bytes
}

/// Decodes a sector that was read as `sector` of `author`'s disk.
///
/// # Panics
/// If `bytes` is not one sector long.
#[inline]
#[must_use]
pub fn read(bytes: &[u8], author: Author, sector: u32) -> Observed {
    let bytes: &[u8; SECTOR] = bytes.try_into().expect("a payload is one sector");
    let (words, _) = bytes.as_chunks::<8>();
    let who = u64::from_le_bytes(words[0]);
    let place = u64::from_le_bytes(words[1]);
    if !follows(words, base(who, place)) {
        return if bytes.iter().all(|&byte| byte == 0) {
            Observed::Content(Content::ZERO)
        } else {
            odd(words, author)
        };
    }
    let version = who as u32;
    if (who >> 32) as u32 != author.run || (place >> 32) as u8 != author.disk {
        return Observed::Foreign;
    }
    if place as u32 != sector {
        return Observed::Misdirected { content: content(version), home: u64::from(place as u32) };
    }
    Observed::Content(content(version))
}

/// Decodes the place of a sector in the buffer of a read that failed: zeroes if it was not
/// written, and torn if it shows a part of the sector.
///
/// # Panics
/// If `bytes` is not one sector long.
#[cold]
#[must_use]
pub(crate) fn left(bytes: &[u8], author: Author, sector: u32) -> Observed {
    let (words, _) = bytes.as_chunks::<8>();
    let who = u64::from_le_bytes(words[0]);
    if who == 0 || words[0].contains(&POISON) {
        // It was zeroed, or at most a part of its first word was written.
        return Observed::Content(Content::ZERO);
    }
    match read(bytes, author, sector) {
        // What follows the first word may be of an earlier request.
        Observed::Torn | Observed::Garbage if (who >> 32) as u32 == author.run => Observed::Torn,
        Observed::Torn => Observed::Garbage,
        seen => seen,
    }
}

/// Whether a sector holds exactly the content that [`fill`] writes.
///
/// # Panics
/// If `bytes` is not one sector long.
#[inline]
#[must_use]
pub fn is_filled(bytes: &[u8], author: Author, sector: u32, version: u32) -> bool {
    let bytes: &[u8; SECTOR] = bytes.try_into().expect("a payload is one sector");
    let (words, _) = bytes.as_chunks::<8>();
    let (who, place) = head(author, sector, version);
    let named = words[0] == who.to_le_bytes() && words[1] == place.to_le_bytes();
    named && follows(words, base(who, place))
}

/// The author, home sector and version of a sector, from its first two words alone. The author is
/// [`Author::ZERO`] if word 1 is zero.
#[inline]
pub(crate) fn place_of(bytes: &[u8]) -> (Author, u32, u32) {
    let (words, _) = bytes.as_chunks::<8>();
    let who = u64::from_le_bytes(words[0]);
    let place = u64::from_le_bytes(words[1]);
    if place == 0 {
        return (Author::ZERO, 0, 0);
    }
    let author = Author { run: (who >> 32) as u32, disk: (place >> 32) as u8 };
    (author, place as u32, who as u32)
}

/// Whether a sector names this disk and sector as its home, for any run and version.
#[inline]
pub(crate) fn is_at_home(bytes: &[u8], disk: u8, sector: u32) -> bool {
    let (words, _) = bytes.as_chunks::<8>();
    words[1] == head(Author { run: 0, disk }, sector, 0).1.to_le_bytes()
}

/// Whether every word after the first two follows from `base`. One accumulator and no early exit,
/// so that it is vectorised.
#[inline]
fn follows(words: &[[u8; 8]], base: u64) -> bool {
    let mut differences = 0;
    for (word, step) in words[2..].iter().zip(&STEPS[2..]) {
        differences |= u64::from_le_bytes(*word) ^ base.wrapping_add(*step);
    }
    differences == 0
}

/// Classifies an inconsistent sector: torn if it names our run or a quarter of its words are
/// consecutive words of a payload, else garbage.
#[cold]
fn odd(words: &[[u8; 8]], author: Author) -> Observed {
    let word = |index: usize| u64::from_le_bytes(words[index]);
    let stepping = (2..WORDS - 1).filter(|&i| word(i + 1) == word(i).wrapping_add(STEP)).count();
    let ours = (word(0) >> 32) as u32 == author.run;
    if ours || stepping >= WORDS / 4 { Observed::Torn } else { Observed::Garbage }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Author = Author { run: 9, disk: 1 };

    fn sector(author: Author, sector: u32, version: u32) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        fill(&mut bytes, author, sector, version);
        bytes
    }

    #[test]
    fn a_sector_names_its_version_its_home_and_its_run() {
        let seven = sector(ME, 3, 7);
        assert_eq!(read(&seven, ME, 3), Observed::Content(Content::of(RequestId(7))));
        assert_eq!(read(&sector(ME, 3, 0), ME, 3), Observed::Content(Content::INITIAL));
        assert_eq!(read(&[0; SECTOR], ME, 3), Observed::Content(Content::ZERO));
        assert_eq!(
            read(&seven, ME, 4),
            Observed::Misdirected { content: Content::of(RequestId(7)), home: 3 }
        );
        assert_eq!(read(&seven, Author { run: 10, ..ME }, 3), Observed::Foreign);
        assert_eq!(read(&seven, Author { disk: 0, ..ME }, 3), Observed::Foreign);
    }

    #[test]
    fn a_word_names_its_version_its_home_and_its_memory() {
        let seven = word(ME, 3, 7);
        assert_eq!(read_word(seven, ME, 3), Observed::Content(Content::of(RequestId(7))));
        assert_eq!(read_word(word(ME, 3, 0), ME, 3), Observed::Content(Content::INITIAL));
        assert_eq!(read_word(0, ME, 3), Observed::Content(Content::ZERO));
        assert_eq!(
            read_word(seven, ME, 4),
            Observed::Misdirected { content: Content::of(RequestId(7)), home: 3 }
        );
        assert_eq!(read_word(seven, Author { disk: 0, ..ME }, 3), Observed::Foreign);
        assert_eq!(read_word(seven, Author { run: 10, ..ME }, 3), Observed::Garbage);
        assert_eq!(read_word(seven ^ 1 << 40, ME, 3), Observed::Garbage);
    }

    #[test]
    fn a_mixed_sector_is_torn_and_noise_is_garbage() {
        let (old, new) = (sector(ME, 3, 1), sector(ME, 3, 2));
        for cut in (8..SECTOR).step_by(8) {
            let mut torn = old;
            torn[..cut].copy_from_slice(&new[..cut]);
            let expected = match cut {
                // Only the version word differs from the old sector.
                8 => Observed::Torn,
                _ => Observed::Torn,
            };
            assert_eq!(read(&torn, ME, 3), expected, "cut at {cut}");
        }
        let mut half_zero = new;
        half_zero[..256].fill(0);
        assert_eq!(read(&half_zero, ME, 3), Observed::Torn);
        assert_eq!(read(&[0xa5; SECTOR], ME, 3), Observed::Garbage);
    }
}
