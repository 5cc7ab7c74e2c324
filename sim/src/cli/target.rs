//! The devices and disks that can be put under test, by name.

use std::fmt::Write as _;
use std::io::{self, ErrorKind};

use powerfail_device::host::{FileDisk, SerialUring};

use crate::attach::{Backend, Foreign};
use crate::devices::blk::Blk;
use crate::devices::blk_file::{BlkFile, FileLane};
use crate::devices::blk_pmem::BlkPmem;
use crate::devices::blk_power_cut::BlkPowerCut;
use crate::devices::faulty::{FaultyDisk, Wrong, WrongDevice, WrongDisk, WrongMemory};
use crate::devices::files::Files;
use crate::devices::pmem::Pmem;
use crate::devices::pmem_file::{MapFault, Maps, PmemFile};
use crate::dut::DeviceUnderTest;
use crate::host::power_cut_fs::MountError;

/// The prefix of a disk's name, in traces, that asks for power cuts below it.
const POWER_CUTS: &str = "power-cuts:";

/// The prefix of a device's name that attaches a backend of another program.
pub(super) const ATTACHED: &str = "attach:";

/// The disk's name with power cuts.
pub(super) fn with_power_cuts(disk: &str) -> String {
    format!("{POWER_CUTS}{}", disk.strip_prefix(POWER_CUTS).unwrap_or(disk))
}

/// The disk's name without the prefix, and whether the prefix was there.
pub(super) fn without_power_cuts(disk: &str) -> (&str, bool) {
    disk.strip_prefix(POWER_CUTS).map_or((disk, false), |disk| (disk, true))
}

/// An operation generic over the device that was named.
pub(super) trait Visit {
    /// Its result.
    type Out;

    /// Runs it on a device made with `setup`.
    fn visit<D: DeviceUnderTest>(self, setup: D::Setup) -> Self::Out;
}

/// A choice of devices and disks.
pub(super) trait Targets {
    /// Finds the device and disk with these names and visits them.
    ///
    /// # Errors
    /// One line: a name is unknown. It lists the known ones.
    fn find<V: Visit>(&self, device: &str, disk: &str, visit: V) -> Result<V::Out, String>;

    /// Whether there is only one device, so that a trace's names are ignored.
    fn only_one(&self) -> bool {
        false
    }

    /// Whether enough runs of a device on the simulated disk reach every situation, so that a
    /// missing one is a gap of the runs. Unknown of a device of another program.
    fn must_reach_all(&self) -> bool {
        false
    }

    /// The device of a run if none is given.
    fn default_device(&self) -> &str;

    /// The list of mutants, one line each.
    fn wrong(&self) -> String;
}

/// The device of another binary, in one or several named set-ups.
pub(super) struct Own<'a, D: DeviceUnderTest>(&'a [(&'a str, D::Setup)]);

impl<'a, D: DeviceUnderTest> Own<'a, D> {
    /// The set-ups, each with its name. The first is the default.
    ///
    /// # Errors
    /// One line: there is none, or `--device` or a trace could not say one of the names, or two are
    /// the same.
    pub(super) fn new(setups: &'a [(&'a str, D::Setup)]) -> Result<Own<'a, D>, String> {
        if setups.is_empty() {
            return Err("this program names no set-up of its device".to_owned());
        }
        for (nth, (name, _)) in setups.iter().enumerate() {
            let plain = |c: char| c.is_ascii_graphic() && c != '#';
            if name.is_empty() || !name.chars().all(plain) {
                return Err(format!(
                    "`{name}` cannot name a set-up: take ASCII letters, digits and punctuation"
                ));
            }
            if setups[..nth].iter().any(|(other, _)| other == name) {
                return Err(format!("two set-ups are named `{name}`"));
            }
        }
        Ok(Own(setups))
    }

    /// The names, in order, as words of a sentence.
    fn names(&self) -> String {
        let names: Vec<&str> = self.0.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }
}

