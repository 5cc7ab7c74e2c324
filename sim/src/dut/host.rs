//! The host's side of one call of a device: memory, the simulated disk, and what the device says.
//!
//! A device of another project has uncertainties and failures of its own that the world cannot see.
//! It draws the first with [`Host::choose`], reports the second with [`Host::failed`] and
//! [`Host::failed_sync`], and explains itself in stories with [`Host::note`].

use std::fmt::{self, Write as _};
use std::str::FromStr;

use crate::guest::memory::Ram;
use crate::host::disk::SimDisk;

/// The host's resources for one call of a device.
#[derive(Debug)]
pub struct Host<'a> {
    /// Guest memory.
    pub ram: Ram<'a>,
    /// The simulated disk, for devices that keep their data on it.
    pub disk: &'a mut SimDisk,
    /// The number of the device, counted from zero: its part of the disk.
    pub device: u8,
    /// True iff the host may fail in this run. A device with a medium of its own may then fail
    /// operations of that medium, which it reports with [`failed`](Self::failed).
    pub may_fail: bool,
    pub(crate) link: &'a mut Link,
}

impl Host<'_> {
    /// Reports that an operation on a medium of the device's own has failed. Every request that is
    /// outstanding now may fail; requests sent later may not. For operations that are not syncs.
    ///
    /// Failures of the simulated disk need no report. Without effect unless
    /// [`may_fail`](Self::may_fail).
    pub fn failed(&mut self) {
        self.link.failed |= self.may_fail;
        self.link.spoke |= self.may_fail;
    }

    /// Reports that a sync of a medium of the device's own has failed: data that was not stable may
    /// be gone. Until the backend ends, every request that needs a sync may fail: a flush, or a
    /// write that must be stable when it completes. So may every write that is outstanding now.
    ///
    /// As [`failed`](Self::failed) otherwise.
    pub fn failed_sync(&mut self) {
        self.link.sync_failed |= self.may_fail;
        self.link.spoke |= self.may_fail;
    }

    /// A number in `0..n` for a choice that the device leaves open, such as the victim of a garbage
    /// collection or the sectors that a loss leaves.
    ///
    /// The scheduler draws it, a trace records it, and shrinking tries zero first, so zero should
    /// be the plainest choice. Past the drawn numbers it is zero.
    ///
    /// # Panics
    /// If `n` is zero or above 65,536, or the device does not say
    /// [`CHOOSES`](crate::dut::DeviceUnderTest::CHOOSES): the choice would always be zero.
    pub fn choose(&mut self, n: u32) -> usize {
        let link = &mut *self.link;
        assert!(link.chooses, "a device that calls `choose` needs `const CHOOSES: bool = true`");
        assert!((1..=1 << 16).contains(&n), "a choice of {n}");
        if n == 1 {
            return 0;
        }
        let drawn = link.choices.get(link.chosen);
        link.chosen = link.chosen.saturating_add(1);
        let number = u32::from(drawn) % n;
        if link.listens {
            link.news.push(News::Chose { number: number as u16, of: n });
            link.spoke = true;
        }
        number as usize
    }

    /// Adds a line to the story, in the column of the device. Without effect, and without
    /// formatting, while no story is kept. Text beyond 60 bytes is cut.
    ///
    /// ```no_run
    /// # fn step(host: &mut powerfail::dut::Host<'_>, block: u32) {
    /// host.note(format_args!("collects block {block}"));
    /// # }
    /// ```
    pub fn note(&mut self, text: impl fmt::Display) {
        if self.link.listens {
            self.link.news.push(News::Remarked(Remark::new(&text)));
            self.link.spoke = true;
        }
    }
}

/// What a story tells of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum News {
    Remarked(Remark),
    /// A choice of `number` in `0..of`.
    Chose {
        number: u16,
        of: u32,
    },
}

/// What passes between a device and the world besides requests.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// True iff one of the other fields has news for the world.
    pub(crate) spoke: bool,
    pub(crate) failed: bool,
    pub(crate) sync_failed: bool,
    /// What a story tells of the last call; only if `listens`.
    pub(crate) news: Vec<News>,
    /// Whether the world keeps a journal.
    pub(crate) listens: bool,
    /// Whether the device may choose.
    pub(crate) chooses: bool,
    /// The numbers drawn for the device.
    pub(crate) choices: Choices,
    /// How many of them the device has taken.
    pub(crate) chosen: usize,
}

