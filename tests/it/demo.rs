//! `celeriac demo` as its users run it.

use std::process::{Command, Stdio};

#[test]
fn the_demo_loses_nothing_and_leaves_nothing_behind() {
    let place = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_celeriac"))
        .arg("demo")
        .env("TMPDIR", place.path())
        // Configuration that would stop any other command.
        .env("CELERIAC_LEASE", "nonsense")
        .current_dir(place.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (said, told) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(output.status.success(), "{told}\n{said}");
    assert_eq!(said.lines().last(), Some("lost = 0"), "{said}");
    for word in ["lane-1", "notifications", "demo.abort", "poison", "revived"] {
        assert!(said.contains(word), "{word} is missing in {said}");
    }
    for word in ["SIGKILL", "rescued", "verified", "SIGTERM"] {
        assert!(told.contains(word), "{word} is missing in {told}");
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}
