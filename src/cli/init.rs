//! `celeriac init`: a commented configuration and a project to start from. Overwrites nothing.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::exit::{Exit, Failure};
use super::{Global, output};
use crate::config::{InitError, starter_config, starter_project, write_new};

/// Writes a commented configuration and a project to start from.
#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// Where; it is made where it is missing.
    #[arg(default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// Only `celeriac.toml`, for a project that is there already.
    #[arg(long)]
    config_only: bool,
}

pub(crate) fn run(args: &InitArgs, global: &Global) -> Result<Exit, Failure> {
    let files = match args.config_only {
        true => vec![starter_config()],
        false => starter_project(&name_of(&args.dir)),
    };
    let written = write_new(&args.dir, &files).map_err(|error| refused(error, args))?;
    let written: Vec<String> = written
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    if global.json {
        output::json(&json!({ "written": written }));
        return Ok(Exit::Ok);
    }
    for path in &written {
        output::line(&format!("wrote {}", output::plain(path)));
    }
    output::complain(&next_steps(args));
    Ok(Exit::Ok)
}

/// Returns the name of the directory as it is really called: `.` is no name.
fn name_of(dir: &Path) -> String {
    let real = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let name = real
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "worker".to_owned())
}

fn refused(error: InitError, args: &InitArgs) -> Failure {
    let hint = match &error {
        InitError::Exists(paths)
            if !args.config_only && !paths.iter().any(|path| path.ends_with("celeriac.toml")) =>
        {
            "; `--config-only` writes celeriac.toml alone"
        }
        _ => "",
    };
    let text = format!("{:#}{hint}", anyhow::Error::from(error));
    Failure::usage(text)
}

fn next_steps(args: &InitArgs) -> String {
    let dir = output::plain(&args.dir.display().to_string());
    let enter = match dir.as_str() {
        "." => String::new(),
        dir => format!("  cd {dir}\n"),
    };
    if args.config_only {
        return format!("\nnext:\n{enter}  celeriac config check\n  celeriac run");
    }
    format!(
        "\nnext:\n{enter}  cargo run -- run\nand in another terminal:\n{enter}  cargo run -- enqueue hello.greet \
         --args '{{\"name\":\"Ada\"}}' --wait"
    )
}
