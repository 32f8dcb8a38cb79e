//! No mass rescue (PROTOCOL 3): an outage or a stepped clock closes nobody who lives.

use std::time::Duration;

use super::kit::{outcome, rule};
use super::{ClockStep, Consumer, Harness, Stage};
use crate::fence::MAX_HELD_BACK;

/// After a gap the first sweep holds back and gives everybody a full lease; who is dead all the same is rescued within
/// a lease and a sweep of it.
pub async fn an_outage_rescues_nobody<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let (mut alive, dead) = two_holders(&mut stage).await;
    let outage = if stage.harness.time_is_free() {
        Duration::from_secs(3_600)
    } else {
        stage.harness.lease() * 2
    };
    stage.harness.pass(outage).await;
    let swept = stage.sweep().await;
    let which = "PROTOCOL 3: the first sweep after a gap holds back";
    rule(
        which,
        (swept.held_back, swept.closed, swept.rescued),
        (true, vec![], 0),
    );
    stage.harness.pass(stage.harness.lease() / 4).await;
    let swept = stage.sweep().await;
    let which = "PROTOCOL 3: everybody has a full lease from then on";
    rule(which, (swept.held_back, swept.closed), (false, vec![]));
    let swept = stage.outlive_lease(&[alive.id()]).await;
    let closed: Vec<_> = swept.closed.iter().map(|closed| closed.id).collect();
    let which = "PROTOCOL 3: the dead are rescued within lease + sweep of the return";
    rule(which, closed, vec![dead.id()]);
    rule(
        "the living settles",
        alive.settle(1, outcome::succeed()).await,
        vec![],
    );
    stage
        .expect(
            "one was rescued",
            "ready [2#1] scheduled [] retrying [] active [] dead []",
        )
        .await;
}

/// Opens two consumers with one task each, and sweeps so that there is a stamp.
async fn two_holders<H: Harness>(stage: &mut Stage<H>) -> (Consumer, Consumer) {
    stage.add_numbers(1..=2).await;
    let mut first = stage.consumer("w1").await;
    let mut second = stage.consumer("w2").await;
    first.fetch(1).await;
    second.fetch(1).await;
    stage.sweep().await;
    (first, second)
}

/// A wall clock that jumps by an hour, either way, closes nobody.
pub async fn a_wall_clock_step_rescues_nobody<H: Harness>() {
    let hour = Duration::from_secs(3_600);
    for step in [ClockStep::WallForward(hour), ClockStep::WallBack(hour)] {
        let mut stage = Stage::<H>::fresh().await;
        let (mut alive, dead) = two_holders(&mut stage).await;
        if !stage.harness.step_clock(step).await {
            return;
        }
        let which = format!("PROTOCOL 3: {step:?} closes nobody");
        for _ in 0..3 {
            let swept = stage.sweep().await;
            rule(&which, (swept.closed, swept.rescued), (vec![], 0));
            stage.harness.pass(stage.harness.lease() / 5).await;
            let gone = stage.broker.renew(&stage.queue, &[alive.id()]).await;
            rule(&which, gone, Ok(vec![]));
        }
        let swept = stage.outlive_lease(&[alive.id()]).await;
        let closed: Vec<_> = swept.closed.iter().map(|closed| closed.id).collect();
        let which = format!("PROTOCOL 3: after {step:?} the dead are rescued in time");
        rule(&which, closed, vec![dead.id()]);
        rule(
            "the living settles",
            alive.settle(1, outcome::succeed()).await,
            vec![],
        );
    }
}

/// After another boot the boot-time clock is behind every stamp: nothing is lost, nothing held twice, and rescue comes.
///
/// A broker that knows boots apart may close what an earlier boot held at once; one that does not holds back.
pub async fn another_boot_loses_nothing<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let (_, _) = two_holders(&mut stage).await;
    if !stage.harness.step_clock(ClockStep::Reboot).await {
        return;
    }
    let first = stage.sweep().await;
    let honest = first.held_back || first.closed.iter().all(|closed| closed.proven_dead);
    rule("PROTOCOL 3: a stamp ahead of now holds back", honest, true);
    stage.outlive_lease(&[]).await;
    let text = "ready [1#1 2#1] scheduled [] retrying [] active [] dead []";
    let found = stage.text().await;
    let either = found == text || found == text.replace("1#1 2#1", "2#1 1#1");
    rule(&format!("nothing is lost: {found}"), either, true);
    stage.counters().await;
}

/// A sweep that holds back closes who is proven dead, and nobody else.
pub async fn proof_of_death_counts_even_then<H: Harness>() {
    let mut stage = Stage::<H>::fresh().await;
    let (_, dead) = two_holders(&mut stage).await;
    stage.harness.pass(stage.harness.lease() * 2).await;
    if !stage.harness.declare_dead(&dead.incarnation.worker).await {
        return;
    }
    let swept = stage.sweep().await;
    let closed: Vec<_> = swept.closed.iter().map(|c| (c.id, c.proven_dead)).collect();
    let which = "PROTOCOL 3: proof of death counts when a sweep holds back";
    rule(
        which,
        (swept.held_back, closed),
        (true, vec![(dead.id(), true)]),
    );
    stage
        .expect(
            which,
            "ready [2#1] scheduled [] retrying [] active [1] dead []",
        )
        .await;
}

/// Sweeps that find gaps, because the survivors sweep more seldom than the shortest lease asks for, let it start again a
/// few times and not for ever: who is silent is closed at last, who renews is not. Whether there are sweeps in time among
/// them or not.
pub async fn seldom_sweeps_rescue_all_the_same<H: Harness>() {
    for (seldom, soon) in [(6, 0), (7, 1)] {
        let mut stage = Stage::<H>::fresh().await;
        let (mut alive, dead) = two_holders(&mut stage).await;
        let mut closed = Vec::new();
        let mut sweeps = 0;
        while closed.is_empty() && sweeps < 4 * MAX_HELD_BACK {
            for eighths in [seldom, soon].into_iter().filter(|eighths| *eighths > 0) {
                stage
                    .harness
                    .pass(stage.harness.lease() * eighths / 8)
                    .await;
                let gone = stage.broker.renew(&stage.queue, &[alive.id()]).await;
                rule("who renews is not gone", gone, Ok(vec![]));
                let swept = stage.sweep().await;
                closed.extend(swept.closed.iter().map(|closed| closed.id));
                sweeps += 1;
            }
        }
        let which = "PROTOCOL 3: sweeps do not hold back for ever";
        rule(
            which,
            (closed, sweeps >= MAX_HELD_BACK),
            (vec![dead.id()], true),
        );
        rule(
            "the living settles",
            alive.settle(1, outcome::succeed()).await,
            vec![],
        );
        let which = "what the dead held is ready again";
        let text = "ready [2#1] scheduled [] retrying [] active [] dead []";
        stage.expect(which, text).await;
    }
}
