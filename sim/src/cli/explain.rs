//! `powerfail explain`: the entry of a requirement, of a row of the stability table or of a rule.
//!
//! The texts are those of [`powerfail_model::law`] and of [`Rule`]; this file looks them up, strips
//! their Markdown and wraps them. The end of a story's last line is a valid argument, with its
//! parentheses.

use powerfail_model::Rule;
use powerfail_model::law::{self, Requirement, RowEntry};
use strsim::damerau_levenshtein;

use super::{PASSED, say};
use crate::report::broken;

/// The width of the output in columns, on any terminal, because it is prose.
const WIDTH: usize = 100;
/// The longest word, in bytes, for which similar names are suggested.
const LONGEST: usize = 64;
/// The maximum number of suggested names.
const SUGGESTED: usize = 3;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// A requirement (`BLK-D-31`), a row (`G` or `row:G`) or a rule (`stable-write-lost`), in any
    /// case; lists all of them if none is given.
    #[arg(value_name = "ID|ROW|RULE")]
    names: Vec<String>,
}

/// Prints the entries, or none if a name is unknown.
///
/// # Errors
/// One line: a name is unknown. It suggests similar ones.
pub(super) fn run(args: &ExplainArgs) -> Result<u8, String> {
    if args.names.is_empty() {
        say::out(list());
        return Ok(PASSED);
    }
    let subjects = words(&args.names).into_iter().map(|word| Subject::named(&word));
    let subjects = subjects.collect::<Result<Vec<_>, _>>()?;
    if subjects.is_empty() {
        return Err("no name is given; `powerfail explain` lists all".to_owned());
    }
    let entries: Vec<String> = subjects.into_iter().map(Subject::entry).collect();
    say::out(entries.join("\n"));
    Ok(PASSED)
}

/// The names in the arguments: `(BLK-D-31, stable-write-lost)` has two, and `row G` is one.
fn words(typed: &[String]) -> Vec<String> {
    let typed = typed.join(" ");
    let split = typed.split(|c: char| c.is_whitespace() || "(),".contains(c));
    let mut words: Vec<String> = Vec::new();
    for word in split.filter(|word| !word.is_empty()) {
        match words.last_mut() {
            Some(last) if last.eq_ignore_ascii_case("row") => *last = format!("row:{word}"),
            _ => words.push(word.to_owned()),
        }
    }
    words
}

/// A subject with an entry.
enum Subject {
    Requirement(Requirement),
    Row(RowEntry),
    Rule(Rule),
}

impl Subject {
    /// The subject with that name, in any case.
    fn named(typed: &str) -> Result<Subject, String> {
        let word = &typed.to_lowercase();
        let mut letters = word.strip_prefix("row:").unwrap_or(word).chars();
        if let (Some(letter), None) = (letters.next(), letters.next())
            && let Some(row) = law::row(letter)
        {
            return Ok(Subject::Row(row));
        }
        if let Some(requirement) = law::requirement(word) {
            return Ok(Subject::Requirement(requirement));
        }
        Rule::from_name(word).map(Subject::Rule).ok_or_else(|| unknown(typed))
    }

    fn entry(self) -> String {
        let mut page = Page::default();
        match self {
            Subject::Requirement(requirement) => page.requirement(requirement),
            Subject::Row(row) => page.row(&row),
            Subject::Rule(rule) => page.rule(rule),
        }
        page.0
    }
}

fn rules() -> impl Iterator<Item = Rule> {
    Rule::ALL.iter().chain(Rule::OF_PMEM).copied()
}

/// The error line for an unknown name.
fn unknown(typed: &str) -> String {
    let word = &typed.to_lowercase();
    let known = law::requirements().map(|requirement| requirement.id.to_owned());
    let known = known.chain(law::rows().map(|row| format!("row:{}", row.letter)));
    let known = known.chain(rules().map(|rule| rule.name().to_owned()));
    let mut similar: Vec<(usize, String)> = known
        .filter(|_| word.len() <= LONGEST)
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let distance = damerau_levenshtein(word, &lower);
            let close = distance <= 1.max(word.len() / 4);
            let part = word.len() > 3 && lower.contains(word.as_str());
            (close || part).then_some((distance, name))
        })
        .collect();
    similar.sort();
    let similar: Vec<String> =
        similar.into_iter().take(SUGGESTED).map(|(_, name)| format!("`{name}`")).collect();
    let word: String = typed.chars().take(LONGEST).collect();
    let hint = match &similar[..] {
        [] => "`powerfail explain` lists all".to_owned(),
        [name] => format!("{name} is similar"),
        [names @ .., last] => format!("{} and {last} are similar", names.join(", ")),
    };
    format!("there is no requirement, row or rule `{}`; {hint}", word.escape_debug())
}

