//! Findings that somebody has written down already, so that a set of runs can look for others.
//!
//! ```toml
//! [[finding]]
//! signature = "stable-write-lost/lost/out"
//! link = "https://example.org/issues/7"
//! expires = "2027-03-01"
//! ```
//!
//! `expires` may be left out. From that day on the finding is an error: what is known is to be
//! repaired, not to be forgotten. The file is read strictly. Not here: what day it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use toml::value::{Date, Datetime};
use toml::{Spanned, Value};

use crate::trace::Signature;

/// What is known about one kind of failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// Where it is written down.
    pub(crate) link: String,
    expires: Option<Date>,
}

/// Known kinds of failures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    notes: BTreeMap<Signature, Note>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    finding: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    signature: Spanned<String>,
    link: Spanned<String>,
    expires: Option<Spanned<Value>>,
}

/// What is wrong with a file of known findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownError {
    /// The line, counted from one; zero if the file as a whole is meant.
    line: usize,
    what: String,
}

impl fmt::Display for KnownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.what),
            line => write!(f, "line {line}: {}", self.what),
        }
    }
}

impl Known {
    /// Reads a file's text.
    ///
    /// # Errors
    /// What makes no sense, and where; or that a finding has expired `today`, a date as 2027-03-01.
    pub(crate) fn read(text: &str, today: &str) -> Result<Known, KnownError> {
        let line_of = |at: usize| text[..at].matches('\n').count() + 1;
        let file: File = toml::from_str(text).map_err(|error| KnownError {
            line: error.span().map_or(0, |span| line_of(span.start)),
            // It breaks its lines where a terminal would not.
            what: error.message().lines().collect::<Vec<_>>().join(", "),
        })?;
        let today = date(today).expect("the caller gives a date");
        let mut notes = BTreeMap::new();
        for Entry { signature, link, expires } in file.finding {
            let line = line_of(signature.span().start);
            let signature: Signature =
                signature.get_ref().parse().map_err(|what| KnownError { line, what })?;
            let wrong = |line: usize, what: String| Err(KnownError { line, what });
            if link.get_ref().is_empty() || link.get_ref().contains(char::is_control) {
                let what = format!("{signature} has no link that can be followed");
                return wrong(line_of(link.span().start), what);
            }
            let link = link.into_inner();
            let mut last = None;
            if let Some(expires) = expires {
                let line = line_of(expires.span().start);
                let Some(day) = expiry(expires.get_ref()) else {
                    let what = format!("{} is no date, as \"2027-03-01\"", expires.get_ref());
                    return wrong(line, what);
                };
                if day <= today {
                    let what = format!("{signature} has expired on {day}; see {link}");
                    return wrong(line, what);
                }
                last = Some(day);
            }
            if notes.contains_key(&signature) {
                return wrong(line, format!("{signature} is here twice"));
            }
            notes.insert(signature, Note { link, expires: last });
        }
        Ok(Known { notes })
    }

    /// Their signatures.
    pub(crate) fn signatures(&self) -> BTreeSet<Signature> {
        self.notes.keys().cloned().collect()
    }

    /// What is known about one.
    pub(crate) fn get(&self, signature: &Signature) -> Option<&Note> {
        self.notes.get(signature)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Signature, &Note)> {
        self.notes.iter()
    }
}

/// The link, and how long it holds.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.link)?;
        match self.expires {
            Some(day) => write!(f, ", until {day}"),
            None => Ok(()),
        }
    }
}

/// A date in quotes, or as TOML has it.
fn expiry(value: &Value) -> Option<Date> {
    match value {
        Value::String(text) => date(text),
        Value::Datetime(day) => only_date(*day),
        _ => None,
    }
}

fn date(text: &str) -> Option<Date> {
    text.parse().ok().and_then(only_date)
}

fn only_date(day: Datetime) -> Option<Date> {
    day.date.filter(|_| day.time.is_none() && day.offset.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: &str = "stable-write-lost/lost/out";

    /// Reads findings of signature and expiry.
    fn read(findings: &[(&str, &str)]) -> Result<Known, String> {
        let mut text = String::from("# known\n");
        for (signature, expires) in findings {
            text +=
                &format!("[[finding]]\nsignature = \"{signature}\"\nlink = \"x:1\"\n{expires}\n");
        }
        Known::read(&text, "2026-11-20").map_err(|error| error.to_string())
    }

    #[test]
    fn a_finding_is_known_until_the_day_it_expires() {
        let lost: Signature = LOST.parse().unwrap();
        for expires in ["", "expires = \"2026-11-21\"", "expires = 2027-01-01"] {
            let known = read(&[(LOST, expires)]).unwrap();
            assert_eq!(known.get(&lost).unwrap().link, "x:1");
        }
        for expires in ["expires = \"2026-11-20\"", "expires = 2025-12-31"] {
            let said = read(&[(LOST, expires)]).unwrap_err();
            let day = expires.trim_start_matches("expires = ").trim_matches('"');
            assert_eq!(said, format!("line 5: {LOST} has expired on {day}; see x:1"));
        }
        assert_eq!(read(&[]).unwrap(), Known::default());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_line() {
        let other = "stale-read/stale/out";
        for (findings, says) in [
            (&[(LOST, ""), (LOST, "")][..], "line 7: stable-write-lost/lost/out is here twice"),
            (&[(LOST, ""), ("bad-luck", "")], "line 7: `bad-luck` is no signature"),
            (&[(LOST, "expires = \"soon\"")], "line 5: \"soon\" is no date"),
            (&[(LOST, "expires = \"2027-02-30\"")], "line 5: \"2027-02-30\" is no date"),
            (&[(LOST, "expires = 2027-03-01T00:00:00Z")], "line 5: 2027-03-01T00:00:00Z is no"),
            (&[(LOST, "expires = 5")], "line 5: 5 is no date"),
            (&[(LOST, ""), (other, "until = 5")], "line 9: unknown field `until`"),
            (&[(LOST, "[finding]")], "line 5: "),
            (&[(LOST, "link = \"x:2\"")], "line 5: duplicate key"),
        ] {
            let said = read(findings).unwrap_err();
            assert!(said.starts_with(says), "{says} expected, said: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        for (text, says) in [
            ("[[findings]]\n", "line 1: unknown field `findings`"),
            ("[[finding]]\nlink = \"x:1\"\n", "line 1: missing field `signature`"),
            ("[[finding]]\nsignature = \"stale-read/stale/out\"\n", "line 1: missing field `link`"),
            (
                "[[finding]]\nsignature = \"stale-read/stale/out\"\nlink = \"\"",
                "line 3: stale-read",
            ),
            ("\n\nfinding = 7\n", "line 3: "),
            ("finding = [", "line 1: "),
        ] {
            let said = Known::read(text, "2026-11-20").unwrap_err().to_string();
            assert!(said.starts_with(says), "{says} expected, said: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
}
