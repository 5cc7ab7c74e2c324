//! Feature bits as words: `flush,config-wce,version-1`.

use std::fmt;

use crate::guest::wire::{feature, memory};

const NAMES: [(u64, &str); 15] = [
    (memory::SHMEM_REGION, "shmem-region"),
    (feature::SIZE_MAX, "size-max"),
    (feature::SEG_MAX, "seg-max"),
    (feature::RO, "ro"),
    (feature::BLK_SIZE, "blk-size"),
    (feature::FLUSH, "flush"),
    (feature::TOPOLOGY, "topology"),
    (feature::CONFIG_WCE, "config-wce"),
    (feature::MQ, "mq"),
    (feature::DISCARD, "discard"),
    (feature::WRITE_ZEROES, "write-zeroes"),
    (feature::INDIRECT_DESC, "indirect"),
    (feature::EVENT_IDX, "event-idx"),
    (feature::VERSION_1, "version-1"),
    (feature::RING_RESET, "ring-reset"),
];

/// The named bits.
pub(super) fn known() -> u64 {
    NAMES.iter().fold(0, |bits, (mask, _)| bits | mask)
}

/// A feature word for display; a bit without a name is `bit37`.
pub(super) struct Features(pub(super) u64);

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("none");
        }
        let mut separator = "";
        for bit in (0..64).filter(|bit| self.0 >> bit & 1 == 1) {
            f.write_str(separator)?;
            match NAMES.iter().find(|(mask, _)| *mask == 1 << bit) {
                Some((_, name)) => f.write_str(name)?,
                None => write!(f, "bit{bit}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

/// A feature word as names.
pub(crate) fn features(word: u64) -> String {
    Features(word).to_string()
}

/// Reads a feature word, as names or as a hexadecimal number.
///
/// # Errors
/// One line: a name or the number is invalid.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16)
            .map_err(|_| format!("`{text}` is not a feature word such as `0x130000200`"));
    }
    if text == "none" {
        return Ok(0);
    }
    text.split(',').try_fold(0, |word, name| {
        let known = NAMES.iter().find(|(_, known)| *known == name).map(|(mask, _)| *mask);
        let numbered = || {
            let bit: u32 = name.strip_prefix("bit")?.parse().ok()?;
            1u64.checked_shl(bit)
        };
        known
            .or_else(numbered)
            .map(|mask| word | mask)
            .ok_or_else(|| format!("there is no feature `{name}`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_word_reads_back_as_it_is_written() {
        for word in [0, 1, 0x1_3000_7e46, 1 << 37 | 1 << 63, u64::MAX] {
            assert_eq!(parse(&Features(word).to_string()), Ok(word), "{}", Features(word));
            assert_eq!(parse(&format!("{word:#x}")), Ok(word));
        }
        for nonsense in ["", ",", "flush,", "bit64", "bit", "0x", "FLUSH"] {
            assert!(parse(nonsense).is_err(), "{nonsense}");
        }
    }
}
