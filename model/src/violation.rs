//! A broken rule, as data: what was promised, what was allowed, what was seen, and the events that
//! say so.
//!
//! Nothing here decides anything. The sentence a person reads is made from the fields and can be
//! made differently by whoever holds them.

use std::fmt;

use crate::class::Class;
use crate::names::{Atom, Content, Observed, RequestId};
use crate::reason::Reason;
use crate::request::Kind;
use crate::rule::Rule;
use crate::terms::Profile;

/// What a person calls an atom.
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
    /// Which rule.
    pub rule: Rule,
    /// What is wrong with what was seen.
    pub class: Class,
    /// The kind of the request whose promise was broken: the write that was lost, the request that
    /// was wrongly served.
    pub kind: Option<Kind>,
    /// The row of the stability table under which that request was served, if it was a write.
    pub row: Option<char>,
    /// By which reading.
    pub profile: Profile,
    /// The request at which it came to light.
    pub request: Option<RequestId>,
    /// The status it was answered with.
    pub status: Option<u8>,
    /// Where, if the rule is about content.
    pub atom: Option<Atom>,
    /// What the atom is.
    pub unit: Unit,
    /// What the atom could have held, sorted.
    pub allowed: Vec<Content>,
    /// What was found instead.
    pub observed: Option<Observed>,
    /// The events that say so, in order.
    pub because: Vec<Reason>,
    /// What else there is to say, as a sentence.
    pub note: Option<Box<str>>,
}

impl Violation {
    /// A violation of which nothing is known but the rule; the profile is Strict until told
    /// otherwise.
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

    /// The same, in this class.
    #[must_use]
    pub fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// The same, about a promise to a request of this kind.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// The same, under this row of the stability table.
    #[must_use]
    pub fn row(mut self, row: char) -> Self {
        self.row = Some(row);
        self
    }

    /// The same, by this reading.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// The same, come to light at this request.
    #[must_use]
    pub fn request(mut self, request: RequestId) -> Self {
        self.request = Some(request);
        self
    }

    /// The same, answered with this status.
    #[must_use]
    pub fn status(mut self, status: u8) -> Self {
        self.status = Some(status);
        self
    }

    /// The same, in this atom.
    #[must_use]
    pub fn atom(mut self, atom: Atom) -> Self {
        self.atom = Some(atom);
        self
    }

    /// The same, where these contents were allowed.
    #[must_use]
    pub fn allowed(mut self, allowed: Vec<Content>) -> Self {
        self.allowed = allowed;
        self
    }

    /// The same, where this was found.
    #[must_use]
    pub fn observed(mut self, observed: Observed) -> Self {
        self.observed = Some(observed);
        self
    }

    /// The same, resting on one more event.
    #[must_use]
    pub fn because(mut self, reason: Reason) -> Self {
        self.because.push(reason);
        self
    }

    /// The same, with a sentence more.
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

/// What a request has to do with a rule that is not about its answer, as a clause that goes on from
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

/// A status in the specification's words.
fn status_name(status: u8) -> String {
    match status {
        0 => "OK".to_owned(),
        1 => "IOERR".to_owned(),
        2 => "UNSUPP".to_owned(),
        other => format!("status {other}"),
    }
}
