//! Which dead letters a change is about: some by their ids, or all that match a filter.

use clap::Args;

use super::super::exit::Failure;
use super::filter::Filters;
use crate::admin::dead::{Wanted, read};

/// The arguments of a change.
#[derive(Args, Debug)]
pub(crate) struct Choice {
    /// Dead letters, `TASK_ID-NUMBER`, or the id of a task that has only one that is open.
    ids: Vec<String>,
    /// Without ids and filters: all of them.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filters: Filters,
}

/// A checked choice.
#[derive(Debug)]
pub(super) enum Chosen {
    /// These.
    Ids(Vec<Wanted>),
    /// All that match.
    Matching(Filters),
}

impl Choice {
    /// Tells whether the arguments say clearly what is meant.
    pub(super) fn check(self, verb: &str) -> Result<Chosen, Failure> {
        let Self { ids, all, filters } = self;
        if ids.is_empty() {
            needs_filter(verb, &filters, all)?;
            return Ok(Chosen::Matching(filters));
        }
        if all || filters.narrows() || filters.limit.is_some() {
            return Err(Failure::usage(format!(
                "`dead {verb}` takes ids or filters, not both: leave one out"
            )));
        }
        let mut wanted = Vec::new();
        let mut mistakes = Vec::new();
        for id in &ids {
            match read(id) {
                // Named twice is meant once.
                Some(id) if wanted.contains(&id) => {}
                Some(id) => wanted.push(id),
                None => mistakes.push(format!("{id:?}")),
            }
        }
        if mistakes.is_empty() {
            Ok(Chosen::Ids(wanted))
        } else {
            Err(no_id(&mistakes.join(", ")))
        }
    }
}

/// A change of many letters must say which, or that it means all.
pub(super) fn needs_filter(verb: &str, filters: &Filters, all: bool) -> Result<(), Failure> {
    if all || filters.narrows() {
        return Ok(());
    }
    let ids = if verb == "purge" { "" } else { "ids, " };
    Err(Failure::usage(format!(
        "`dead {verb}` needs {ids}a filter such as `--reason exhausted` or `--since 2h`, or `--all`"
    )))
}

/// Reads the id of one dead letter.
pub(super) fn parse(text: &str) -> Result<Wanted, Failure> {
    read(text).ok_or_else(|| no_id(&format!("{text:?}")))
}

fn no_id(found: &str) -> Failure {
    Failure::usage(format!(
        "no id of a dead letter: {found}; it has the form TASK_ID-NUMBER, as `dead list` prints it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use celeriac_actors::ids::{BurialId, TaskId};

    const TASK: &str = "019a0000-0000-7000-8000-000000000001";

    fn choice(ids: &[&str], all: bool, filters: Filters) -> Choice {
        Choice {
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            all,
            filters,
        }
    }

    #[test]
    fn letters_and_tasks_are_told_apart() {
        let task: TaskId = TASK.parse().unwrap();
        assert_eq!(read(TASK), Some(Wanted::Task(task)));
        let letter = BurialId { task, number: 7 };
        assert_eq!(read(&format!("{TASK}-7")), Some(Wanted::Letter(letter)));
        for text in ["", "7", "019a", &TASK[..35], &format!("{TASK}-x")] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_choice_must_be_clear() {
        let narrow = || Filters {
            limit: Some(3),
            ..Filters::default()
        };
        assert!(
            choice(&[], false, Filters::default())
                .check("revive")
                .is_err()
        );
        assert!(choice(&[], false, narrow()).check("revive").is_err());
        assert!(choice(&[], true, narrow()).check("revive").is_ok());
        assert!(
            choice(&[TASK], true, Filters::default())
                .check("revive")
                .is_err()
        );
        assert!(
            choice(&["x", TASK], false, Filters::default())
                .check("revive")
                .is_err()
        );
        let twice = choice(&[TASK, TASK], false, Filters::default()).check("revive");
        assert!(matches!(twice, Ok(Chosen::Ids(ids)) if ids.len() == 1));
    }
}
