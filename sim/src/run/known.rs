//! Known findings, listed in a file, so that a campaign can look for others.
//!
//! ```toml
//! [[finding]]
//! signature = "stable-write-lost/lost/out"
//! link = "https://example.org/issues/7"
//! expires = "2027-03-01"
//! ```
//!
//! `expires` is optional. From that day on the finding is an error, because a known bug is to be
//! fixed, not forgotten. The file is read strictly. Not here: today's date.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use toml::value::{Date, Datetime};
use toml::{Spanned, Value};

use crate::trace::Signature;

/// The entry of a known kind of failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// The link to its description.
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

/// An error in a file of known findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownError {
    /// The line, counted from 1; 0 stands for the whole file.
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
    /// The text is invalid, or a finding has expired by `today`, a date such as 2027-03-01.
    pub(crate) fn read(text: &str, today: &str) -> Result<Known, KnownError> {
        let line_of = |at: usize| text[..at].matches('\n').count() + 1;
        let file: File = toml::from_str(text).map_err(|error| KnownError {
            line: error.span().map_or(0, |span| line_of(span.start)),
            // The message of the parser has several lines.
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
                let what = format!("{signature} has an invalid link");
                return wrong(line_of(link.span().start), what);
            }
            let link = link.into_inner();
            let mut last = None;
            if let Some(expires) = expires {
                let line = line_of(expires.span().start);
                let Some(day) = expiry(expires.get_ref()) else {
                    let what =
                        format!("{} is not a date such as \"2027-03-01\"", expires.get_ref());
                    return wrong(line, what);
                };
                if day <= today {
                    let what = format!("{signature} expired on {day}; see {link}");
                    return wrong(line, what);
                }
                last = Some(day);
            }
            if notes.contains_key(&signature) {
                return wrong(line, format!("{signature} is listed twice"));
            }
            notes.insert(signature, Note { link, expires: last });
        }
        Ok(Known { notes })
    }

    /// The known signatures.
    pub(crate) fn signatures(&self) -> BTreeSet<Signature> {
        self.notes.keys().cloned().collect()
    }

    /// The entry of a signature.
    pub(crate) fn get(&self, signature: &Signature) -> Option<&Note> {
        self.notes.get(signature)
    }

    /// All entries, by signature.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Signature, &Note)> {
        self.notes.iter()
    }
}

/// The link, and the day it expires.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.link)?;
        match self.expires {
            Some(day) => write!(f, ", until {day}"),
            None => Ok(()),
        }
    }
}

/// A date in quotes, or a date of TOML.
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
            assert_eq!(said, format!("line 5: {LOST} expired on {day}; see x:1"));
        }
        assert_eq!(read(&[]).unwrap(), Known::default());
    }

    #[test]
    fn an_invalid_entry_is_refused_with_its_line() {
        let other = "stale-read/stale/out";
        for (findings, says) in [
            (&[(LOST, ""), (LOST, "")][..], "line 7: stable-write-lost/lost/out is listed twice"),
            (&[(LOST, ""), ("bad-luck", "")], "line 7: `bad-luck` is not a signature"),
            (&[(LOST, "expires = \"soon\"")], "line 5: \"soon\" is not a date"),
            (&[(LOST, "expires = \"2027-02-30\"")], "line 5: \"2027-02-30\" is not a date"),
            (&[(LOST, "expires = 2027-03-01T00:00:00Z")], "line 5: 2027-03-01T00:00:00Z is not"),
            (&[(LOST, "expires = 5")], "line 5: 5 is not a date"),
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
