//! Commands in a configuration: what is refused, with what to do, and what follows from them.

use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;

use celeriac_actors::ids::QueueName;

use super::*;

const HEAD: &str = "[[command]]\nname = \"a.b\"\nprogram = \"true\"\n";

fn sources(file: &str) -> Sources {
    let mut sources = Sources::empty(NonZeroUsize::new(4).unwrap());
    sources.file = Some(("celeriac.toml".into(), file.into()));
    sources
}

fn report(file: &str) -> String {
    load(&sources(file)).report.to_string()
}

fn consumed(file: &str) -> Vec<String> {
    let config = load(&sources(file)).into_result().unwrap();
    let names = config.consume.iter().map(QueueName::as_str);
    names.map(str::to_owned).collect()
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_to_do() {
    for (more, found, allowed) in [
        (
            "soft_limit = \"2m\"\nhard_limit = \"1m\"",
            "soft_limit 2m above hard_limit 1m",
            "at most the hard limit",
        ),
        (
            "retry_codes = [75, 0]",
            "found the number 0",
            "0 is success",
        ),
        (
            "[command.env]\n\"A=B\" = \"c\"",
            "\"A=B\" is no name",
            "NAME",
        ),
        (
            "queue = \"biling\"",
            "there is no queue \"biling\"",
            "did you mean `billing`?",
        ),
        (
            "[tasks.\"a.b\"]\nmode = \"isolated\"",
            "a command has no mode",
            "remove it",
        ),
        (
            "soft_limit = \"2m\"\n[tasks.\"a.b\"]\nhard_limit = \"1m\"",
            "soft_limit 2m above hard_limit 1m",
            "at most the hard limit",
        ),
    ] {
        let report = report(&format!("{HEAD}{more}\n"));
        assert!(report.contains(found), "{more}: {report}");
        assert!(report.contains(allowed), "{more}: {report}");
        assert!(report.contains("1 mistake"), "{more}: {report}");
        assert!(report.contains("celeriac.toml:"), "{more}: {report}");
    }
    let placeholder = report("[[command]]\nname = \"a.b\"\nprogram = \"/bin/{{which}}\"\n");
    assert!(placeholder.contains("a placeholder"), "{placeholder}");
    assert!(placeholder.contains("celeriac.toml:3:"), "{placeholder}");
}

#[test]
fn a_name_is_of_one_kind_of_task() {
    let mut sources = sources(HEAD);
    sources.tasks = [String::from("a.b")].into();
    let report = load(&sources).report.to_string();
    assert!(report.contains("the program itself has a task"), "{report}");
    sources.tasks.clear();
    sources.demo_tasks = [String::from("a.b")].into();
    let report = load(&sources).report.to_string();
    assert!(report.contains("a demo task"), "{report}");
}

#[test]
fn a_section_for_a_command_is_one_for_a_known_task() {
    let mut sources = sources(&format!("{HEAD}[tasks.\"a.b\"]\nmax_attempts = 2\n"));
    sources.tasks = [String::from("other")].into();
    let loaded = load(&sources);
    assert_eq!(loaded.report.mistakes, [], "{}", loaded.report);
    sources.file = Some((
        "celeriac.toml".into(),
        format!("{HEAD}[tasks.\"a.c\"]\nmax_attempts = 2\n"),
    ));
    let report = load(&sources).report.to_string();
    assert!(report.contains("no such task"), "{report}");
    assert!(report.contains("did you mean `a.b`?"), "{report}");
}

#[test]
fn the_queue_of_a_command_is_consumed() {
    let queues = consumed(&format!("{HEAD}queue = \"etl-jobs\"\n"));
    assert!(queues.contains(&"etl-jobs".to_owned()), "{queues:?}");
    // One that chooses its queues takes no others.
    let queues = consumed(&format!(
        "consume = [\"default\"]\n{HEAD}queue = \"etl-jobs\"\n"
    ));
    assert_eq!(queues, ["default"]);
    // What is like a known one is meant where it is declared.
    let queues = consumed(&format!("{HEAD}queue = \"biling\"\n[queues.biling]\n"));
    assert!(queues.contains(&"biling".to_owned()), "{queues:?}");
}

#[test]
fn a_breaker_can_open_and_close() {
    let report = report(
        "[breakers.bank]\nopen_for = \"2m\"\nopen_ceiling = \"1m\"\n[breakers.post]\nfailure_rate = 0\n",
    );
    assert!(
        report.contains("open_for 2m above open_ceiling 1m"),
        "{report}"
    );
    assert!(report.contains("without a single failure"), "{report}");
    assert!(report.contains("2 mistake"), "{report}");
}

#[test]
fn programs_are_looked_for() {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script.sh");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o600)).unwrap();
    let wrong = |program: &str, more: &str| {
        let mut sources = sources(&format!(
            "[[command]]\nname = \"a.b\"\nprogram = {program:?}\n{more}\n"
        ));
        sources.search_path = Some(directory.path().into());
        let found = check_programs(&sources, &load(&sources));
        found.iter().map(ToString::to_string).collect::<String>()
    };
    let path = script.to_str().unwrap();
    let here = format!("cwd = {:?}", directory.path().to_str().unwrap());
    for (program, more, text) in [
        (path, "", "not executable"),
        ("/nowhere/at/all", "", "No such file"),
        ("script.sh", "", "no directory of PATH has it"),
        ("./script.sh", here.as_str(), "not executable"),
        ("true", "cwd = \"/nowhere\"", "/nowhere: No such file"),
        ("/", "", "it is no file"),
    ] {
        let said = wrong(program, more);
        assert!(said.contains(text), "{program} {more}: {said}");
        assert!(said.contains("allowed:"), "{said}");
    }
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o700)).unwrap();
    for (program, more) in [(path, ""), ("script.sh", ""), ("./script.sh", &here)] {
        assert_eq!(wrong(program, more), "");
    }
}
