//! `celeriac dead export`, `import` and `purge --retention`: dead letters that leave the store, and come back.

use crate::cli_dead::{ids, site};
use crate::cli_dead_support::Site;

/// Goal: what the configuration does not keep is deleted on demand, what is being revived is not.
#[tokio::test]
async fn retention_is_applied_by_hand() {
    let site = site().await;
    let ran = site.run("dead purge --retention --yes").expect(64);
    assert!(ran.err.contains("dead_letters.max_age"), "{}", ran.err);
    let config = "[dead_letters]\nmax_age = \"1h\"\nmax_count = 2\n";
    std::fs::write(site.home().join("celeriac.toml"), config).unwrap();
    let ran = site.run("dead purge --retention").expect(64);
    assert!(ran.err.contains("max_age=1h max_count=2"), "{}", ran.err);
    site.run("dead purge --retention --all --yes").expect(64);
    let ran = site.run("dead purge --retention --yes --json").expect(0);
    let purged = &ran.json()[0];
    assert_eq!(
        (&purged["too_old"], &purged["too_many"]),
        (&0.into(), &1.into())
    );
    assert_eq!(ids(&site, "").len(), 2);
    let audit = site.store().await.audit(None, 1).await.unwrap();
    assert_eq!(audit[0].entry.target, "retention max_age=1h max_count=2");
    assert_eq!(audit[0].entry.detail, "1 purged, 0 too old, 1 too many");
}

/// Goal: letters go from one place to another and lose nothing; bad lines are named and cost only themselves.
#[tokio::test]
async fn letters_are_exported_and_imported() {
    let site = site().await;
    let one = ids(&site, "--queue kyb").remove(0);
    site.run(&format!("dead discard {one}")).expect(0);
    let ran = site.run("dead export -o letters.jsonl").expect(0);
    assert!(ran.err.contains("exported 3 dead letters"), "{}", ran.err);
    let file = site.home().join("letters.jsonl");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(!site.home().join("letters.jsonl.partial").exists());
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let piped = site.run("dead export --queue kyb").expect(0);
    assert_eq!(piped.json()[0]["id"], one.as_str());
    site.run("dead export -o no/such/place").expect(69);

    let other = Site::new();
    drop(other.store().await);
    let lines: Vec<&str> = text.lines().collect();
    let mixed = format!("{}\nnonsense\n\n{}\n{{}}\n{}", lines[0], lines[1], lines[2]);
    let input = other.home().join("mixed.jsonl");
    std::fs::write(&input, mixed).unwrap();
    let ran = other.run("dead import mixed.jsonl").expect(64);
    assert!(ran.err.contains("line 2: expected"), "{}", ran.err);
    assert!(ran.err.contains("line 5: missing field `v`"), "{}", ran.err);
    assert!(
        ran.out.contains("imported 3 dead letters, 0 were there"),
        "{}",
        ran.out
    );
    let again = other.run("dead export").expect(0);
    assert_eq!(again.json().len(), 3);
    let of = |text: &str| -> Vec<serde_json::Value> {
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    assert_eq!(of(&again.out), of(&text));
    std::fs::copy(&file, &input).unwrap();
    let ran = other.run("dead import mixed.jsonl --json").expect(0);
    let told = &ran.json()[0];
    assert_eq!(
        (&told["imported"], &told["already_there"]),
        (&0.into(), &3.into())
    );
    let audit = other.store().await.audit(None, 10).await.unwrap();
    assert_eq!(audit.len(), 1, "what changed nothing is not recorded");
    assert_eq!(audit[0].entry.action, "dead.import");
    other.run("dead import no-such-file").expect(64);
}
