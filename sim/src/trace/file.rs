//! A trace file: the broken promise, the world, and the actions that lead to the failure.
//!
//! ```text
//! powerfail trace 4
//! tool    powerfail 0.1.0  spec virtio-1.4  profile Strict atom=512
//! device  blk
//! disk    wrong:early-flush
//! broke   stable-write-lost/lost/out  BLK-D-31  5.2.6.2 (3)
//! seed    5 swarm uniform
//! run     2863311531
//! options devices=1 queues=1 ...
//! witness w7=0 f9=0
//! fails   if and only if w7 is answered before f9 is sent
//! events  9f3c000000000000
//! start a accept=flush,version-1
//! ...
//! end
//! ```
//!
//! The lines between `events` and `end` are actions, one per line. Empty lines and lines that begin
//! with `#` are remarks. The file is read strictly: an invalid line is an error with its number and
//! is never skipped.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::str::FromStr;

use powerfail_model::{Class, Profile, Rule, Violation};

use super::line::request_name;
use super::shape;
use crate::guest::Kind;
use crate::world::WorldShape;
use crate::world::action::{Action, Until};

/// The format that this program writes. Every older one stays readable:
///
/// - 3 to 6 have fewer words about the [world](WorldShape);
/// - 2 has neither `spare=` nor `record=`;
/// - 1 also has no `end`, and a `crank` without a bound takes one step.
pub const VERSION: u32 = 7;

/// The maximum number of actions.
const MOST_ACTIONS: usize = 100_000;

/// The maximum number of lines, empty ones and remarks included.
const MOST_LINES: usize = 10 * MOST_ACTIONS;

/// The maximum length of a line in bytes.
const MOST_BYTES: usize = 4096;

/// The maximum length of an error message in characters.
const MOST_TOLD: usize = 240;

/// A kind of failure. Two failures with equal signatures count as one bug until shown otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature {
    /// The broken rule.
    pub rule: Rule,
    /// The class of the wrong content.
    pub class: Class,
    /// The kind of the request whose promise was broken, or `-`.
    pub kind: String,
}

impl Signature {
    /// The signature of a violation.
    #[must_use]
    pub fn of(violation: &Violation) -> Signature {
        let kind = violation.kind.map_or("-", |kind| kind.name()).to_owned();
        Signature { rule: violation.rule, class: violation.class, kind }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.rule.name(), self.class.name(), self.kind)
    }
}

impl FromStr for Signature {
    type Err = String;

    fn from_str(text: &str) -> Result<Signature, String> {
        let bad = || format!("`{text}` is not a signature such as `stable-write-lost/lost/out`");
        let mut parts = text.split('/');
        let (Some(rule), Some(class), Some(kind), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let rule = Rule::from_name(rule).ok_or_else(bad)?;
        let class = Class::from_name(class).ok_or_else(bad)?;
        let plain = kind == "-" || kind.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        if !plain || kind.is_empty() {
            return Err(bad());
        }
        Ok(Signature { rule, class, kind: kind.to_owned() })
    }
}

/// A run as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The device it was found on, as `--device` names it.
    pub device: String,
    /// The disk it was found on, as `--disk` names it.
    pub disk: String,
    /// The recorded failure.
    pub broke: Signature,
    /// The origin of the run, as words; empty if it was written by hand.
    pub seed: String,
    /// The number of the run in its payloads.
    pub run: u32,
    /// The world.
    pub shape: WorldShape,
    /// The requests on whose answers the broken promise rests, by name, each with its status, or
    /// `None` for any. A replay without these answers has not reached the situation.
    pub witness: Vec<(String, Option<u8>)>,
    /// A clause: the run fails if and only if it holds. Empty if unknown.
    pub only_if: String,
    /// The event hash of the run that was recorded.
    pub events: u64,
    /// The actions.
    pub actions: Vec<Action>,
}