impl Link {
    /// The link of a device that has just been opened.
    pub(crate) fn new(chooses: bool, listens: bool) -> Link {
        Link {
            spoke: false,
            failed: false,
            sync_failed: false,
            news: Vec::new(),
            listens,
            chooses,
            choices: Choices::default(),
            chosen: Choices::MOST,
        }
    }

    /// The numbers that the device takes from here on.
    pub(crate) fn give(&mut self, choices: Choices) {
        (self.choices, self.chosen) = (choices, 0);
    }

    /// Whether the device has taken as many numbers as there can be.
    pub(crate) fn is_spent(&self) -> bool {
        self.chosen >= Choices::MOST
    }
}

/// Numbers drawn for a device, up to [`Choices::MOST`]; zeros follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choices([u16; Choices::MOST]);

impl Choices {
    /// The most numbers.
    pub const MOST: usize = 16;

    /// These numbers. Those beyond [`MOST`](Self::MOST) are dropped.
    pub fn new(numbers: impl IntoIterator<Item = u16>) -> Choices {
        let mut choices = Choices::default();
        for (place, number) in choices.0.iter_mut().zip(numbers) {
            *place = number;
        }
        choices
    }

    /// The numbers without the zeros at the end.
    #[must_use]
    pub fn numbers(&self) -> &[u16] {
        let len = self.0.iter().rposition(|&number| number != 0).map_or(0, |last| last + 1);
        &self.0[..len]
    }

    fn get(&self, nth: usize) -> u16 {
        self.0.get(nth).copied().unwrap_or(0)
    }
}

/// `3,0,1`; `0` if there is no other number.
impl fmt::Display for Choices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = self.numbers();
        if numbers.is_empty() {
            return f.write_str("0");
        }
        for (nth, number) in numbers.iter().enumerate() {
            write!(f, "{}{number}", if nth == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Choices {
    type Err = String;

    fn from_str(text: &str) -> Result<Choices, String> {
        let numbers: Result<Vec<u16>, _> = text.split(',').map(str::parse).collect();
        match numbers {
            Ok(numbers) if numbers.len() <= Choices::MOST => Ok(Choices::new(numbers)),
            _ => Err(format!("`{text}` is not a list of at most 16 numbers such as `3,0,1`")),
        }
    }
}

/// A short text of a device, for a story.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Remark {
    len: u8,
    bytes: [u8; Remark::MOST],
}

impl Remark {
    const MOST: usize = 63;
    /// The end of a text that was cut.
    const CUT: &str = "...";

    fn new(text: &impl fmt::Display) -> Remark {
        let mut remark = Remark { len: 0, bytes: [0; Remark::MOST] };
        // The error says only that the text is longer.
        if write!(remark, "{text}").is_err() {
            let end = usize::from(remark.len);
            remark.bytes[end..end + Remark::CUT.len()].copy_from_slice(Remark::CUT.as_bytes());
            remark.len += Remark::CUT.len() as u8;
        }
        remark
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("whole letters")
    }
}

/// Takes letters as long as there is room for `Remark::CUT` behind them. A line break becomes a
/// space.
impl fmt::Write for Remark {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            let letter = if letter.is_control() { ' ' } else { letter };
            let end = usize::from(self.len) + letter.len_utf8();
            if end > Remark::MOST - Remark::CUT.len() {
                return Err(fmt::Error);
            }
            letter.encode_utf8(&mut self.bytes[usize::from(self.len)..]);
            self.len = end as u8;
        }
        Ok(())
    }
}

impl fmt::Debug for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_remark_is_cut_between_letters() {
        assert_eq!(Remark::new(&"moves block 3").as_str(), "moves block 3");
        assert_eq!(Remark::new(&"two\nlines").as_str(), "two lines");
        let long = "ä".repeat(40);
        let cut = format!("{}...", "ä".repeat(30));
        assert_eq!(Remark::new(&long).as_str(), cut);
        assert_eq!(Remark::new(&"x".repeat(60)).as_str(), "x".repeat(60));
    }

    #[test]
    fn choices_read_back_as_they_are_written() {
        for text in ["0", "3", "0,0,65535", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16"] {
            let choices: Choices = text.parse().unwrap();
            assert_eq!(choices.to_string(), text);
        }
        assert_eq!("5,0,0".parse::<Choices>().unwrap().to_string(), "5");
        for nonsense in ["", "a", "65536", "-1", "1,", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"]
        {
            assert!(nonsense.parse::<Choices>().is_err(), "{nonsense}");
        }
    }
}