impl<D: DeviceUnderTest> Targets for Own<'_, D> {
    fn find<V: Visit>(&self, device: &str, disk: &str, visit: V) -> Result<V::Out, String> {
        let Some((_, setup)) = self.0.iter().find(|(name, _)| *name == device) else {
            let known = match self.only_one() {
                true => format!("the only one is `{}`", self.names()),
                false => format!("there are {}", self.names()),
            };
            return Err(format!("there is no device `{device}` here; {known}"));
        };
        if disk != "sim" {
            return Err(format!("there is no disk `{disk}` here; the only one is `sim`"));
        }
        Ok(visit.visit::<D>(setup.clone()))
    }

    fn only_one(&self) -> bool {
        self.0.len() == 1
    }

    fn default_device(&self) -> &str {
        self.0[0].0
    }

    fn wrong(&self) -> String {
        "there are no mutants of this device\n".to_owned()
    }
}

/// This repository's devices, and the mutants of them and of the disk below.
pub(super) struct Builtin;

impl Targets for Builtin {
    fn find<V: Visit>(&self, device: &str, disk: &str, visit: V) -> Result<V::Out, String> {
        if let Some(name) = device.strip_prefix(ATTACHED) {
            if disk != "sim" {
                return Err(format!("{device} has no disk `{disk}`; it has sim"));
            }
            return Ok(visit.visit::<Foreign>(Backend::named(name)?));
        }
        let named = |name: &str| {
            Wrong::from_name(name)
                .ok_or_else(|| format!("there is no mutant `{name}`; `powerfail wrong` lists them"))
        };
        let wrong_device = match (device.strip_prefix("wrong:"), device) {
            (Some(name), _) => Some(named(name)?),
            (None, "blk" | "pmem" | "blk+pmem") => None,
            _ => {
                return Err(format!(
                    "there is no device `{device}`; there are blk, pmem, blk+pmem, wrong:NAME and attach:PRESET"
                ));
            }
        };
        let wrong_disk = match (disk.strip_prefix("wrong:"), disk) {
            (Some(name), _) => Some(named(name)?),
            (None, "sim") => None,
            (None, _) => {
                let below = disk.strip_prefix(POWER_CUTS);
                if let Some(path) = below.unwrap_or(disk).strip_prefix("map:") {
                    return find_map(device, path, below.is_some(), visit);
                }
                if device != "blk" && wrong_device.is_none() {
                    return Err(format!(
                        "{device} has no disk `{disk}`; pmem has sim and map:PATH"
                    ));
                }
                return match below.unwrap_or(disk).split_once(':') {
                    Some(("file", _)) => find_file::<FileDisk, V>(wrong_device, disk, visit),
                    Some(("uring", _)) => find_file::<SerialUring, V>(wrong_device, disk, visit),
                    _ if below.is_some() => {
                        Err("--power-cuts cuts the power of a real file: give \
                         one with --disk file:PATH or uring:PATH"
                            .to_owned())
                    }
                    _ => Err(format!(
                        "there is no disk `{disk}`; there are sim, wrong:NAME, file:PATH, \
                         uring:PATH and, for a pmem, map:PATH"
                    )),
                };
            }
        };
        // Either option accepts either kind, because names are unique.
        match (wrong_device, wrong_disk) {
            (Some(_), Some(_)) => Err("give one mutant, not two".to_owned()),
            (None, None) => Ok(match device {
                "pmem" => visit.visit::<Pmem>(()),
                "blk+pmem" => visit.visit::<BlkPmem>(()),
                _ => visit.visit::<Blk>(()),
            }),
            (Some(wrong), None) | (None, Some(wrong)) => Ok(match wrong {
                Wrong::Disk(fault) => visit.visit::<WrongDisk>(fault),
                Wrong::Device(fault) => visit.visit::<WrongDevice>(fault),
                Wrong::Memory(fault) => visit.visit::<WrongMemory>(fault),
            }),
        }
    }

    fn must_reach_all(&self) -> bool {
        true
    }

    fn default_device(&self) -> &str {
        "blk"
    }

    fn wrong(&self) -> String {
        let width = Wrong::all().map(|wrong| wrong.name().len()).max().unwrap_or(0);
        let mut out = String::new();
        for wrong in Wrong::all() {
            let kind = match wrong {
                Wrong::Disk(_) => "disk  ",
                Wrong::Device(_) => "device",
                Wrong::Memory(_) => "memory",
            };
            let _ = writeln!(out, "{kind}  {:width$}  {}", wrong.name(), wrong.summary());
        }
        out
    }
}

