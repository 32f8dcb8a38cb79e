//! Raw: everything that was typed, gathered from the process once. The only place that reads the environment.
//!
//! Nothing is judged here but what cannot be passed on: a file that cannot be read, a variable that is not UTF-8.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use super::mistake::{Mistake, Origin};

/// The file that is read when it exists and no other is named.
pub const DEFAULT_FILE: &str = "celeriac.toml";

/// The variable that names another file.
pub const FILE_VARIABLE: &str = "CELERIAC_CONFIG";

/// The largest configuration file that is read.
const MAX_FILE: u64 = 1 << 20;

/// The variables of other software that are understood, each with the key it stands in for, strongest first.
pub(super) const FALLBACKS: [(&str, &str); 3] = [
    ("CELERY_BROKER_URL", "broker"),
    ("REDIS_URL", "broker"),
    ("CELERY_RESULT_BACKEND", "results.url"),
];

/// What the command line says about the configuration: any key by its path, and the file.
#[derive(Clone, Default)]
pub struct Flags {
    /// The file named by `--config`.
    pub file: Option<PathBuf>,
    pub(super) values: BTreeMap<String, String>,
}

impl Flags {
    /// Sets the key at `path`, such as `log.level`, to what was typed.
    ///
    /// An unknown path is no panic but a mistake in the report, so paths may come from users too.
    #[must_use]
    pub fn set(mut self, path: impl Into<String>, typed: impl Into<String>) -> Self {
        self.values.insert(path.into(), typed.into());
        self
    }

    /// Sets the key at `path` when something was typed.
    #[must_use]
    pub fn set_some(self, path: impl Into<String>, typed: Option<impl Into<String>>) -> Self {
        match typed {
            Some(typed) => self.set(path, typed),
            None => self,
        }
    }
}

/// Everything a configuration is made of. Plain values: tests build it by hand, `demo` leaves it empty.
///
/// Holds secrets as typed and is therefore not `Debug`.
#[derive(Clone)]
pub struct Sources {
    /// The file with its text.
    pub file: Option<(PathBuf, String)>,
    /// The variables `CELERIAC_…` and the fallbacks `CELERY_BROKER_URL`, `CELERY_RESULT_BACKEND`, `REDIS_URL`.
    /// Others are ignored, and so are empty ones.
    pub env: BTreeMap<String, String>,
    /// What the command line says.
    pub flags: Flags,
    /// How many cores this process may use.
    pub cores: NonZeroUsize,
    /// The names of the tasks this program knows, so that variables can reach `tasks.NAME` and mistyped names are seen.
    /// Empty when they are not known.
    pub tasks: BTreeSet<String>,
    /// The names of the demo tasks, which a daemon knows when it is told to: not for anything else.
    pub demo_tasks: BTreeSet<String>,
    /// Where programs are looked for that are named without a path, as in the variable `PATH`; `None` when it is not set.
    pub search_path: Option<OsString>,
    /// What went wrong while gathering.
    pub mistakes: Vec<Mistake>,
}

impl Sources {
    /// Creates sources in which nobody says anything, for a machine of `cores`.
    #[must_use]
    pub fn empty(cores: NonZeroUsize) -> Self {
        Self {
            file: None,
            env: BTreeMap::new(),
            flags: Flags::default(),
            cores,
            tasks: BTreeSet::new(),
            demo_tasks: BTreeSet::new(),
            search_path: None,
            mistakes: Vec::new(),
        }
    }

    /// Gathers the sources of this process: its environment, the file, and `flags`.
    #[must_use]
    pub fn of_process(flags: Flags) -> Self {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let mut sources = Self::empty(cores);
        sources.flags = flags;
        sources.search_path = std::env::var_os("PATH");
        sources.read_env(std::env::vars_os());
        sources.read_file(Path::new(DEFAULT_FILE));
        sources
    }

    fn read_env(
        &mut self,
        variables: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    ) {
        for (name, value) in variables {
            let name = name.to_string_lossy().into_owned();
            let ours = name.starts_with("CELERIAC_");
            if !ours && !FALLBACKS.iter().any(|(fallback, _)| *fallback == name) {
                continue;
            }
            match value.into_string() {
                Ok(value) => {
                    self.env.insert(name, value);
                }
                Err(_) => self.mistakes.push(
                    Mistake::error("", Origin::Env { name }, "found bytes that are not UTF-8")
                        .allowed("text in UTF-8"),
                ),
            }
        }
    }

