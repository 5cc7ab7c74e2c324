//! A medium as a power loss may leave it.
//!
//! What is stable is on it, and of what is dirty whatever was chosen to survive. It is exactly a
//! device's part of the disk, sector after sector, with nothing before or behind.

use std::fmt;
use std::str::FromStr;

use crate::base::sectors::SectorSet;
use crate::host::disk::{DiskShape, SimDisk};

/// What of the dirty sectors survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// All of them.
    All,
    /// These, counted on the whole medium as in the `crash power` line of a trace; those that are
    /// not dirty do not matter.
    Only(SectorSet),
}

impl fmt::Display for Survivors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Survivors::All => f.write_str("all"),
            Survivors::Only(set) => write!(f, "{set}"),
        }
    }
}

impl FromStr for Survivors {
    type Err = String;

    fn from_str(text: &str) -> Result<Survivors, String> {
        match text {
            "all" => Ok(Survivors::All),
            _ => text
                .parse()
                .map(Survivors::Only)
                .map_err(|e| format!("{e}; there are none, all, and sets as 2,5-7")),
        }
    }
}

/// One device's part of a medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What it holds.
    pub bytes: Vec<u8>,
    /// The sectors that were dirty, counted within the part.
    pub dirty: SectorSet,
    /// Those of them that survived.
    pub kept: SectorSet,
}

/// What a device's part of the disk holds if the power goes now.
///
/// # Errors
/// A survivor is no sector of the medium.
pub fn image(disk: &SimDisk, device: u8, survivors: Survivors) -> Result<Image, String> {
    let shape = disk.shape();
    let survivors = match survivors {
        Survivors::All => disk.dirty(),
        Survivors::Only(set) => set,
    };
    let everything = SectorSet::range(0, shape.sectors());
    if let Some(sector) = survivors.minus(everything).nth(0) {
        return Err(format!("there is no sector {sector}: the medium has {}", shape.sectors()));
    }
    Ok(Image {
        bytes: disk.image_after_loss(device, survivors),
        dirty: within(disk.dirty(), &shape, device),
        kept: within(disk.dirty().and(survivors), &shape, device),
    })
}

/// The sectors of a device's part, counted within it.
fn within(set: SectorSet, shape: &DiskShape, device: u8) -> SectorSet {
    let base = shape.base(device);
    let mut mine = SectorSet::EMPTY;
    for sector in set.and(shape.part(device)).iter() {
        mine.insert(sector - base);
    }
    mine
}
