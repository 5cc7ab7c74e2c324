//! The image of a medium after a power loss.
//!
//! It holds the stable data and those dirty sectors that were chosen to survive. It is exactly a
//! device's part of the disk, sector after sector, with no bytes before or after.

use std::fmt;
use std::str::FromStr;

use crate::base::sectors::SectorSet;
use crate::host::disk::{DiskShape, SimDisk};

/// The dirty sectors that survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// All of them.
    All,
    /// These sectors, counted on the whole medium as in the `crash power` line of a trace. Clean
    /// sectors in the set have no effect.
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
    /// The contents.
    pub bytes: Vec<u8>,
    /// The sectors that were dirty, counted within the part.
    pub dirty: SectorSet,
    /// The dirty sectors that survived, counted within the part.
    pub kept: SectorSet,
}

/// The image of a device's part of the disk after a power loss now.
///
/// # Errors
/// A survivor is not a sector of the medium.
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
