//! Names that were replaced do not come back.

use crate::{File, at_most, files};

/// Most places in `src` folders that have a retired name.
const MOST_RETIRED: usize = 0;

/// Names that no word of an identifier or of a path in `src` may have.
const RETIRED_WORDS: &[&str] = &[
    "bell",
    "brush",
    "dance",
    "deaf",
    "demon",
    "fruitless",
    "gatehouse",
    "gauge",
    "helm",
    "inevitable",
    "linger",
    "mischief",
    "outlive",
    "pilot",
    "spot",
    "station",
    "stirred",
    "twist",
    "wakes",
    "weather",
    "whim",
];

/// Identifiers in `src` that were replaced, whole.
const RETIRED_IDENTIFIERS: &[&str] = &[
    "Ask",
    "Confused",
    "Dangling",
    "Nonsense",
    "PATIENCE",
    "QueueLife",
    "Ragged",
    "carry_on",
    "doubled",
    "jumped",
    "lose_faith",
    "memory_work",
    "provoked",
];

/// Files and folders that were replaced, as the ends of their paths without an extension.
const RETIRED_PATHS: &[&str] = &[
    "device/lives",
    "explore/print",
    "explore/seen",
    "explore/unit",
    "host/flight",
    "host/shrunk",
    "impl/src/gate",
    "model/src/lives",
    "queue/again",
    "queue/drain",
    "sim/src/cuts",
    "sim/src/story",
    "sim/src/wrong",
    "vhost_user/table",
];

/// The words of an identifier, in lower case: split at underscores and before capitals.
fn words(identifier: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for c in identifier.chars() {
        if c == '_' || (c.is_uppercase() && after_lower) {
            words.push(String::new());
        }
        after_lower = c.is_lowercase() || c.is_ascii_digit();
        if let Some(word) = words.last_mut().filter(|_| c != '_') {
            word.extend(c.to_lowercase());
        }
    }
    words
}

/// The code of a line, without its strings and comments as far as they end on it.
fn code(line: &str) -> String {
    let parts = line.split('"').step_by(2);
    let code = parts.collect::<Vec<&str>>().join(" ");
    code.split("//").next().unwrap_or_default().to_owned()
}

fn is_retired(identifier: &str) -> bool {
    RETIRED_IDENTIFIERS.contains(&identifier)
        || words(identifier).iter().any(|word| RETIRED_WORDS.contains(&word.as_str()))
}

#[test]
fn no_retired_name_is_back() {
    let in_src = |file: &&File| file.is("rs") && file.path.contains("/src/");
    let mut found = Vec::new();
    for file in files().iter().filter(in_src) {
        let stem = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let folders: Vec<&str> = stem.split('/').collect();
        let replaced = |end: usize| {
            let path = format!("/{}", folders[..end].join("/"));
            RETIRED_PATHS.iter().any(|retired| path.ends_with(&format!("/{retired}")))
        };
        let renamed = folders.iter().any(|folder| is_retired(folder));
        if renamed || (1..=folders.len()).any(replaced) {
            found.push(file.path.clone());
        }
        for (number, line) in file.lines() {
            let code = code(line);
            let names = code.split(|c: char| !c.is_alphanumeric() && c != '_');
            for name in names.filter(|name| is_retired(name)) {
                found.push(format!("{}:{number} {name}", file.path));
            }
        }
    }
    at_most(MOST_RETIRED, &found, "places have a retired name");
}
