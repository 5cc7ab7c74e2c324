//! Comments are narrow, and their sentences have a subject, a verb and an object.

use crate::{at_most, comment, files};

/// Most comment lines over [`WIDTH`] columns.
const MOST_WIDE: usize = 0;
/// Most nominal sentences and pronouns for people, together, per 1,000 lines of prose.
const MOST_FOREIGN_PER_MILLE: usize = 2;
/// Widest comment line.
const WIDTH: usize = 100;

#[test]
fn comments_are_at_most_100_columns_wide() {
    let mut wide = Vec::new();
    for file in files().iter().filter(|file| file.is("rs")) {
        for (number, line) in file.lines() {
            let columns = line.chars().count();
            if comment(line).is_some() && columns > WIDTH {
                wide.push(format!("{}:{number} has {columns} columns", file.path));
            }
        }
    }
    at_most(MOST_WIDE, &wide, "comment lines are too wide");
}

/// A word without the marks around it.
fn bare(word: &str) -> &str {
    word.trim_matches(|c: char| !c.is_alphanumeric())
}

fn ends_sentence(word: &str) -> bool {
    word.trim_end_matches(['"', '*', ')']).ends_with(['.', '!', '?', ';', ':'])
}

/// Where a paragraph has a sentence such as "What x does is y" or a pronoun for people.
fn foreign(paragraph: &[(usize, &str)]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for sentence in paragraph.split_inclusive(|(_, word)| ends_sentence(word)) {
        let (Some((number, first)), Some((_, last))) = (sentence.first(), sentence.last()) else {
            continue;
        };
        let verb =
            |(_, word): &(usize, &str)| ["is", "are", "was", "says", "does"].contains(&bare(word));
        let nominal = ["What", "Which", "Who"].contains(&bare(first));
        if nominal && !last.contains('?') && sentence[1..].iter().any(verb) {
            let start: Vec<&str> = sentence.iter().take(6).map(|(_, word)| *word).collect();
            found.push((*number, start.join(" ")));
        }
    }
    let people = ["nobody", "somebody", "everybody", "whoever"];
    for (number, word) in paragraph {
        if people.contains(&bare(word).to_lowercase().as_str()) {
            found.push((*number, (*word).to_owned()));
        }
    }
    found
}

#[test]
fn comments_and_pages_are_plain_english() {
    let mut found = Vec::new();
    let mut lines = 0;
    for file in files().iter().filter(|file| !file.is("trace")) {
        lines += file.prose_lines();
        for (number, words) in file.prose().iter().flat_map(|paragraph| foreign(paragraph)) {
            found.push(format!("{}:{number} {words}", file.path));
        }
    }
    let most = MOST_FOREIGN_PER_MILLE * lines / 1000;
    at_most(most, &found, &format!("foreign sentences and pronouns in {lines} lines of prose"));
}

#[test]
fn the_pattern_tells_nominal_sentences_from_others() {
    let count = |text: &str| {
        let words: Vec<(usize, &str)> = text.split(' ').map(|word| (1, word)).collect();
        foreign(&words).len()
    };
    assert_eq!(count("What the disk can do is said here."), 1);
    assert_eq!(count("It ends. Who asks is answered; whoever waits, too."), 2);
    assert_eq!(count("What is lost? Which flush. The list says which it is."), 0);
    assert_eq!(count("Nobody waits, for somebody is awake."), 2);
}