/// An error in a trace file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceError {
    /// The line, counted from 1; 0 stands for the whole file.
    pub line: usize,
    /// The message.
    pub what: String,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        // The message may quote the file, which may hold any characters.
        let mut told = 0;
        for letter in self.what.chars() {
            if told >= MOST_TOLD {
                return f.write_str("...");
            }
            if letter.is_control() {
                told += letter.escape_default().len();
                write!(f, "{}", letter.escape_default())?;
            } else {
                told += 1;
                f.write_char(letter)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for TraceError {}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Signature { rule, .. } = self.broke;
        writeln!(f, "powerfail trace {VERSION}")?;
        let version = env!("CARGO_PKG_VERSION");
        let atom = match self.shape.kind(0) {
            Kind::Disk => 512,
            Kind::Memory => 8,
        };
        let profile = self.shape.contract.name();
        writeln!(f, "tool    powerfail {version}  spec virtio-1.4  profile {profile} atom={atom}")?;
        writeln!(f, "device  {}", self.device)?;
        writeln!(f, "disk    {}", self.disk)?;
        writeln!(f, "broke   {}  {}  {}", self.broke, rule.requirement(), rule.clause())?;
        if !self.seed.is_empty() {
            writeln!(f, "seed    {}", self.seed)?;
        }
        writeln!(f, "run     {}", self.run)?;
        writeln!(f, "options {}", shape::Shown(&self.shape))?;
        let mut witness = String::new();
        for (name, status) in &self.witness {
            match status {
                Some(status) => write!(witness, " {name}={status}")?,
                None => write!(witness, " {name}=any")?,
            }
        }
        writeln!(f, "witness{witness}")?;
        if !self.only_if.is_empty() {
            writeln!(f, "fails   if and only if {}", self.only_if)?;
        }
        writeln!(f, "events  {:016x}", self.events)?;
        for action in &self.actions {
            writeln!(f, "{action}")?;
        }
        writeln!(f, "end")
    }
}

impl FromStr for Trace {
    type Err = TraceError;

    fn from_str(text: &str) -> Result<Trace, TraceError> {
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let (_, first) = lines.next().unwrap_or((1, ""));
        let mut sent = BTreeSet::new();
        let version = first.strip_prefix("powerfail trace ").ok_or_else(|| TraceError {
            line: 1,
            what: "this is not a trace: it does not begin with `powerfail trace 4`".to_owned(),
        })?;
        let known = version.parse().ok().filter(|version| (1..=VERSION).contains(version));
        let Some(version) = known else {
            let what =
                format!("format version `{version}` is unknown; this program reads 1 to {VERSION}");
            return Err(TraceError { line: 1, what });
        };
        let mut header = Header { version, ..Header::default() };
        let mut actions = Vec::new();
        let mut ended = version == 1;
        for (line, words) in lines {
            if line > MOST_LINES {
                return Err(TraceError {
                    line,
                    what: format!("a trace has at most {MOST_LINES} lines"),
                });
            }
            if words.is_empty() || words.starts_with('#') {
                continue;
            }
            let at = |what: String| TraceError { line, what };
            if words.len() > MOST_BYTES {
                return Err(at(format!("this line is longer than {MOST_BYTES} bytes")));
            }
            if header.events.is_none() {
                header.read(words).map_err(at)?;
                continue;
            }
            if ended && version > 1 {
                return Err(at("nothing may follow `end`".to_owned()));
            }
            if words == "end" && version > 1 {
                ended = true;
                continue;
            }
            if actions.len() == MOST_ACTIONS {
                return Err(at(format!("a trace has at most {MOST_ACTIONS} actions")));
            }
            let action = words.parse().map_err(at)?;
            if let Action::Send { id, .. } = action
                && !sent.insert(id)
            {
                return Err(at(format!("request {id} is sent twice")));
            }
            actions.push(if version == 1 { as_in_version_1(action) } else { action });
        }
        let trace = header.finish(actions).map_err(|what| TraceError { line: 0, what })?;
        if !ended {
            let what = "the file was cut short: its last line is not `end`".to_owned();
            return Err(TraceError { line: 0, what });
        }
        Ok(trace)
    }
}

fn as_in_version_1(action: Action) -> Action {
    match action {
        Action::Crank { to, until: Until::Idle } => Action::Crank { to, until: Until::Steps(1) },
        other => other,
    }
}

