//! The atomic steps: one `.lua` file each, sent by its hash and whole only to a server that does not know it.

use std::sync::LazyLock;

use redis::Cmd;

/// A step at the server.
#[derive(Debug)]
pub(super) struct Script {
    text: String,
    hash: String,
}

impl Script {
    fn new(flags: &str, parts: &[&str]) -> Self {
        let mut text = format!("#!lua{flags}\n");
        for part in parts {
            text.push_str(part);
            text.push('\n');
        }
        let hash = sha1_smol::Sha1::from(&text).hexdigest();
        Self { text, hash }
    }

    /// Begins a call by hash, of a script with one key.
    pub(super) fn call(&self, key: &str) -> Cmd {
        self.call_of_all(&[key])
    }

    /// Begins a call by hash, of a script that works on several keys one after the other.
    pub(super) fn call_of_all(&self, keys: &[impl AsRef<str>]) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(keys.len());
        for key in keys {
            command.arg(key.as_ref());
        }
        command
    }

    /// Returns the same call with the whole script, which the server then knows.
    pub(super) fn whole(&self, call: &Cmd) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(&self.text);
        for arg in call.args_iter().skip(2) {
            if let redis::Arg::Simple(bytes) = arg {
                command.arg(bytes);
            }
        }
        command
    }
}

const PRELUDE: &str = include_str!("scripts/prelude.lua");
const QUEUE: &str = include_str!("scripts/queue.lua");
const SETTLE: &str = include_str!("scripts/settle.lua");
const ORPHANS: &str = include_str!("scripts/orphans.lua");

/// Goes on when memory is at its limit: what ends or moves tasks must.
const ALLOW_OOM: &str = " flags=allow-oom";
/// Is refused, before it does anything, when memory is at its limit: what adds tasks or results.
const DENY_OOM: &str = "";
const READ_ONLY: &str = " flags=no-writes";

macro_rules! scripts {
    ($($name:ident = $flags:ident $($part:ident)* $file:literal)+) => {
        $(
            pub(super) static $name: LazyLock<Script> = LazyLock::new(|| {
                Script::new($flags, &[PRELUDE, $($part,)* include_str!(concat!("scripts/", $file, ".lua"))])
            });
        )+

        /// Every script, by the name of its file.
        #[cfg(test)]
        fn all() -> Vec<(&'static str, &'static Script)> {
            vec![$(($file, &*$name)),+]
        }
    };
}

scripts! {
    ENQUEUE = DENY_OOM QUEUE "enqueue"
    OPEN = ALLOW_OOM "open"
    EXCHANGE = ALLOW_OOM QUEUE SETTLE "exchange"
    EXCHANGE_WITH_RESULTS = DENY_OOM QUEUE SETTLE "exchange"
    RENEW = ALLOW_OOM "renew"
    MARK = ALLOW_OOM "mark"
    TAKE = ALLOW_OOM QUEUE SETTLE "take"
    RELEASE = ALLOW_OOM QUEUE "release"
    CLOSE = ALLOW_OOM QUEUE ORPHANS "close"
    SWEEP = ALLOW_OOM QUEUE ORPHANS "sweep"
    PROMOTE = ALLOW_OOM QUEUE "promote"
    RING = ALLOW_OOM "ring"
    REGISTER = ALLOW_OOM "register"
    PAUSE = ALLOW_OOM "pause"
    PURGE = ALLOW_OOM QUEUE "purge"
    REVOKE = ALLOW_OOM "revoke"
    REVOCATIONS = READ_ONLY "revocations"
    DEAD = READ_ONLY "dead"
    DROP_DEAD = ALLOW_OOM "drop_dead"
    STATUS = READ_ONLY "status"
    RESULTS = READ_ONLY "results"
    RESULTS_TAKEN = ALLOW_OOM "results_taken"
    SCAN = READ_ONLY "scan"
    FORGET = ALLOW_OOM "forget"
    BEAT = ALLOW_OOM "beat"
    WORKERS = READ_ONLY "workers"
    FORGET_WORKERS = ALLOW_OOM "forget_workers"
    SHARE = ALLOW_OOM "share"
    SHARED = READ_ONLY "shared"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_script_gets_the_same_arguments() {
        let mut call = RING.call("key");
        call.arg("one").arg(2);
        let whole = RING.whole(&call);
        let args: Vec<_> = whole
            .args_iter()
            .map(|arg| match arg {
                redis::Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                _ => "?".to_owned(),
            })
            .collect();
        assert_eq!(args[0], "EVAL");
        assert_eq!(args[1], RING.text);
        assert_eq!(args[2..], ["1", "key", "one", "2"]);
    }

    #[test]
    fn every_script_says_what_it_takes_and_returns() {
        for (file, script) in all() {
            let own = script.text.rsplit("\n\n").count();
            assert!(own > 1, "{file} has no header");
            assert!(script.text.contains("-- KEYS  "), "{file}: KEYS");
            assert!(script.text.contains("-- Reply "), "{file}: Reply");
        }
    }
}
