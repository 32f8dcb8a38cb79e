//! Random histories against a tiny model of the rules.
//!
//! A history is a list of steps of producers, consumers, ghosts (consumers that crashed and come back), watchdogs and
//! operators. After each step the broker's whole state is compared with the model's: nothing lost, nothing held twice,
//! fences, order, counts. A history that breaks a rule is shortened before it is shown.

mod expected;
mod history;
mod outside;
mod player;
mod watch;

use self::history::{Op, random};
use self::player::Player;
use super::Harness;

/// How many steps a history has.
const STEPS: usize = 60;
/// How many shorter histories are tried when one breaks a rule.
const SHORTER: usize = 500;

/// [`Harness::histories`] random histories keep every promise.
pub async fn random_histories_keep_the_promises<H: Harness>() {
    let harness = H::fresh().await;
    let (histories, free) = (harness.histories(), harness.time_is_free());
    drop(harness);
    for seed in 0..histories {
        let history = random(seed, STEPS, free);
        if let Err(broken) = play::<H>(&history).await {
            let (history, broken) = shorten::<H>(history, broken).await;
            let steps: Vec<String> = history.iter().map(|op| format!("  {op:?}")).collect();
            panic!("history {seed}: {broken}\nafter\n{}", steps.join("\n"));
        }
    }
}

async fn play<H: Harness>(history: &[Op]) -> Result<(), String> {
    let mut player = Player::<H>::start().await;
    for (index, op) in history.iter().enumerate() {
        let step = player.step(op).await;
        step.map_err(|broken| format!("step {index}, {op:?}: {broken}"))?;
    }
    player.finish().await
}

/// Leaves out steps for as long as the rest still breaks a rule.
async fn shorten<H: Harness>(mut history: Vec<Op>, mut broken: String) -> (Vec<Op>, String) {
    let (mut chunk, mut tries) = (history.len() / 2, 0);
    while chunk > 0 {
        let mut at = 0;
        while at < history.len() && tries < SHORTER {
            tries += 1;
            let end = (at + chunk).min(history.len());
            let mut shorter = history.clone();
            shorter.drain(at..end);
            match play::<H>(&shorter).await {
                Ok(()) => at = end,
                Err(still) => (history, broken) = (shorter, still),
            }
        }
        chunk /= 2;
    }
    (history, broken)
}
