//! `celeriac dead revive ID --args`: other arguments are checked, sent and shown, and leave the rest of the task as it was.

use celeriac_actors::state::DeadReason;

use crate::cli_dead_support::{Death, Ran, Site};

fn revive(site: &Site, arguments: &[&str]) -> Ran {
    let all = [&["dead", "revive"], arguments].concat();
    site.command(&all).output().unwrap().into()
}

#[tokio::test]
async fn arguments_are_edited_and_the_rest_stays() {
    let site = Site::new();
    // Its kind is known to the program, which takes nothing but an object with `ms`.
    site.bury(&[
        Death::of("default", "demo.sleep", DeadReason::Exhausted),
        Death::of("default", "of.others", DeadReason::Exhausted),
        Death {
            garbage: Some(b"{}".to_vec()),
            ..Death::of("default", "demo.sleep", DeadReason::Undecodable)
        },
    ])
    .await;
    drop(site.store().await);
    let listed = site.run("dead list --json").expect(0).json();
    let id = |task: &str| {
        let of_task = listed.iter().find(|letter| letter["task"] == task);
        of_task.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let sleep = id("demo.sleep");

    for (arguments, said) in [
        (
            &[&sleep[..], "--args", r#"{"ms":"soon"}"#][..],
            "`demo.sleep` takes at `ms`",
        ),
        (&[&sleep, "--args", "{ms:1}"], "--args is no JSON"),
        (
            &[&sleep, &id("of.others"), "--args", "{}"],
            "the id of one dead letter",
        ),
        (&["--all", "--args", "{}"], "the id of one dead letter"),
        (
            &["--all", "--canary", "--args", "{}"],
            "cannot be used with",
        ),
    ] {
        let ran = revive(&site, arguments).expect(64);
        assert!(ran.err.contains(said), "{}", ran.err);
    }
    assert_eq!(site.queue("default").await.ready, 0);
    let garbage = listed.iter().find(|l| l["task"].is_null()).unwrap();
    let garbage = garbage["id"].as_str().unwrap();
    revive(&site, &[garbage, "--args", "{}"]).expect(1);

    revive(&site, &[&sleep, "--args", r#"{"ms":1}"#]).expect(0);
    assert_eq!(site.queue("default").await.ready, 1);
    let (task, _) = sleep.rsplit_once('-').unwrap();
    let sent = site.run(&format!("task show {task} --json")).expect(0);
    let sent = &sent.json()[0];
    assert_eq!(sent["args"]["ms"], 1, "{sent}");
    assert_eq!(sent["headers"]["tenant"], "acme", "{sent}");
    let shown = site.run(&format!("dead show {sleep} --json")).expect(0);
    let shown = &shown.json()[0];
    assert_eq!(shown["args"]["customer"], 7);
    assert_eq!(shown["edited_args"]["ms"], 1);
    let text = site.run(&format!("dead show {sleep}")).expect(0).out;
    assert!(
        text.contains("arguments of its revival\n  {\n    \"ms\": 1"),
        "{text}"
    );

    let ran = revive(&site, &[&id("of.others"), "--args", "[1]"]).expect(0);
    assert!(ran.err.contains("not checked"), "{}", ran.err);
    let audit = site.store().await.audit(None, 2).await.unwrap();
    let details = audit.iter().map(|record| &record.entry.detail[..]);
    assert_eq!(
        details.collect::<Vec<_>>(),
        ["1 revived, with other arguments"; 2]
    );
}
