//! How a backend is started, and what is known about it: a file in TOML.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::files;
use crate::base::shell;
use crate::dut::Waived;
use crate::trace::parse_features;

/// The maximum size of a preset, in bytes.
const MOST: u64 = 1 << 16;

/// The presets of this program, by name.
const PRESETS: [(&str, &str); 4] = [
    ("powerfail", include_str!("../../presets/powerfail.toml")),
    ("qemu-storage-daemon", include_str!("../../presets/qemu-storage-daemon.toml")),
    ("qemu-storage-daemon-file", include_str!("../../presets/qemu-storage-daemon-file.toml")),
    (
        "qemu-storage-daemon-writethrough",
        include_str!("../../presets/qemu-storage-daemon-writethrough.toml"),
    ),
];

/// A backend that can be attached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// A line that says what it is.
    pub about: String,
    /// The command line of the shell that starts it. `{socket}` is where it listens. Its disk is
    /// `{nbd}`, the socket of an NBD server, or `{file}`, a file of the size of the disk.
    /// `{powerfail}` is this program.
    pub command: String,
    /// A command line that prints its version.
    #[serde(default)]
    pub version: Option<String>,
    /// The package that has it.
    #[serde(default)]
    pub package: Option<String>,
    /// The answer to GET_ID; empty if it is not known, and then not compared.
    #[serde(default)]
    pub serial: String,
    /// Features that it offers and its driver is not shown, such as `size-max,topology`.
    #[serde(default = "none")]
    pub hide: String,
    /// The rules that are not tested, such as `empty-buffers,mixed-indirect`: see [`Waived`].
    #[serde(default = "none")]
    pub waive: String,
    /// Whether the front-end lets the requests in flight end before it stops the rings, for a
    /// backend that says that a ring is stopped while it still uses it.
    #[serde(default)]
    pub drain: bool,
    /// Whether the front-end sets the cache mode back after a reset, for a backend that begins with
    /// the one that the last driver has chosen.
    #[serde(default)]
    pub resets_mode: bool,
    /// Its defects that are known, and that these settings waive: a line each, for people.
    #[serde(default)]
    pub known: Vec<String>,
    /// The number of queues that it has.
    #[serde(default = "one")]
    pub queues: u16,
    /// The most segments of a DISCARD or WRITE_ZEROES.
    #[serde(default = "one_segment")]
    pub segments: u32,
}

const fn one() -> u16 {
    1
}

fn none() -> String {
    "none".to_owned()
}

const fn one_segment() -> u32 {
    1
}

/// A backend to be attached: the set-up of a [`Foreign`](super::Foreign) device.
#[derive(Clone, Debug, Default)]
pub struct Backend(pub(super) Arc<Preset>);

impl Backend {
    /// The backend of a preset with this name, or of the file at this path.
    ///
    /// # Errors
    /// One line: there is no such preset, or the file is not one.
    pub fn named(name: &str) -> Result<Backend, String> {
        let builtin = PRESETS.iter().find(|(known, _)| *known == name);
        let text = match builtin {
            Some((_, text)) => (*text).to_owned(),
            None if name.ends_with(".toml") => {
                let bytes = files::read(Path::new(name), MOST, "preset")?;
                String::from_utf8(bytes).map_err(|_| format!("{name} is not text"))?
            }
            None => {
                let names: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
                return Err(format!(
                    "there is no preset `{name}`; there are {}, and files that end in .toml",
                    names.join(", ")
                ));
            }
        };
        Backend::read(&text).map_err(|what| format!("{name}: {what}"))
    }

    /// The backend that a preset describes.
    ///
    /// # Errors
    /// One line that says what is wrong with the preset.
    pub fn read(text: &str) -> Result<Backend, String> {
        let mut preset: Preset =
            toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let this = std::env::current_exe().unwrap_or_else(|_| "powerfail".into());
        let this = shell::word(&this);
        preset.command = preset.command.replace("{powerfail}", &this);
        preset.version = preset.version.map(|version| version.replace("{powerfail}", &this));
        if !preset.command.contains("{socket}") {
            return Err("its command does not contain {socket}".to_owned());
        }
        if preset.command.contains("{nbd}") == preset.is_on_file() {
            return Err("its command does not contain one of {nbd} and {file}".to_owned());
        }
        if !(1..=8).contains(&preset.queues) || !(1..=32).contains(&preset.segments) {
            return Err("it has 1 to 8 queues, and 1 to 32 segments".to_owned());
        }
        parse_features(&preset.hide)?;
        preset.waive.parse::<Waived>()?;
        if preset.serial.len() > 20 {
            return Err(format!("serial `{}` is longer than 20 bytes", preset.serial));
        }
        Ok(Backend(Arc::new(preset)))
    }

    /// The text of a preset that starts a backend with this command line, on the side of caution:
    /// one queue, and no identity.
    ///
    /// # Errors
    /// One line: the command line lacks a place.
    pub fn spawned(command: &str) -> Result<String, String> {
        let about = "a command line".to_owned();
        let preset = Preset { about, command: command.to_owned(), ..Preset::plain() };
        let text = toml::to_string(&preset).map_err(|error| error.to_string())?;
        Backend::read(&text)?;
        Ok(text)
    }

    /// What is known about it.
    #[must_use]
    pub fn preset(&self) -> &Preset {
        &self.0
    }

    /// The names of the presets of this program.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, _)| *name)
    }
}

impl Preset {
    fn plain() -> Preset {
        let (hide, waive) = (none(), none());
        Preset { hide, waive, queues: 1, segments: 1, ..Preset::default() }
    }

    /// The rules that are not tested.
    pub(super) fn waive(&self) -> Waived {
        self.waive.parse().unwrap_or_default()
    }

    /// The features that its driver is not shown.
    pub(super) fn hidden(&self) -> u64 {
        parse_features(&self.hide).unwrap_or(0)
    }

    /// Whether it keeps its data in a file, and not behind NBD.
    pub(super) fn is_on_file(&self) -> bool {
        self.command.contains("{file}")
    }

    /// Its command with this socket, and this disk: a file, or the socket of an NBD server.
    pub(super) fn command(&self, socket: &Path, disk: &Path) -> String {
        let disk = shell::word(disk);
        let command = self.command.replace("{socket}", &shell::word(socket));
        command.replace("{nbd}", &disk).replace("{file}", &disk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_can_be_read() {
        for name in Backend::names() {
            let backend = Backend::named(name).unwrap();
            assert!(!backend.preset().about.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_preset_that_is_none_is_refused_in_one_line() {
        for (text, said) in [
            ("about = 1", "invalid type"),
            ("about = ''\ncommand = 'x {nbd}'", "its command does not contain {socket}"),
            ("about = ''\ncommand = '{socket} {nbd}'\nqueues = 9", "it has 1 to 8 queues"),
            ("about = ''\ncommand = '{socket} {nbd}'\nserail = ''", "unknown field"),
        ] {
            let what = Backend::read(text).unwrap_err();
            assert!(what.contains(said), "{what}");
            assert_eq!(what.lines().count(), 1, "{what}");
        }
        assert!(Backend::named("nothing").unwrap_err().contains("qemu-storage-daemon"));
    }
}