/// The names of all entries.
fn list() -> String {
    let mut page = Page::default();
    page.line("requirements", "VIRTIO 1.4");
    let mut families: Vec<(&str, Vec<&str>)> = Vec::new();
    for Requirement { id, family, .. } in law::requirements() {
        match families.last_mut() {
            Some((last, ids)) if *last == family => ids.push(id),
            _ => families.push((family, vec![id])),
        }
    }
    for (family, ids) in families {
        page.gap();
        page.paragraph(family, 2);
        page.paragraph(&ids.join(" "), 4);
    }
    page.gap();
    page.line("rows", "of the stability table of writes");
    page.gap();
    page.paragraph(&law::rows().map(|row| row.letter.to_string()).collect::<Vec<_>>().join(" "), 4);
    page.gap();
    page.line("rules", "that a device can break");
    page.gap();
    page.paragraph(&rules().map(Rule::name).collect::<Vec<_>>().join(" "), 4);
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn requirement(&mut self, requirement: Requirement) {
        let Requirement { id, sections, text, family } = requirement;
        let (_, subject) = family.split_once(": ").unwrap_or(("", family));
        self.line(id, &format!("virtio 1.4, {sections}   {subject}"));
        self.gap();
        // An open question, the decision, and where the Literal profile differs.
        let text = text.replace(" Decision: ", "\nDecision: ").replace(" Literal: ", "\nLiteral: ");
        for part in text.lines() {
            self.paragraph(part, 2);
        }
        let broken = rules().filter(|rule| rule.requirement() == id).map(Rule::name);
        let broken: Vec<&str> = broken.collect();
        if !broken.is_empty() {
            self.gap();
            self.paragraph(&format!("rules: {}", broken.join(", ")), 2);
        }
    }

    fn row(&mut self, row: &RowEntry) {
        self.line(&format!("row {}", row.letter), "virtio 1.4, 5.2.6.2   stability of writes");
        self.gap();
        for (heading, cell) in row.cells {
            let heading = plain(heading);
            self.paragraph(&format!("{heading:24}{cell}"), 2);
        }
        self.gap();
        self.paragraph(&row.text.replace('\n', " "), 2);
    }

    fn rule(&mut self, rule: Rule) {
        self.line(rule.name(), &format!("virtio 1.4, {}   rule", rule.clause()));
        self.gap();
        let promise = rule.promise();
        let (first, rest) = promise.split_at(promise.len().min(1));
        self.paragraph(&format!("{}{rest}.", first.to_uppercase()), 2);
        if let Some(requirement) = law::requirement(rule.requirement()) {
            self.gap();
            self.requirement(requirement);
        }
    }

    fn line(&mut self, name: &str, rest: &str) {
        self.paragraph(&format!("{name}   {rest}"), 0);
    }

    fn paragraph(&mut self, text: &str, indent: usize) {
        let text = format!("{:indent$}{}", "", plain(text));
        for line in broken(&text, WIDTH, indent) {
            self.0.push_str(&line);
            self.0.push('\n');
        }
    }

    fn gap(&mut self) {
        self.0.push('\n');
    }
}

/// Markdown without its marks for emphasis, code and links. Link texts are kept.
fn plain(text: &str) -> String {
    let mut left = text.replace("**", "").replace(['`', '*'], "");
    while let Some((before, rest)) = left.split_once('[') {
        let Some((label, after)) = rest.split_once(']') else { break };
        let after = match after.strip_prefix('(').and_then(|target| target.split_once(')')) {
            Some((_, after)) => after,
            None => after,
        };
        left = format!("{before}{label}{after}");
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_story_names_two_subjects() {
        let typed = |text: &str| words(&[text.to_owned()]);
        assert_eq!(typed("(BLK-D-31, stable-write-lost)"), ["BLK-D-31", "stable-write-lost"]);
        assert_eq!(typed("row G"), ["row:G"]);
        assert_eq!(typed(" (, )"), [""; 0]);
    }

    #[test]
    fn marks_go_and_text_stays() {
        assert_eq!(plain("a *b* `c` [d e](f.md#g) **h** [i]."), "a b c d e h i.");
        assert_eq!(plain("open [ stays"), "open [ stays");
    }
}