    /// Reads the file that a flag, the environment or nobody names; only `default` may be missing.
    fn read_file(&mut self, default: &Path) {
        let variable = self.env.get(FILE_VARIABLE).filter(|path| !path.is_empty());
        let (path, named) = match (&self.flags.file, variable) {
            (Some(path), _) => (
                path.clone(),
                Some(Origin::Flag {
                    name: "--config".into(),
                }),
            ),
            (None, Some(path)) => {
                let name = FILE_VARIABLE.to_owned();
                (PathBuf::from(path), Some(Origin::Env { name }))
            }
            (None, None) => (default.to_owned(), None),
        };
        match read(&path) {
            Ok(text) => self.file = Some((path, text)),
            Err(Unread::Missing) if named.is_none() => {}
            Err(wrong) => {
                let found = format!("cannot read {:?}: {wrong}", path.display().to_string());
                let source = named.unwrap_or(Origin::File { path, at: None });
                let hint = "`celeriac init` writes a file to start from".to_owned();
                self.mistakes.push(
                    Mistake::error("", source, found)
                        .allowed("a TOML file that can be read, at most 1 MiB")
                        .hint(matches!(wrong, Unread::Missing).then_some(hint)),
                );
            }
        }
    }
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("there is no such file")]
    Missing,
    #[error("it is larger than 1 MiB")]
    TooLarge,
    #[error("it is not UTF-8 text")]
    NotText,
    #[error("it is not a file")]
    NotFile,
    #[error("{0}")]
    Io(std::io::Error),
}

fn read(path: &Path) -> Result<String, Unread> {
    let refused = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Unread::Missing,
        _ => Unread::Io(error),
    };
    // A pipe would wait for its writer; a directory opens and then cannot be read.
    let kind = std::fs::metadata(path).map_err(refused)?;
    if !kind.is_file() {
        return Err(Unread::NotFile);
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(refused)?;
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(refused)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Unread::TooLarge);
    }
    String::from_utf8(bytes).map_err(|_| Unread::NotText)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    fn sources() -> Sources {
        Sources::empty(NonZeroUsize::MIN)
    }

    #[test]
    fn takes_our_variables_and_reports_bytes_that_are_no_text() {
        let mut sources = sources();
        let pair = |name: &str, value: &[u8]| (name.into(), OsStringExt::from_vec(value.to_vec()));
        sources.read_env(
            [
                pair("CELERIAC_LEASE", b"12s"),
                pair("CELERIAC_GRACE", b"\xff"),
                pair("REDIS_URL", b"redis://h"),
                pair("HOME", b"\xff"),
            ]
            .into_iter(),
        );
        assert_eq!(sources.env.len(), 2);
        assert_eq!(sources.mistakes.len(), 1);
        assert!(sources.mistakes[0].to_string().contains("CELERIAC_GRACE"));
    }

    #[test]
    fn only_the_default_file_may_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("celeriac.toml");
        let mut default = sources();
        default.read_file(&missing);
        assert!(default.mistakes.is_empty());

        let mut named = sources();
        named.flags.file = Some(missing.clone());
        named.read_file(Path::new("unused"));
        assert!(named.mistakes[0].to_string().contains("flag --config"));

        let mut variable = sources();
        variable
            .env
            .insert(FILE_VARIABLE.into(), dir.path().display().to_string());
        variable.read_file(Path::new("unused"));
        assert!(variable.mistakes[0].found.contains("not a file"));
    }

    #[test]
    fn a_huge_or_binary_file_is_a_mistake() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("celeriac.toml");
        for bytes in [vec![b'#'; (1 << 20) + 1], vec![0xff]] {
            std::fs::write(&file, bytes).unwrap();
            let mut sources = sources();
            sources.read_file(&file);
            assert_eq!(sources.mistakes.len(), 1);
            assert!(sources.file.is_none());
        }
    }
}
