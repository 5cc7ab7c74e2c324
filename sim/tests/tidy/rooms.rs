//! The modules of a folder import each other in one direction only.

use std::collections::{BTreeMap, BTreeSet};

use crate::{File, comment, files};

/// The path of a module in its crate, such as `["world", "judge"]`.
type Module = Vec<String>;

/// The imports of modules: who imports which paths.
type Imports = BTreeMap<Module, BTreeSet<Module>>;

/// The crate of a source file and its module; `None` for a file of another folder than `src`.
fn module(file: &File) -> Option<(&str, Module)> {
    let (krate, path) = file.path.strip_suffix(".rs")?.split_once("/src/")?;
    let mut module: Module = path.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        module.pop();
    }
    Some((krate, module))
}

/// The code of a file without comments and without its unit tests.
fn code(file: &File) -> String {
    let lines = file.text.lines().map(str::trim);
    let code = lines.filter(|line| comment(line).is_none());
    code.take_while(|line| *line != "#[cfg(test)]").collect::<Vec<_>>().join(" ")
}

/// Adds the paths of a use tree, such as `a::{b, c::d}`, that stand below `before`.
fn expand(before: &Module, tree: &str, paths: &mut Vec<Module>) {
    let tree = tree.trim();
    if let Some((head, rest)) = tree.split_once("::")
        && !head.contains(['{', ','])
    {
        let path = [before.as_slice(), &[head.trim().to_owned()]].concat();
        return expand(&path, rest, paths);
    }
    let Some(inner) = tree.strip_prefix('{').and_then(|tree| tree.strip_suffix('}')) else {
        let name = tree.split_whitespace().next().unwrap_or_default();
        return paths.push([before.as_slice(), &[name.to_owned()]].concat());
    };
    let (mut depth, mut from) = (0, 0);
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(before, &inner[from..at], paths);
                from = at + 1;
            }
            _ => {}
        }
    }
    if !inner[from..].trim().is_empty() {
        expand(before, &inner[from..], paths);
    }
}

/// The paths that a module names: in `use` items, and in expressions from `crate` or `super` on.
fn paths(of: &Module, code: &str) -> Vec<Module> {
    let mut paths = Vec::new();
    let words = |c: char| !(c.is_alphanumeric() || c == '_' || c == ':');
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let before = &code[..at];
            if before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let item = before.rsplit(';').next().unwrap_or_default();
            let is_use = item.trim_end().ends_with("use");
            let end = if is_use { code[at..].find(';') } else { code[at..].find(words) };
            expand(&Module::new(), &code[at..end.map_or(code.len(), |end| at + end)], &mut paths);
        }
    }
    let absolute = |path: Module| {
        let ups = path.iter().take_while(|part| *part == "super").count();
        let base = if ups == 0 { &of[..0] } else { &of[..of.len().saturating_sub(ups)] };
        [base, &path[ups.max(1)..]].concat()
    };
    paths.into_iter().map(absolute).collect()
}

/// The cycles in the imports between the children of a folder, as arrows.
fn cycles(folder: &Module, imports: &Imports) -> Option<String> {
    let deep = folder.len();
    let child = |path: &Module| path.starts_with(folder).then(|| path.get(deep).cloned()).flatten();
    let children: BTreeSet<String> = imports.keys().filter_map(child).collect();
    let mut arrows: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (module, paths) in imports {
        let Some(from) = child(module).and_then(|from| children.get(&from)) else { continue };
        let to = paths.iter().filter_map(child).filter(|to| children.contains(to) && to != from);
        arrows.entry(from).or_default().extend(to);
    }
    // Children that import no remaining child, or that no remaining child imports, lie on no cycle.
    loop {
        let many = arrows.len();
        let left: BTreeSet<String> = arrows.keys().map(|&from| from.to_owned()).collect();
        let used: BTreeSet<String> = arrows.values().flatten().cloned().collect();
        arrows.retain(|from, to| {
            to.retain(|to| left.contains(to));
            !to.is_empty() && used.contains(*from)
        });
        if arrows.len() == many {
            break;
        }
    }
    let said = arrows.iter().map(|(from, to)| {
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        format!("{from} -> {}", to.join(", "))
    });
    let said: Vec<String> = said.collect();
    (!said.is_empty()).then(|| said.join("; "))
}

#[test]
fn modules_of_a_folder_have_no_import_cycle() {
    let files = files();
    let mut crates: BTreeMap<&str, Imports> = BTreeMap::new();
    for file in &files {
        let Some((krate, module)) = module(file) else { continue };
        let paths = paths(&module, &code(file));
        crates.entry(krate).or_default().entry(module).or_default().extend(paths);
    }
    let mut found = Vec::new();
    let mut arrows = 0;
    for (krate, imports) in &crates {
        let folders: BTreeSet<Module> = imports
            .keys()
            .flat_map(|module| (0..module.len()).map(|n| module[..n].to_vec()))
            .collect();
        arrows += imports.values().map(BTreeSet::len).sum::<usize>();
        for folder in folders {
            if let Some(arrows) = cycles(&folder, imports) {
                found.push(format!("{krate}/src/{}: {arrows}", folder.join("/")));
            }
        }
    }
    assert!(crates.len() >= 4 && arrows > 1000, "{arrows} imports in {} crates", crates.len());
    crate::at_most(0, &found, "import cycles");
}