/// Visits the persistent memory on new mapped files, with power cuts or without.
fn find_map<V: Visit>(
    device: &str,
    path: &str,
    power_cuts: bool,
    visit: V,
) -> Result<V::Out, String> {
    if device != "pmem" {
        return Err(format!("{device} cannot use a mapped file: give --device pmem"));
    }
    if path.is_empty() {
        return Err("map: needs a path, such as map:memory.img".to_owned());
    }
    let files = Files::mapped(path.into(), power_cuts).map_err(|error| match &error {
        MountError::NoFile(_, error) => no_file(path, error),
        _ => error.to_string(),
    })?;
    let maps = Maps { files, fault: MapFault::None };
    Ok(match power_cuts {
        false => visit.visit::<PmemFile<false>>(maps),
        true => visit.visit::<PmemFile<true>>(maps),
    })
}

/// Visits the block device on new files, given as `KIND:PATH`, with power cuts or without.
fn find_file<L: FileLane, V: Visit>(
    wrong: Option<Wrong>,
    disk: &str,
    visit: V,
) -> Result<V::Out, String> {
    let below = disk.strip_prefix(POWER_CUTS);
    let (kind, path) = below.unwrap_or(disk).split_once(':').unwrap_or(("file", disk));
    let fault = match wrong {
        None => None,
        Some(Wrong::Disk(fault)) => Some(fault),
        Some(Wrong::Device(_) | Wrong::Memory(_)) => {
            return Err("only a mutant of the disk can use a file".to_owned());
        }
    };
    if path.is_empty() {
        return Err(format!("{kind}: needs a path, such as {kind}:disk.img"));
    }
    let files = match below {
        None => Files::new(path.into()).map_err(|error| no_file(path, &error))?,
        Some(_) => Files::with_power_cuts(path.into()).map_err(|error| match &error {
            MountError::NoFile(_, error) => no_file(path, error),
            _ => error.to_string(),
        })?,
    };
    // Check that the host supports this kind of disk.
    L::open(path.as_ref(), false).map_err(|error| error.to_string())?;
    Ok(match below {
        None => visit.visit::<BlkFile<L, Option<FaultyDisk>>>((files, fault)),
        Some(_) => visit.visit::<BlkPowerCut<L, Option<FaultyDisk>>>((files, fault)),
    })
}

fn no_file(path: &str, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::AlreadyExists => {
            format!("{path} exists, and a run would overwrite it: give a path that does not exist")
        }
        _ => format!("cannot create the file {path}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::permissive::{Liberty, PermissiveDevice};

    type Device = PermissiveDevice;

    /// The set-up that a device is visited with.
    struct Seen;

    impl Visit for Seen {
        type Out = String;

        fn visit<D: DeviceUnderTest>(self, setup: D::Setup) -> String {
            format!("{setup:?}")
        }
    }

    #[test]
    fn a_name_chooses_a_setup_and_an_unknown_one_lists_all() {
        let setups = [("plain", None), ("any-order", Some(Liberty::AnyOrder))];
        let own = Own::<Device>::new(&setups).ok().unwrap();
        assert_eq!(own.default_device(), "plain");
        assert!(!own.only_one(), "a trace names its set-up");
        assert_eq!(own.find("any-order", "sim", Seen).unwrap(), "Some(AnyOrder)");
        let what = own.find("own", "sim", Seen).unwrap_err();
        assert_eq!(what, "there is no device `own` here; there are plain, any-order");
        assert!(own.find("plain", "uring:x", Seen).is_err());
    }

    #[test]
    fn the_only_setup_is_taken_whatever_a_trace_says() {
        let own = Own::<Device>::new(&[("own", None)]).ok().unwrap();
        assert!(own.only_one());
        let what = own.find("blk", "sim", Seen).unwrap_err();
        assert_eq!(what, "there is no device `blk` here; the only one is `own`");
    }

    #[test]
    fn names_that_nothing_could_choose_are_refused() {
        let said = |setups: &[(&str, Option<Liberty>)]| Own::<Device>::new(setups).err();
        assert_eq!(said(&[]).unwrap(), "this program names no set-up of its device");
        assert_eq!(said(&[("a", None), ("a", None)]).unwrap(), "two set-ups are named `a`");
        for name in ["", "two words", "#remark", "ä"] {
            assert!(said(&[(name, None)]).is_some(), "{name:?}");
        }
        assert_eq!(said(&[("a", None), ("wrong:b", None)]), None);
    }
}