#[derive(Default)]
struct Header {
    version: u32,
    of_memory: bool,
    /// The keys of the lines so far.
    keys: BTreeSet<String>,
    device: Option<String>,
    disk: Option<String>,
    broke: Option<Signature>,
    seed: String,
    run: Option<u32>,
    /// Strict if the header does not say.
    profile: Option<Profile>,
    shape: Option<WorldShape>,
    witness: Vec<(String, Option<u8>)>,
    only_if: String,
    events: Option<u64>,
}

impl Header {
    fn read(&mut self, line: &str) -> Result<(), String> {
        let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let value = value.trim();
        if !self.keys.insert(key.to_owned()) {
            return Err(format!("the header has a second `{key}` line"));
        }
        match key {
            "tool" => self.read_tool(value)?,
            "device" => self.device = Some(value.to_owned()),
            "disk" => self.disk = Some(value.to_owned()),
            "broke" => {
                let name = value.split_whitespace().next().unwrap_or_default();
                self.broke = Some(name.parse()?);
            }
            "seed" => self.seed = value.to_owned(),
            "run" => {
                let run = value.parse().ok().filter(|&run: &u32| run > 0);
                self.run = Some(run.ok_or_else(|| format!("`{value}` is not a run number"))?);
            }
            "options" => self.shape = Some(shape::parse(value, self.version)?),
            "witness" => {
                for word in value.split_whitespace() {
                    let parts = word.split_once('=');
                    let parsed = parts.and_then(|(name, status)| {
                        let status =
                            if status == "any" { None } else { Some(status.parse().ok()?) };
                        Some((name.to_owned(), status))
                    });
                    let bad =
                        || format!("`{word}` should be a request and its status, such as `w7=0`");
                    self.witness.push(parsed.ok_or_else(bad)?);
                }
            }
            "fails" => {
                let words = value.strip_prefix("if and only if ");
                let bad = || format!("`{value}` should begin with `if and only if`");
                self.only_if = words.ok_or_else(bad)?.to_owned();
            }
            "events" => {
                let hash = u64::from_str_radix(value, 16);
                self.events = Some(hash.map_err(|_| format!("`{value}` is not an event hash"))?);
            }
            _ => {
                return Err(format!(
                    "there is no header `{key}`; `events` must come before actions"
                ));
            }
        }
        Ok(())
    }

    /// Reads the profile, and the atom: that of a memory is a word. The rest is for people.
    fn read_tool(&mut self, value: &str) -> Result<(), String> {
        self.of_memory = value.ends_with("atom=8");
        let mut words = value.split_whitespace().skip_while(|word| *word != "profile");
        if let Some(name) = words.nth(1) {
            let profile = Profile::from_name(name);
            self.profile = Some(profile.ok_or_else(|| format!("there is no profile `{name}`"))?);
        }
        Ok(())
    }

    fn finish(self, actions: Vec<Action>) -> Result<Trace, String> {
        let missing = |what: &str| format!("the header has no `{what}` line");
        let shape = self.shape.ok_or_else(|| missing("options"))?;
        let kind = if self.of_memory { Kind::Memory } else { Kind::Disk };
        let contract = self.profile.unwrap_or(Profile::Strict);
        let shape = WorldShape { contract, ..shape.of_kinds([kind; 2]) };
        Ok(Trace {
            device: self.device.ok_or_else(|| missing("device"))?,
            disk: self.disk.ok_or_else(|| missing("disk"))?,
            broke: self.broke.ok_or_else(|| missing("broke"))?,
            seed: self.seed,
            run: self.run.ok_or_else(|| missing("run"))?,
            shape,
            witness: self.witness,
            only_if: self.only_if,
            events: self.events.ok_or_else(|| missing("events"))?,
            actions,
        })
    }
}

impl Trace {
    /// The names of the requests that the actions send.
    pub fn requests(&self) -> impl Iterator<Item = String> + '_ {
        self.actions.iter().filter_map(|action| match action {
            Action::Send { id, ask, .. } => Some(request_name(*id, ask)),
            _ => None,
        })
    }
}
