//! The reductions of a search, by name.

use std::fmt;
use std::str::FromStr;

/// The reductions of the number of schedules of a search. Each can be switched off, to show that it
/// loses no failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduction {
    /// The content of a sector after a power loss is decided when the sector is read, and an
    /// operation lands when it completes unless another one is in flight on the same sector.
    pub lazy: bool,
    /// Sleep sets: of two independent steps only one order is tried.
    pub sleep: bool,
    /// Of two workloads that are mirror images, or differ only in the numbers of queues, only one
    /// is tried.
    pub mirror: bool,
    /// States that the rest of a run cannot tell apart are one: those that differ only in the order
    /// of neighbours, which the oracle does not use, and those after power losses with the same
    /// allowed and the same possible contents.
    pub alike: bool,
}

impl Reduction {
    /// All reductions.
    pub const ALL: Reduction = Reduction { lazy: true, sleep: true, mirror: true, alike: true };
    /// No reduction.
    pub const NONE: Reduction =
        Reduction { lazy: false, sleep: false, mirror: false, alike: false };
}

impl FromStr for Reduction {
    type Err = String;

    fn from_str(text: &str) -> Result<Reduction, String> {
        let mut reduction = Reduction::NONE;
        for name in text.split(',') {
            match name {
                "all" => reduction = Reduction::ALL,
                "none" => {}
                "lazy" => reduction.lazy = true,
                "sleep" => reduction.sleep = true,
                "mirror" => reduction.mirror = true,
                "alike" => reduction.alike = true,
                _ => {
                    return Err(format!(
                        "there is no reduction `{name}`; there are lazy, sleep, mirror, alike, all and none"
                    ));
                }
            }
        }
        Ok(reduction)
    }
}

impl fmt::Display for Reduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reduction { lazy, sleep, mirror, alike } = *self;
        let names = [(lazy, "lazy"), (sleep, "sleep"), (mirror, "mirror"), (alike, "alike")];
        let names: Vec<&str> = names.iter().filter(|name| name.0).map(|name| name.1).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(","))
    }
}
