//! What makes a search smaller, by name.

use std::fmt;
use std::str::FromStr;

/// What makes a search smaller than the number of its schedules. Each can be left out, to show that
/// nothing is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduction {
    /// What a power loss leaves in a sector is decided when it is read, and an operation lands when
    /// it completes unless another one is in flight on the same sector.
    pub lazy: bool,
    /// Sleep sets: of two independent steps only one order is taken.
    pub sleep: bool,
    /// Of two workloads that are mirror images, or differ in which queue is which, only one is
    /// taken.
    pub mirror: bool,
    /// States that the rest of a run cannot tell apart are one: whatever the order of neighbours
    /// that the oracle does not ask about, and whatever led to a power loss after which the same is
    /// allowed and the same is there.
    pub alike: bool,
}

impl Reduction {
    /// All of them.
    pub const ALL: Reduction = Reduction { lazy: true, sleep: true, mirror: true, alike: true };
    /// None of them.
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
