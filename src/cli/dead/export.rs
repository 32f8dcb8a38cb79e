//! `celeriac dead export`: dead letters as lines of JSON, the newest first, with nothing left out.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use celeriac_actors::ports::DeadLetter;

use super::super::exit::{Exit, Failure};
use super::super::output::{self, counted};
use super::desk::Desk;
use super::filter::Filters;
use crate::store::LetterLine;

pub(super) async fn run(desk: &Desk, filters: &Filters, to: &Path) -> Result<Exit, Failure> {
    let filter = desk.filter(filters).await?;
    let mut file = match to == Path::new("-") {
        true => None,
        false => Some(Draft::begin(to).map_err(|error| unwritable(to, &error))?),
    };
    let mut pages = desk.pages(filter, filters.limit);
    let mut count = 0;
    loop {
        let letters = pages.next().await?;
        if letters.is_empty() {
            break;
        }
        count += letters.len() as u64;
        match &mut file {
            None => letters
                .iter()
                .for_each(|letter| output::json(&LetterLine::from(letter))),
            Some(draft) => draft
                .add(&letters)
                .map_err(|error| unwritable(to, &error))?,
        }
    }
    if let Some(draft) = file {
        draft.end().map_err(|error| unwritable(to, &error))?;
        let what = counted(count, "dead letter");
        output::complain(&format!("exported {what} to {}", to.display()));
    }
    Ok(Exit::Ok)
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::unavailable(anyhow::anyhow!(
        "{} cannot be written: {error}",
        path.display()
    ))
}

/// A file under way, beside the place where it will be: half an export is never taken for a whole one.
struct Draft {
    to: PathBuf,
    draft: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Draft {
    /// Makes the file, for its owner alone: dead letters hold arguments.
    fn begin(to: &Path) -> io::Result<Self> {
        let mut name = to.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        let draft = to.with_file_name(name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&draft)?;
        Ok(Self {
            to: to.to_owned(),
            draft,
            file: Some(BufWriter::new(file)),
        })
    }

    fn add(&mut self, letters: &[DeadLetter]) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        for letter in letters {
            serde_json::to_writer(&mut *file, &LetterLine::from(letter))?;
            file.write_all(b"\n")?;
        }
        Ok(())
    }

    fn end(mut self) -> io::Result<()> {
        if let Some(file) = self.file.take() {
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            let done = file
                .sync_all()
                .and_then(|()| std::fs::rename(&self.draft, &self.to));
            if done.is_err() {
                let _gone = std::fs::remove_file(&self.draft);
            }
            return done;
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _gone = std::fs::remove_file(&self.draft);
        }
    }
}
