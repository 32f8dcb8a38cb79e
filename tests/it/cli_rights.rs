//! What an operator is told who may not read the data directory: that, whose it is, and what to do.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};

use crate::cli_support::{Place, code, said};

/// The user `nobody`, who owns nothing here.
const NOBODY: u32 = 65_534;

/// Gives a command as somebody who may not do what the data's owner may.
fn as_another(place: &Place, arguments: &[&str]) -> Output {
    let mut command = place.command(arguments);
    if rustix::process::geteuid().is_root() {
        // Nothing is forbidden to root; and nobody may not go where cargo put the program.
        let program = place.path().join("celeriac");
        let built = env!("CARGO_BIN_EXE_celeriac");
        if !program.exists() && fs::hard_link(built, &program).is_err() {
            fs::copy(built, &program).unwrap();
        }
        let given: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        command = Command::new(program);
        command.args(given).current_dir(place.path());
        command.stdin(Stdio::null()).uid(NOBODY).gid(NOBODY);
    }
    command.output().unwrap()
}

/// Goal: a place one may not look into is not taken for an empty one.
#[test]
fn missing_rights_are_not_a_missing_broker() {
    let place = Place::new();
    place.lines(&["migrate"]);
    fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
    for (path, mode) in [("data", 0o000), ("data/broker.db", 0o000)] {
        let path = place.path().join(path);
        let before = fs::metadata(&path).unwrap().permissions();
        if path.ends_with("broker.db") {
            // One may look around, and read nothing.
            fs::set_permissions(place.data(), Permissions::from_mode(0o755)).unwrap();
        }
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        for look in [
            &["status"][..],
            &["queues"],
            &["dead", "list"],
            &["migrate", "--status"],
            &["migrate"],
            &["enqueue", "a.b"],
        ] {
            let output = as_another(&place, look);
            let said = said(&output);
            assert_eq!(code(&output), 69, "{look:?}: {said}");
            assert_eq!(
                said.matches("ermission denied").count(),
                1,
                "{look:?}: {said}"
            );
            assert!(said.contains("another data directory"), "{look:?}: {said}");
            assert!(!said.contains("there is no"), "{look:?}: {said}");
        }
        let doctor = as_another(&place, &["doctor"]);
        let found = String::from_utf8_lossy(&doctor.stdout);
        assert!(found.contains("ermission denied"), "{found}");
        assert!(!found.contains("yet"), "{found}");
        fs::set_permissions(&path, before).unwrap();
    }
    assert_eq!(code(&place.run(&["status"])), 0);
}
