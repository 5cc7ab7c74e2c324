//! The law as text: the contract, the requirements and the glossary, and lookups in them.
//!
//! Only these documents state a requirement or a row of the stability table in words;
//! [`requirement`] and [`row`] read the entries out of them. A [`Rule`](crate::Rule) names its
//! requirement.
//!
//! Not here: any decision. The oracle does not read this text.
//!
//! ```
//! use powerfail_model::{Rule, law};
//!
//! let broken = law::requirement(Rule::StableWriteLost.requirement()).unwrap();
//! assert_eq!(broken.sections, "5.2.6.2");
//! assert!(law::row('G').unwrap().text.contains(broken.id));
//! ```

/// The contract of a virtio disk and of a virtio persistent memory.
///
/// [REQUIREMENTS.md]: crate::law::requirement_list
/// [GLOSSARY.md]: crate::law::glossary
#[doc = include_str!("CONTRACT.md")]
pub mod contract {}

/// Every requirement that is cited, with its section of the specification.
///
/// [CONTRACT.md]: crate::law::contract
#[doc = include_str!("REQUIREMENTS.md")]
pub mod requirement_list {}

/// The terms of the contract, the device and the simulator.
///
/// [CONTRACT.md]: crate::law::contract
#[doc = include_str!("GLOSSARY.md")]
pub mod glossary {}

const CONTRACT: &str = include_str!("CONTRACT.md");
const REQUIREMENTS: &str = include_str!("REQUIREMENTS.md");

/// The entry of a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Its identifier, such as `BLK-D-31`.
    pub id: &'static str,
    /// The sections of VIRTIO 1.4 that state it or are silent about it, separated by `, `.
    pub sections: &'static str,
    /// Its demand in one line of Markdown.
    pub text: &'static str,
    /// The heading above it, such as `BLK-D: block device`.
    pub family: &'static str,
}

/// The entry of a row of the stability table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowEntry {
    /// `A` to `H`.
    pub letter: char,
    /// Column heading and cell of each column but the letter's, in order, as Markdown.
    pub cells: [(&'static str, &'static str); 5],
    /// Its explanation: one paragraph of Markdown, with line breaks.
    pub text: &'static str,
}

/// Every requirement, in the order of the document.
pub fn requirements() -> impl Iterator<Item = Requirement> {
    let mut family = "";
    REQUIREMENTS.lines().filter_map(move |line| {
        if let Some(heading) = line.strip_prefix("## ") {
            family = heading;
        }
        let (id, rest) = line.strip_prefix("- **")?.split_once("** (")?;
        let (sections, text) = rest.split_once(") ")?;
        Some(Requirement { id, sections, text, family })
    })
}

/// The requirement with that identifier, in any case of letters.
#[must_use]
pub fn requirement(id: &str) -> Option<Requirement> {
    requirements().find(|requirement| requirement.id.eq_ignore_ascii_case(id))
}

/// Every row of the stability table, in order.
pub fn rows() -> impl Iterator<Item = RowEntry> {
    let mut table = CONTRACT.lines().filter(|line| line.starts_with("| ")).map(cells);
    let headings = table.find(|line| line[0] == "row").unwrap_or_default();
    table.map_while(move |line| {
        let mut letters = line[0].chars();
        let letter = letters.next().filter(|_| letters.next().is_none())?;
        let columns = std::array::from_fn(|column| (headings[column + 1], line[column + 1]));
        Some(RowEntry { letter, cells: columns, text: paragraph(letter)? })
    })
}

/// The row of the stability table with that letter, in any case.
#[must_use]
pub fn row(letter: char) -> Option<RowEntry> {
    rows().find(|row| row.letter.eq_ignore_ascii_case(&letter))
}

/// The first six cells of a line of a Markdown table.
fn cells(line: &'static str) -> [&'static str; 6] {
    let mut cells = line.split('|').skip(1).map(str::trim);
    std::array::from_fn(|_| cells.next().unwrap_or_default())
}

/// The text below the heading of a row.
fn paragraph(letter: char) -> Option<&'static str> {
    let (_, rest) = CONTRACT.split_once(&format!("\n### Row {letter}\n"))?;
    rest.split("\n#").next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rule::Rule;

    #[test]
    fn every_entry_is_read() {
        let entries = REQUIREMENTS.lines().filter(|line| line.starts_with("- ")).count();
        let ids: BTreeSet<&str> = requirements().map(|requirement| requirement.id).collect();
        assert_eq!(requirements().count(), entries);
        assert_eq!(ids.len(), entries, "an identifier is defined twice");
        for entry in requirements() {
            let (family, _) = entry.id.rsplit_once('-').expect("a family and a number");
            let heading = entry.family.split(':').next().expect("a first part");
            assert!(family.starts_with(heading), "{} under {}", entry.id, entry.family);
            assert!(entry.text.ends_with('.') && !entry.sections.is_empty(), "{entry:?}");
        }
    }

    #[test]
    fn the_rows_are_a_to_h() {
        assert_eq!(rows().map(|row| row.letter).collect::<String>(), "ABCDEFGH");
        for row in rows() {
            assert!(row.cells.iter().all(|(name, cell)| !name.is_empty() && !cell.is_empty()));
            assert!(!row.text.contains('#') && row.text.len() > 40, "{row:?}");
        }
    }

    #[test]
    fn each_rule_names_a_section_of_its_requirement() {
        for rule in Rule::ALL.iter().chain(Rule::OF_PMEM) {
            let entry = requirement(rule.requirement());
            let entry = entry.unwrap_or_else(|| panic!("{} is not defined", rule.requirement()));
            let clause = rule.clause().split(' ').next().expect("a section");
            let stated = entry.sections.split(", ").any(|section| section == clause);
            assert!(stated, "{} cites {} of {entry:?}", rule.name(), rule.clause());
        }
    }

    #[test]
    fn a_decision_is_marked_as_one() {
        for entry in requirements() {
            let silent = entry.id.starts_with("AMB-");
            assert_eq!(entry.text.contains(" Decision: "), silent, "{}", entry.id);
        }
    }
}
