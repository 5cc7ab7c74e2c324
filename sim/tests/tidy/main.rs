//! The text of the repository: citations and links lead somewhere, comments are plain English, and
//! modules import each other in one direction.
//!
//! Citations and links are strict. Width, sentences and names have ceilings at the count of today,
//! which may only be lowered: to 0, to 2 per 1,000 lines, and to 0. Each check lists its places.

mod citations;
mod english;
mod links;
mod names;
mod rooms;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the repository.
struct File {
    /// Relative to the repository, with `/`.
    path: String,
    text: String,
}

impl File {
    fn is(&self, extension: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, ending)| ending == extension)
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().zip(1..).map(|(line, number)| (number, line))
    }

    /// Its prose as paragraphs of words, each with the number of its line.
    fn prose(&self) -> Vec<Vec<(usize, &str)>> {
        let mut paragraphs = vec![Vec::new()];
        let mut fenced = false;
        for (number, line) in self.lines() {
            let text = if self.is("md") { Some(line.trim()) } else { comment(line) };
            let text = text.unwrap_or_default();
            let fence = text.starts_with("```");
            fenced ^= fence;
            if text.is_empty() || fence || text.starts_with(['-', '#', '|', '*']) {
                paragraphs.push(Vec::new());
            }
            if let (false, false, Some(paragraph)) = (fenced, fence, paragraphs.last_mut()) {
                paragraph.extend(text.split_whitespace().map(|word| (number, word)));
            }
        }
        paragraphs
    }

    /// How many lines of prose it has.
    fn prose_lines(&self) -> usize {
        let numbers = self.prose().into_iter().flatten().map(|(number, _)| number);
        numbers.collect::<BTreeSet<usize>>().len()
    }
}

/// The text of a comment that has a line of its own.
fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']).trim())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every Rust, Markdown and trace file under version control.
fn files() -> Vec<File> {
    let mut files = Vec::new();
    collect(&root(), "", &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 300, "only {} files were found", files.len());
    files
}

fn collect(dir: &Path, at: &str, files: &mut Vec<File>) {
    for entry in fs::read_dir(dir).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("names are text");
        let path = if at.is_empty() { name.clone() } else { format!("{at}/{name}") };
        let ignored = name.starts_with('.') || name == "target" || path == "out";
        if entry.file_type().expect("a type").is_dir() {
            if !ignored {
                collect(&entry.path(), &path, files);
            }
        } else if [".rs", ".md", ".trace"].iter().any(|ending| name.ends_with(ending)) {
            // Some corpora hold traces that are no text.
            let bytes = fs::read(entry.path()).expect("a file");
            files.push(File { path, text: String::from_utf8_lossy(&bytes).into_owned() });
        }
    }
}

/// Fails with all of `found` if there are more than `most`.
fn at_most(most: usize, found: &[String], subject: &str) {
    let all = found.join("\n  ");
    assert!(found.len() <= most, "{} {subject}, and at most {most}:\n  {all}", found.len());
}
