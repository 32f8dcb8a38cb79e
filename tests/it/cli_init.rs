//! `celeriac init`: writes what compiles, and nothing over anything.

use crate::cli_dead_support::Site;

/// The program of the starter project, compiled with ours so that it cannot rot.
#[expect(
    dead_code,
    reason = "only compiled: its `main` reads the process's arguments"
)]
#[path = "../../src/config/starter/main.rs"]
mod starter;

#[test]
fn what_is_there_is_not_overwritten() {
    let site = Site::new();
    std::fs::write(site.home().join("Cargo.toml"), "mine").unwrap();
    let ran = site.run("init").expect(64);
    assert!(
        ran.err.contains("Cargo.toml is already there"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("--config-only"), "{}", ran.err);
    assert!(!site.home().join("celeriac.toml").exists());
    assert_eq!(
        std::fs::read(site.home().join("Cargo.toml")).unwrap(),
        b"mine"
    );

    site.run("init --config-only").expect(0);
    site.run("init --config-only").expect(64);
}

#[test]
fn a_project_is_written_and_its_configuration_is_right() {
    let site = Site::new();
    let ran = site.run("init my-worker --json").expect(0);
    assert_eq!(ran.json()[0]["written"].as_array().unwrap().len(), 3);
    let manifest = std::fs::read_to_string(site.home().join("my-worker/Cargo.toml")).unwrap();
    assert!(manifest.contains("name = \"my-worker\""), "{manifest}");
    let checked = site
        .run("config check --config my-worker/celeriac.toml")
        .expect(0);
    assert!(checked.err.is_empty(), "{}", checked.err);
    let text = site.run("init other").expect(0);
    assert!(text.err.contains("cargo run -- run"), "{}", text.err);
}
