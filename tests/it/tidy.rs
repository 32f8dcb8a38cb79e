//! Rules about the source itself that no compiler checks.

use std::fs;
use std::path::{Path, PathBuf};

/// Under which path which text must not stand, and what to use instead. Tests below `#[cfg(test)]` count too.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    (
        "actors/src",
        "std::env",
        "the environment is read in `src/config/raw.rs` alone",
    ),
    ("actors/src", "diesel", "the domain knows no database"),
    ("actors/src", "redis::", "the domain knows no broker"),
    (
        "actors/src",
        ".do_send(",
        "use `send` or `try_send`: `do_send` drops silently",
    ),
    (
        "actors/src",
        "SyncArbiter",
        "use `BlockingPool`: its threads survive a panic",
    ),
    ("actors/src", "anyhow", "errors of the domain are types"),
    (
        "src/sqlite",
        "crate::store",
        "adapters never import each other",
    ),
    (
        "src/sqlite",
        "crate::config",
        "adapters never import each other",
    ),
    (
        "src/store",
        "crate::sqlite",
        "adapters never import each other",
    ),
    ("src/store", "anyhow", "errors of the store are types"),
    ("src/sqlite", "anyhow", "errors of the broker are types"),
    ("src/config", "anyhow", "mistakes are data"),
    (
        "src/web",
        "crate::cli::",
        "what both need is in `src/admin`",
    ),
    (
        "src/admin",
        "crate::cli::",
        "what both need is in `src/admin`",
    ),
    (
        "src/look",
        "crate::cli::",
        "what is read from outside knows no command",
    ),
    (
        "src/admin",
        "actix_web",
        "what operators do knows no protocol",
    ),
    (
        "src",
        "process::exit",
        "return an exit code: destructors must run",
    ),
    ("src", "unbounded_channel", "every buffer has a bound"),
    (
        "actors/src",
        "unbounded_channel",
        "every buffer has a bound",
    ),
];

/// Files that may do what others must not.
const EXEMPT: &[(&str, &str)] = &[
    // A child must not run the `main` of its program; the task is there to see what becomes of its process.
    ("src/isolation/entry.rs", "process::exit"),
    ("src/cli/demo_tasks/rough.rs", "process::exit"),
    // Its tests pack tasks that a program knows.
    ("src/admin/enqueue/order.rs", "crate::cli::"),
];

/// Crates that the domain must not name in its manifest.
const FOREIGN: &[&str] = &[
    "diesel",
    "redis",
    "actix-web",
    "clap",
    "reqwest",
    "rusqlite",
    "hyper",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all_sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    sources_below(&root().join(folder), &mut found);
    found.sort();
    found
}

#[test]
fn no_forbidden_text_stands_in_the_source() {
    let mut found = Vec::new();
    for (folder, text, instead) in FORBIDDEN {
        for path in all_sources(folder) {
            let source = fs::read_to_string(&path).unwrap();
            if EXEMPT
                .iter()
                .any(|(file, word)| path.ends_with(file) && text == word)
            {
                continue;
            }
            for (number, line) in source.lines().enumerate() {
                let code = line.trim_start();
                if !code.starts_with("//") && code.contains(text) {
                    found.push(format!(
                        "{}:{}: `{text}`: {instead}",
                        path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_source_file_says_what_it_is() {
    for folder in ["actors/src", "src", "examples", "benches", "tests/it"] {
        for path in all_sources(folder) {
            let source = fs::read_to_string(&path).unwrap();
            let generated = source.starts_with("// @generated");
            assert!(
                generated || source.starts_with("//!"),
                "{} has no `//!` header",
                path.display()
            );
        }
    }
}

#[test]
fn no_test_file_is_forgotten() {
    let main = fs::read_to_string(root().join("tests/it/main.rs")).unwrap();
    for path in fs::read_dir(root().join("tests/it"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let is_module =
            path.extension().is_some_and(|extension| extension == "rs") && name != "main";
        let declared = main.contains(&format!("mod {name};"));
        assert!(
            !is_module || declared,
            "tests/it/main.rs does not declare `mod {name};`"
        );
    }
}

#[test]
fn every_promise_of_the_readme_names_something_that_exists() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let named: Vec<&str> = readme
        .split(['`', '(', ')', ' '])
        .filter(|word| {
            [
                "tests/",
                "actors/",
                "docs/",
                "examples",
                "scripts/",
                "ARCHITECTURE",
                "CHANGELOG",
            ]
            .iter()
            .any(|start| word.starts_with(start))
        })
        .collect();
    assert!(
        named.len() > 8,
        "the README names hardly anything: {named:?}"
    );
    for path in named {
        assert!(
            root().join(path).exists(),
            "the README names {path}, which does not exist"
        );
    }
    let suite = root().join("actors/src/testkit/conformance");
    for line in readme.lines().filter(|line| line.starts_with('|')) {
        for case in line.split("conformance ").skip(1).flat_map(|rest| {
            let words = rest.split('|').next().unwrap_or_default();
            words
                .split(',')
                .map(str::trim)
                .take_while(|w| w.starts_with('`') && !w.contains('/'))
        }) {
            let file = suite.join(format!("{}.rs", case.trim_matches(['`', ' '])));
            assert!(
                file.exists(),
                "the README names the conformance cases {case}: no {}",
                file.display()
            );
        }
    }
}

#[test]
fn the_domain_names_no_foreign_crate() {
    let manifest = fs::read_to_string(root().join("actors/Cargo.toml")).unwrap();
    for name in FOREIGN {
        let named = manifest.lines().any(|line| line.starts_with(name));
        assert!(
            !named,
            "actors/Cargo.toml names `{name}`: adapters belong into `src/`"
        );
    }
}
