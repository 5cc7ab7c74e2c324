//! Every requirement that is cited is defined, and the other way round.

use std::collections::BTreeSet;

use powerfail_model::law;

use crate::{File, at_most, files};

/// The document that defines the requirements.
const REQUIREMENTS: &str = "model/src/REQUIREMENTS.md";

/// The requirement that a word cites, if it has the form of one: capitals and a number, of two
/// digits or more unless the family exists.
fn citation(word: &str) -> Option<&str> {
    let (family, number) = word.rsplit_once('-')?;
    let capitals = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_uppercase());
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let exists = || {
        law::requirements().any(|known| known.id.rsplit_once('-').is_some_and(|(f, _)| f == family))
    };
    let form = digits && family.split('-').all(capitals);
    (form && (number.len() >= 2 || exists())).then_some(word)
}

fn citations(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    file.lines().flat_map(move |(number, line)| {
        let words = line.split(move |c: char| !part_of_word(c));
        words.filter_map(citation).map(move |id| (number, id))
    })
}

#[test]
fn every_cited_requirement_is_defined_and_every_defined_one_is_cited() {
    let defined: BTreeSet<&str> = law::requirements().map(|requirement| requirement.id).collect();
    let files = files();
    let elsewhere = || files.iter().filter(|file| file.path != REQUIREMENTS);
    let mut cited = BTreeSet::new();
    let mut unknown = Vec::new();
    for file in elsewhere() {
        for (number, id) in citations(file) {
            cited.insert(id);
            if !defined.contains(id) {
                unknown.push(format!("{}:{number} cites {id}", file.path));
            }
        }
    }
    at_most(0, &unknown, "citations of no requirement");
    let uncited: Vec<String> = defined.difference(&cited).map(|id| (*id).to_owned()).collect();
    at_most(0, &uncited, "requirements that nothing cites");
}
