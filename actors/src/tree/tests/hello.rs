//! What every user does first.

use serde::{Deserialize, Serialize};

use super::run;
use crate::attempt::Attempt;
use crate::task;
use crate::testkit::Rig;

#[derive(Serialize, Deserialize)]
struct Greet(String);
task!(Greet as "test.greet" -> String);

#[derive(Serialize, Deserialize)]
struct Nothing;
task!(Nothing as "test.nothing");

/// Goal: a function's output is stored and comes back.
#[test]
fn a_function_succeeds_and_its_output_is_returned() {
    run(async {
        let rig = Rig::builder()
            .task(|a: Attempt<Greet>| async move { Ok(format!("hello {}", a.args.0)) })
            .start()
            .await;
        assert_eq!(rig.run(Greet("you".into())).await.unwrap(), "hello you");
        rig.stop().await;
    });
}
