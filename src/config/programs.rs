//! Whether the programs of commands are there and can be started. Looks at the file system, unlike the rest of the
//! configuration: a program may be installed after the daemon that runs it, and may be on another machine only.

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::keys::quoted;
use super::{Loaded, Mistake, Origin, Sources};
use crate::command::Command;

/// Returns what is wrong with the programs and directories of the commands in force, as this machine has them.
#[must_use]
pub fn check_programs(sources: &Sources, loaded: &Loaded) -> Vec<Mistake> {
    let Some(config) = loaded.config() else {
        return Vec::new();
    };
    let mut keys = loaded.effective.keys.iter();
    let source = keys.find(|shown| shown.key == "command");
    let source = source.map_or(Origin::Default { rule: "" }, |shown| shown.source.clone());
    let check = |command| check(command, sources.search_path.as_deref(), &source);
    config.commands.iter().filter_map(check).collect()
}

fn check(command: &Command, search_path: Option<&OsStr>, source: &Origin) -> Option<Mistake> {
    let mistake = |part: &str, found: String, allowed: &str| {
        let key = format!("command.{}.{part}", quoted(command.name.as_str()));
        Some(Mistake::error(key, source.clone(), found).allowed(allowed))
    };
    if let Some(directory) = &command.cwd
        && let Some(wrong) = directory_fault(directory)
    {
        let found = format!("{}: {wrong}", directory.display());
        return mistake("cwd", found, "a directory that is there");
    }
    let own_path = command.env.iter().find(|(name, _)| name == "PATH");
    let own_path = own_path.map(|(_, path)| OsString::from(path));
    let search_path = own_path.as_deref().or(search_path);
    let wrong = program_fault(&command.program, command.cwd.as_deref(), search_path)?;
    let found = format!("{}: {wrong}", command.program.display());
    mistake(
        "program",
        found,
        "a program that can be executed here: a path, or a name that is found in PATH",
    )
}

fn directory_fault(directory: &Path) -> Option<String> {
    match directory.metadata() {
        Ok(found) if found.is_dir() => None,
        Ok(_) => Some("it is no directory".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

fn program_fault(
    program: &Path,
    directory: Option<&Path>,
    search_path: Option<&OsStr>,
) -> Option<String> {
    let is_executable =
        |found: &Metadata| found.is_file() && found.permissions().mode() & 0o111 != 0;
    if program.components().count() == 1 && !program.is_absolute() && !has_slash(program) {
        let folders = std::env::split_paths(search_path.unwrap_or_default());
        let there = |folder: PathBuf| {
            let found = folder.join(program).metadata();
            found.is_ok_and(|found| is_executable(&found))
        };
        let mut folders = folders;
        return (!folders.any(there)).then(|| "no directory of PATH has it".to_owned());
    }
    // It is started from its directory.
    let program = directory.map_or_else(|| program.to_owned(), |directory| directory.join(program));
    match program.metadata() {
        Err(error) => Some(error.to_string()),
        Ok(found) if !found.is_file() => Some("it is no file".to_owned()),
        Ok(found) if !is_executable(&found) => {
            Some("it is not executable (`chmod +x` makes it so)".to_owned())
        }
        Ok(_) => None,
    }
}

fn has_slash(program: &Path) -> bool {
    program.as_os_str().as_encoded_bytes().contains(&b'/')
}
