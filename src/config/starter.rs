//! Starter: a commented configuration made from the table, and a project to start from. Never overwrites a file.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::keys::{Key, Kind, Preset};
use super::raw::DEFAULT_FILE;
use super::table::TABLE;

/// A file of the starter project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StarterFile {
    /// Its path, relative to the project.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// Why the starter files were not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// Files are there already; nothing was written.
    #[error("{} already there, nothing was written", list(.0))]
    Exists(Vec<PathBuf>),
    /// A file cannot be written; `written` stay.
    #[error("cannot write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The files that were written before it.
        written: Vec<PathBuf>,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    format!(
        "{} {}",
        names.join(", "),
        if names.len() == 1 { "is" } else { "are" }
    )
}

/// Returns the commented configuration file: every key with its meaning, its variable and its default, commented out.
#[must_use]
pub fn starter_config() -> StarterFile {
    let mut text = String::from(
        "# Configuration of Celeriac. Every key is commented out and shows its default or an example.\n\
         # Strongest first: flag, CELERIAC_... variable, this file, CELERY_BROKER_URL, REDIS_URL, default.\n\
         # `celeriac config check` names every mistake, `celeriac config show` where each value comes from.\n\
         # Times are written like \"12s\" or \"1m 30s\", sizes like \"512KiB\" or \"1MiB\".\n",
    );
    let mut section = "";
    let tables = |key: &&Key| !matches!(key.kind, Kind::Routes | Kind::Commands);
    for key in TABLE.iter().filter(tables) {
        let (parent, leaf) = key.path.rsplit_once('.').unwrap_or(("", key.path));
        if parent != section {
            section = parent;
            text.push_str(&heading(parent));
        }
        text.push_str(&comment(key));
        text.push_str(&format!("#{leaf} = {}\n", example(key)));
    }
    for key in TABLE.iter().filter(|key| key.kind == Kind::Routes) {
        let (task, queue) = key
            .example
            .split_once('=')
            .unwrap_or((key.example, "default"));
        text.push_str(&comment(key));
        text.push_str(&format!(
            "#[[{}]]\n#task = \"{task}\"\n#queue = \"{queue}\"\n",
            key.path
        ));
    }
    for key in TABLE.iter().filter(|key| key.kind == Kind::Commands) {
        let (name, program) = key.example.split_once('=').unwrap_or((key.example, ""));
        text.push_str(&comment(key));
        text.push_str(&format!(
            "#[[{}]]\n#name = \"{name}\"\n#program = \"{program}\"\n#args = [\"--customer={{{{customer}}}}\"]\n",
            key.path
        ));
    }
    StarterFile {
        path: DEFAULT_FILE.into(),
        text,
    }
}

fn heading(section: &str) -> String {
    let (doc, name) = match section {
        "queues.*" => (
            "\n# A queue of your own; default, billing, kyb and notifications are there without a section.\n",
            "queues.reports",
        ),
        "tasks.*" => (
            "\n# Overrides what one kind of task says about itself. A name with dots takes quotes.\n",
            "tasks.\"billing.charge\"",
        ),
        "breakers.*" => (
            "\n# Overrides what the program says about one circuit breaker: of a kind of task, or of what tasks depend on.\n",
            "breakers.stripe",
        ),
        other => ("", other),
    };
    match doc {
        "" => format!("\n[{name}]\n"),
        _ => format!("{doc}#[{name}]\n"),
    }
}

fn comment(key: &Key) -> String {
    let default = match key.preset {
        Preset::Fixed(_) => String::new(),
        Preset::Unset(rule) | Preset::Derived(rule, _) => format!(" Default: {rule}."),
    };
    let mut text = String::from("\n");
    let doc = format!("{}{default} ({})", key.doc, key.env());
    let mut line = String::from("#");
    for word in doc.split_whitespace() {
        if line.len() + word.len() > 110 {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text + &line + "\n"
}

/// Returns the example as TOML.
fn example(key: &Key) -> String {
    match key.kind {
        Kind::Count(..)
        | Kind::Share
        | Kind::Switch
        | Kind::Queues
        | Kind::Hosts
        | Kind::Routes
        | Kind::Commands => key.example.to_owned(),
        _ => format!("{:?}", key.example),
    }
}

/// Returns the files of a project to start from: manifest, program, configuration.
///
/// `name` becomes the package's name, with `-` for whatever a package name cannot hold.
#[must_use]
pub fn starter_project(name: &str) -> Vec<StarterFile> {
    let manifest = include_str!("starter/Cargo.toml.txt")
        .replace("{name}", &package_name(name))
        .replace("{version}", env!("CARGO_PKG_VERSION"));
    let file = |path: &str, text: String| StarterFile {
        path: path.into(),
        text,
    };
    vec![
        file("Cargo.toml", manifest),
        file("src/main.rs", include_str!("starter/main.rs").to_owned()),
        starter_config(),
    ]
}

fn package_name(name: &str) -> String {
    let plain = |c: char| match c.is_ascii_alphanumeric() || c == '_' {
        true => c.to_ascii_lowercase(),
        false => '-',
    };
    let name: String = name.chars().map(plain).take(64).collect();
    match name.trim_matches('-') {
        "" => "worker".into(),
        name if name.starts_with(|c: char| c.is_ascii_digit()) => format!("worker-{name}"),
        name => name.to_owned(),
    }
}

/// Writes files below `dir` and returns their paths. Writes none when one of them is there already.
///
/// # Errors
/// [`InitError::Exists`] names every file that is there; [`InitError::Io`] the one that cannot be written.
pub fn write_new(dir: &Path, files: &[StarterFile]) -> Result<Vec<PathBuf>, InitError> {
    let paths: Vec<PathBuf> = files.iter().map(|file| dir.join(&file.path)).collect();
    let there: Vec<PathBuf> = paths
        .iter()
        .filter(|path| path.symlink_metadata().is_ok())
        .cloned()
        .collect();
    if !there.is_empty() {
        return Err(InitError::Exists(there));
    }
    let mut written = Vec::new();
    for (path, file) in paths.into_iter().zip(files) {
        match write_one(&path, &file.text) {
            Ok(()) => written.push(path),
            // Somebody else was faster: their file stays.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && written.is_empty() => {
                return Err(InitError::Exists(vec![path]));
            }
            Err(source) => {
                return Err(InitError::Io {
                    path,
                    written,
                    source,
                });
            }
        }
    }
    Ok(written)
}

fn write_one(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())
}
