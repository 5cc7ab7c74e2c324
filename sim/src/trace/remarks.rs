//! Remarks in a trace file, which a rewrite of the file keeps.
//!
//! A remark, or an empty line, belongs to the line below it. Header lines are identified by their
//! first word. Actions are matched in order, by a longest common subsequence: a remark above a
//! removed action moves down to the next action that is still there, or to `end`.

use super::file::Trace;
use crate::world::action::Action;

/// The text of the trace `now`, with the remarks of `before`, the text of the trace `was`.
pub(crate) fn with_remarks_of(before: &str, was: &Trace, now: &Trace) -> String {
    let text = now.to_string();
    let mut remarks = Remarks::of(before, was.actions.len());
    let places = places(was, now);
    let mut out = String::with_capacity(text.len() + before.len());
    let mut action = None;
    for line in text.lines() {
        match action {
            None => remarks.take(&mut out, |place| *place == Place::Header(key(line).to_owned())),
            Some(nth) => remarks.take(&mut out, |place| match place {
                // A remark of a header line that is gone.
                Place::Header(_) => true,
                Place::Action(old) => places[*old] <= nth,
                Place::After => false,
            }),
        }
        out += line;
        out.push('\n');
        action = match action {
            Some(nth) => Some(nth + 1),
            None if key(line) == "events" => Some(0),
            None => None,
        };
    }
    remarks.take(&mut out, |_| true);
    out
}

fn key(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

/// For each old action, and for the end after them, the index among the new ones: of the same
/// action or, if it is gone, of the next one that is still there.
fn places(was: &Trace, now: &Trace) -> Vec<usize> {
    let (old, new) = (&was.actions[..], &now.actions[..]);
    let alike = |(one, two): &(&Action, &Action)| one == two;
    let head = old.iter().zip(new).take_while(alike).count();
    let (old, new) = (&old[head..], &new[head..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(alike).count();
    let (old, new) = (&old[..old.len() - tail], &new[..new.len() - tail]);
    let mut places: Vec<usize> = (0..head).collect();
    let mut next = head + new.len();
    let middle = matches(old, new);
    let mut below: Vec<usize> = middle
        .into_iter()
        .rev()
        .map(|at| {
            next = at.map_or(next, |at| head + at);
            next
        })
        .collect();
    below.reverse();
    places.extend(below);
    places.extend(head + new.len()..=head + new.len() + tail);
    places
}

/// A longest common subsequence: for each old action, its index among the new ones if it is in it.
fn matches(old: &[Action], new: &[Action]) -> Vec<Option<usize>> {
    let mut found = vec![None; old.len()];
    if old.len().saturating_mul(new.len()) > MOST_WORK {
        return found;
    }
    // The number of matches from these two indices on.
    let width = new.len() + 1;
    let mut most = vec![0u32; (old.len() + 1) * width];
    for one in (0..old.len()).rev() {
        for two in (0..new.len()).rev() {
            most[one * width + two] = match old[one] == new[two] {
                true => most[(one + 1) * width + two + 1] + 1,
                false => most[(one + 1) * width + two].max(most[one * width + two + 1]),
            };
        }
    }
    let (mut one, mut two) = (0, 0);
    while one < old.len() && two < new.len() {
        if old[one] == new[two] {
            found[one] = Some(two);
            (one, two) = (one + 1, two + 1);
        } else if most[(one + 1) * width + two] >= most[one * width + two + 1] {
            one += 1;
        } else {
            two += 1;
        }
    }
    found
}

/// The maximum number of comparisons. Beyond it no action in the middle counts as matched.
const MOST_WORK: usize = 1 << 22;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Above the header line with this first word.
    Header(String),
    /// Above the action of this index, or above the end.
    Action(usize),
    /// After the end.
    After,
}

/// Remarks and empty lines in order, each with its place.
struct Remarks<'a>(Vec<(Place, &'a str)>);

impl<'a> Remarks<'a> {
    fn of(text: &'a str, actions: usize) -> Remarks<'a> {
        let mut all = Vec::new();
        let mut waiting: Vec<&str> = Vec::new();
        let mut action = None;
        for line in text.lines() {
            let words = line.trim();
            if words.is_empty() || words.starts_with('#') {
                waiting.push(line);
                continue;
            }
            let place = match action {
                None => Place::Header(key(words).to_owned()),
                Some(nth) => Place::Action(nth),
            };
            all.extend(waiting.drain(..).map(|remark| (place.clone(), remark)));
            action = match action {
                Some(nth) => Some(nth + 1),
                None if key(words) == "events" => Some(0),
                None => None,
            };
        }
        // A file of an older format has no line at its end.
        let ended = action.is_some_and(|seen| seen > actions);
        let place = if ended { Place::After } else { Place::Action(actions) };
        all.extend(waiting.into_iter().map(|remark| (place.clone(), remark)));
        Remarks(all)
    }

    /// Writes and removes the remarks whose place is `here`.
    fn take(&mut self, out: &mut String, here: impl Fn(&Place) -> bool) {
        self.0.retain(|(place, remark)| {
            let is_here = here(place);
            if is_here {
                out.push_str(remark);
                out.push('\n');
            }
            !is_here
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = include_str!("../../../traces/0001-early-flush.trace");

    /// The trace, with a remark above every line except the first, and one after the last.
    fn remarked() -> String {
        let mut lines = TEXT.lines();
        let first = lines.next().expect("a first line");
        let rest = lines.map(|line| format!("# {line}\n\n{line}\n"));
        format!("{first}\n{}# the end\n", rest.collect::<String>())
    }

    #[test]
    fn every_remark_stays_above_its_line() {
        let text = remarked();
        let trace: Trace = text.parse().expect("a trace");
        let again = with_remarks_of(&text, &trace, &trace);
        let marks = again.lines().filter(|line| line.starts_with('#')).count();
        assert_eq!(marks, text.lines().filter(|line| line.starts_with('#')).count());
        for (mark, line) in again.lines().zip(again.lines().skip(2)) {
            if let Some(above) = mark.strip_prefix("# ") {
                // The format of the first line and the spaces of the others may be new.
                assert_eq!(key(above), key(line), "{again}");
            }
        }
        assert!(again.ends_with("end\n# the end\n"), "{again}");
        let twice = with_remarks_of(&again, &trace, &trace);
        assert_eq!(twice, again, "a rewritten file stays the same");
    }

    #[test]
    fn no_remark_is_lost_with_the_action_below_it() {
        let text = remarked();
        let was: Trace = text.parse().expect("a trace");
        for gone in 0..was.actions.len() {
            let mut now = was.clone();
            now.actions.remove(gone);
            let again = with_remarks_of(&text, &was, &now);
            let remarks = again.match_indices("# ");
            let header = remarks.clone().count() - was.actions.len() - 2;
            let (at, _) = remarks.clone().nth(header + gone).expect("its remark is there");
            let below = again[at..].lines().find(|line| !line.is_empty() && !line.starts_with('#'));
            let next = was.actions.get(gone + 1).map_or("end".to_owned(), ToString::to_string);
            assert_eq!(below, Some(&*next), "{again}");
        }
    }
}
