//! A broken rule, as data: the promise, the allowed contents, the observation, and the events that
//! prove the violation.
//!
//! Nothing here decides anything. `Display` builds one sentence from the fields; callers may build
//! another.

use std::fmt;

use crate::class::Class;
use crate::names::{Atom, Content, Observed, RequestId};
use crate::reason::Reason;
use crate::request::Kind;
use crate::rule::Rule;
use crate::terms::{Profile, Row};

/// The name of an atom in a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 512 bytes of a disk.
    Sector,
    /// 8 bytes of a persistent memory.
    Word,
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The broken rule.
    pub rule: Rule,
    /// The class of the failure.
    pub class: Class,
    /// Kind of the request whose promise was broken: the write that was lost, or the request that
    /// was wrongly served.
    pub kind: Option<Kind>,
    /// Row of the stability table under which that request was served, `A` to `H`; `None` if it was
    /// no write.
    pub row: Option<Row>,
    /// The reading of the specification.
    pub profile: Profile,
    /// The request that revealed the violation.
    pub request: Option<RequestId>,
    /// The status of that request.
    pub status: Option<u8>,
    /// The atom, if the rule is about content.
    pub atom: Option<Atom>,
    /// The unit of `atom`.
    pub unit: Unit,
    /// Contents that the atom could have held, sorted.
    pub allowed: Vec<Content>,
    /// The observation.
    pub observed: Option<Observed>,
    /// The events that prove the violation, in order.
    pub because: Vec<Reason>,
    /// Further explanation, as a sentence.
    pub note: Option<Box<str>>,
}

impl Violation {
    /// A violation of `rule`, with the default class of the rule, the Strict profile, and no
    /// details.
    #[must_use]
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            class: Class::of(rule),
            kind: None,
            row: None,
            profile: Profile::Strict,
            request: None,
            status: None,
            atom: None,
            unit: Unit::Sector,
            allowed: Vec::new(),
            observed: None,
            because: Vec::new(),
            note: None,
        }
    }

    /// Sets the class.
    #[must_use]
    pub fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// Sets the kind of the request whose promise was broken.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Sets the row of the stability table.
    #[must_use]
    pub fn row(mut self, row: Row) -> Self {
        self.row = Some(row);
        self
    }

    /// Sets the profile.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Sets the request that revealed the violation.
    #[must_use]
    pub fn request(mut self, request: RequestId) -> Self {
        self.request = Some(request);
        self
    }

    /// Sets the status of that request.
    #[must_use]
    pub fn status(mut self, status: u8) -> Self {
        self.status = Some(status);
        self
    }

    /// Sets the atom.
    #[must_use]
    pub fn atom(mut self, atom: Atom) -> Self {
        self.atom = Some(atom);
        self
    }

    /// Sets the allowed contents.
    #[must_use]
    pub fn allowed(mut self, allowed: Vec<Content>) -> Self {
        self.allowed = allowed;
        self
    }

    /// Sets the observation.
    #[must_use]
    pub fn observed(mut self, observed: Observed) -> Self {
        self.observed = Some(observed);
        self
    }

    /// Appends an event to the proof.
    #[must_use]
    pub fn because(mut self, reason: Reason) -> Self {
        self.because.push(reason);
        self
    }

    /// Sets the further explanation.
    #[must_use]
    pub fn note(mut self, note: impl Into<Box<str>>) -> Self {
        self.note = Some(note.into());
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.atom, self.observed) {
            (Some(atom), Some(observed)) => {
                let unit = match self.unit {
                    Unit::Sector => "Sector",
                    Unit::Word => "Word",
                };
                write!(f, "{unit} {atom} must hold ")?;
                for (nth, content) in self.allowed.iter().enumerate() {
                    let before = match self.allowed.len() - nth {
                        _ if nth == 0 => "",
                        1 => " or ",
                        _ => ", ",
                    };
                    write!(f, "{before}{content}")?;
                }
                if self.allowed.is_empty() {
                    f.write_str("something else")?;
                }
                write!(f, ". It holds {observed}.")?;
            }
            _ => {
                let promise = self.rule.promise();
                let (head, tail) = promise.split_at(1);
                write!(f, "{}{tail}", head.to_uppercase())?;
                match (self.request, self.status) {
                    (Some(id), Some(status)) => {
                        write!(f, "; request {id} was answered with {}.", status_name(status))?
                    }
                    (Some(id), None) => write!(f, "; {}.", what_happened(self.rule, id))?,
                    (None, _) => f.write_str(".")?,
                }
            }
        }
        match &self.note {
            Some(note) => write!(f, " {note}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Violation {}

/// The part of a request in a violation that is not about its answer, as a clause that continues
/// the promise.
fn what_happened(rule: Rule, id: RequestId) -> String {
    match rule {
        Rule::NeverUsed => format!("request {id} was not"),
        Rule::UsedTwice => format!("request {id} was used again"),
        Rule::UsedUnpublished => format!("request {id} was not published"),
        Rule::UsedAfterEnd => format!("request {id} was"),
        Rule::UsedLength => format!("for request {id} it wrote less"),
        Rule::UnknownStatus => format!("that of request {id} is none of these"),
        Rule::WrongIdentity => format!("request {id} read another one"),
        _ => format!("it happened at request {id}"),
    }
}

/// Name of a status in the specification.
fn status_name(status: u8) -> String {
    match status {
        0 => "OK".to_owned(),
        1 => "IOERR".to_owned(),
        2 => "UNSUPP".to_owned(),
        other => format!("status {other}"),
    }
}
