//! Relative links lead to a file, and to a heading in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use crate::{File, at_most, comment, files, root};

/// The targets of links in a file, each with its line.
fn links(file: &File) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    let mut fenced = false;
    for (number, line) in file.lines() {
        let Some(text) = (if file.is("md") { Some(line) } else { comment(line) }) else { continue };
        fenced ^= text.starts_with("```");
        if fenced {
            continue;
        }
        let inline = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        links.extend(inline.map(|target| (number, target)));
        if let Some((_, target)) = text.split_once("]: ").filter(|_| text.starts_with('[')) {
            links.push((number, target));
        }
    }
    // In rustdoc most targets are items.
    let of_files = |target: &str| target.contains('/') || target.contains(".md");
    links.retain(|(_, target)| !target.contains("://") && !target.contains("::"));
    links.retain(|(_, target)| file.is("md") || of_files(target));
    links
}

/// The names that links to the headings of a Markdown text have.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase();
        heading.chars().filter(kept).collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// A path without `..`, relative to the repository.
fn resolved(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut so_far, component| {
        match component {
            Component::ParentDir => drop(so_far.pop()),
            other => so_far.push(other),
        }
        so_far
    })
}

#[test]
fn no_link_is_dead() {
    let files = files();
    let texts: BTreeMap<&str, &str> =
        files.iter().map(|file| (file.path.as_str(), file.text.as_str())).collect();
    let mut dead = Vec::new();
    let mut checked = 0;
    for file in files.iter().filter(|file| !file.is("trace")) {
        for (number, link) in links(file) {
            checked += 1;
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            let beside = Path::new(&file.path).parent().expect("a file lies in a folder");
            let path = match target {
                "" => PathBuf::from(&file.path),
                _ => resolved(&beside.join(target)),
            };
            let text = path.to_str().and_then(|path| texts.get(path));
            let leads = root().join(&path).exists()
                && (anchor.is_empty() || text.is_some_and(|text| anchors(text).contains(anchor)));
            if !leads {
                dead.push(format!("{}:{number} links to {link}", file.path));
            }
        }
    }
    assert!(checked > 20, "only {checked} links were found");
    at_most(0, &dead, "dead links");
}
