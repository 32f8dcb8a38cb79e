//! Command tasks: real scripts in Python and shell, run by a real daemon from its configuration alone.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use celeriac_actors::failure::{Failure, FailureKind};
use celeriac_actors::frame::{FrameLimits, decode_value};
use celeriac_actors::lease::FinalRecord;
use celeriac_actors::state::TaskState;
use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::{Value, json};

use crate::daemon::{Ground, eventually};

/// Scripts in a directory of their own.
struct Scripts(tempfile::TempDir);

impl Scripts {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a script; returns its path as TOML.
    fn add(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        format!("{:?}", path.display().to_string())
    }
}

fn returned(record: &FinalRecord) -> Value {
    assert_eq!(record.state, TaskState::Succeeded, "{:?}", failure(record));
    decode_value(&record.body, &FrameLimits::default()).unwrap()
}

fn failure(record: &FinalRecord) -> Option<Failure> {
    decode_value(&record.body, &FrameLimits::default()).ok()
}

/// Goal: a command gets its arguments on standard input, what it asks for on its command line, its task in its
/// environment, and its result is that of the task.
#[tokio::test]
async fn a_command_in_python_and_one_in_shell() {
    let scripts = Scripts::new();
    let python = scripts.add(
        "double.py",
        "#!/usr/bin/env python3\n\
         import json, os, sys\n\
         args = json.load(sys.stdin)\n\
         json.dump({'double': 2 * args['number'], 'argv': sys.argv[1:], 'cwd': os.getcwd(),\n\
                    'env': {k: v for k, v in os.environ.items() if k.startswith('CELERIAC_TASK') or k == 'EXTRA'}},\n\
                   sys.stdout)\n",
    );
    let shell = scripts.add("upper.sh", "#!/bin/sh\nread line\nprintf '\"%s\"' \"$#\"\n");
    let cwd = format!("{:?}", scripts.0.path().display().to_string());
    let ground = Ground::with(&format!(
        "[[command]]\nname = \"scripts.double\"\nprogram = {python}\nqueue = \"billing\"\ncwd = {cwd}\n\
         args = [\"--name={{{{name}}}}\", \"{{{{number}}}}\"]\n[command.env]\nEXTRA = \"more\"\n\
         [[command]]\nname = \"scripts.upper\"\nprogram = {shell}\n"
    ));
    let _daemon = ground.daemon(&[]).await;
    let name = "a b; $(touch evil) '\"";
    let double = ground
        .enqueue_to(
            "billing",
            "scripts.double",
            [json!({ "number": 21, "name": name })],
        )
        .await;
    let end = returned(&ground.ends(&double).await[0]);
    assert_eq!(end["double"], 42);
    assert_eq!(end["argv"], json!([format!("--name={name}"), "21"]));
    let here = scripts.0.path().canonicalize().unwrap();
    assert_eq!(end["cwd"], here.display().to_string());
    assert_eq!(end["env"]["EXTRA"], "more");
    assert_eq!(end["env"]["CELERIAC_TASK"], "scripts.double");
    assert_eq!(end["env"]["CELERIAC_TASK_ID"], double[0].id.to_string());
    assert_eq!(end["env"]["CELERIAC_TASK_ATTEMPT"], "1");
    assert_eq!(end["env"]["CELERIAC_TASK_QUEUE"], "billing");
    let deadline: u64 = end["env"]["CELERIAC_TASK_DEADLINE"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(deadline > 1_700_000_000);
    let upper = ground
        .enqueue("scripts.upper", [json!({ "--not": "an option" })])
        .await;
    assert_eq!(returned(&ground.ends(&upper).await[0]), "0", "no argument");
}

/// Goal: a command that fails says why; one that asks for it is tried again; what it cannot be given fails it.
#[tokio::test]
async fn exit_codes_mean_what_they_mean() {
    let scripts = Scripts::new();
    let fail = scripts.add(
        "fail.py",
        "#!/usr/bin/env python3\nimport sys\nprint('the reason', file=sys.stderr)\nraise SystemExit(3)\n",
    );
    let again = scripts.add(
        "again.sh",
        "#!/bin/sh\n[ \"$CELERIAC_TASK_ATTEMPT\" = 2 ] || { echo later >&2; exit 75; }\necho 7\n",
    );
    let garbled = scripts.add("garbled.sh", "#!/bin/sh\necho 'not { json'\n");
    let command = |name: &str, program: &str, args: &str| {
        format!("[[command]]\nname = \"scripts.{name}\"\nprogram = {program}\nargs = {args}\n")
    };
    let config = command("fail", &fail, "[]")
        + &command("again", &again, "[]")
        + "[tasks.\"scripts.again\"]\nbackoff_base = \"10ms\"\n"
        + &command("garbled", &garbled, "[]")
        + &command("dash", &garbled, "[\"{{option}}\"]")
        + &command("missing", "\"/nowhere/at/all\"", "[]");
    let ground = Ground::with(&config);
    let _daemon = ground.daemon(&[]).await;
    let mut handles = Vec::new();
    for name in ["fail", "garbled", "dash", "missing", "again"] {
        let args = [json!({ "option": "--force" })];
        handles.extend(ground.enqueue(&format!("scripts.{name}"), args).await);
    }
    let ends = ground.ends(&handles).await;
    let texts = [
        "exited with status 3 wrote: the reason",
        "no JSON",
        "begins with `-`",
        "cannot be started",
    ];
    for (end, text) in ends.iter().zip(texts) {
        let failure = failure(end).unwrap();
        assert_eq!(failure.kind, FailureKind::Permanent, "{failure:?}");
        let said = format!("{} {}", failure.message, failure.causes.join(" "));
        assert!(said.contains(text), "{said}");
    }
    assert_eq!((returned(&ends[4]), ends[4].attempts), (json!(7), 2));
}

pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(')')
        .next()
        .and_then(|rest| rest.split_whitespace().next());
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid).is_ok()) && state != Some("Z")
}

/// Goal: a command that hangs is ended at its hard limit with everything it started, also when it will not hear.
/// Method: a script that ignores SIGTERM and starts another that does.
#[tokio::test]
async fn a_command_that_hangs_is_ended_with_its_group() {
    let scripts = Scripts::new();
    let pids = scripts.path("pids");
    let hang = scripts.add(
        "hang.sh",
        "#!/bin/sh\ntrap '' TERM\necho 'still here' >&2\nsleep 3600 &\necho $$ $! > \"$PIDS\"\nwait\nsleep 3600\n",
    );
    let ground = Ground::with(&format!(
        "[[command]]\nname = \"scripts.hang\"\nprogram = {hang}\nhard_limit = \"300ms\"\nmax_attempts = 1\n\
         [command.env]\nPIDS = {:?}\n",
        pids.display().to_string()
    ));
    let _daemon = ground.daemon(&[]).await;
    let hang = ground.enqueue("scripts.hang", [json!({})]).await;
    let end = failure(&ground.ends(&hang).await[0]).unwrap();
    assert_eq!(end.kind, FailureKind::HardLimit, "{end:?}");
    assert!(
        end.causes.contains(&"wrote: still here".to_owned()),
        "{end:?}"
    );
    assert!(end.message.contains("at its hard limit"), "{end:?}");
    assert!(end.message.contains("signal 9 (SIGKILL)"), "{end:?}");
    assert!(!end.message.contains("want of memory"), "{end:?}");
    let started = std::fs::read_to_string(&pids).unwrap();
    for pid in started.split_whitespace() {
        let pid = pid.parse().unwrap();
        eventually("its processes are gone", async || {
            (!is_alive(pid)).then_some(())
        })
        .await;
    }
}

/// Goal: a command that writes 100 MB of errors costs no memory, and one that returns too much fails.
#[tokio::test]
async fn a_chatty_command_costs_no_memory() {
    let scripts = Scripts::new();
    let chatty = scripts.add(
        "chatty.py",
        "#!/usr/bin/env python3\nimport sys\nline = 'x' * 999 + '\\n'\n\
         for _ in range(100_000): sys.stderr.write(line)\nprint('\"done\"')\n",
    );
    let flood = scripts.add(
        "flood.py",
        "#!/usr/bin/env python3\nprint('\"' + 'x' * 50_000_000 + '\"')\n",
    );
    let ground = Ground::with(&format!(
        "[[command]]\nname = \"scripts.chatty\"\nprogram = {chatty}\n\
         [[command]]\nname = \"scripts.flood\"\nprogram = {flood}\n"
    ));
    let daemon = ground.daemon(&[]).await;
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        peak.trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<u64>()
            .unwrap()
    };
    let before = memory();
    let chatty = ground.enqueue("scripts.chatty", [json!({})]).await;
    assert_eq!(returned(&ground.ends(&chatty).await[0]), "done");
    let flood = ground.enqueue("scripts.flood", [json!({})]).await;
    let end = failure(&ground.ends(&flood).await[0]).unwrap();
    assert!(
        end.message.contains("more than the 1048576 bytes"),
        "{end:?}"
    );
    assert!(
        memory() < before + 30 * 1024,
        "{before} kB, then {} kB",
        memory()
    );
}

/// Goal: a stop ends a command that still runs and gives its task back uncounted.
#[tokio::test]
async fn a_stop_ends_a_command_and_gives_its_task_back() {
    let scripts = Scripts::new();
    let wait = scripts.add("wait.sh", "#!/bin/sh\nexec sleep 3600\n");
    let ground = Ground::with(&format!(
        "grace = \"200ms\"\n[[command]]\nname = \"scripts.wait\"\nprogram = {wait}\n"
    ));
    let mut daemon = ground.daemon(&[]).await;
    ground.enqueue("scripts.wait", [json!({})]).await;
    ground.running(&daemon, 1).await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.code().await, 0);
    let ready = ground.ready("default").await;
    assert_eq!(
        (ready.len(), ready[0].attempts, ready[0].deliveries),
        (1, 0, 0)
    );
}

/// Goal: what is told of a command that died has the most memory it had.
/// Method: one that takes far more than its worker, and ends by a signal.
#[tokio::test]
async fn a_death_is_told_with_its_peak_memory() {
    let scripts = Scripts::new();
    let hog = scripts.add(
        "hog.py",
        "#!/usr/bin/env python3\nimport os\nheld = bytearray(b'x') * 400_000_000\nos.kill(os.getpid(), 9)\n",
    );
    let ground = Ground::with(&format!(
        "[[command]]\nname = \"scripts.hog\"\nprogram = {hog}\nqueue = \"etl-jobs\"\n"
    ));
    let _daemon = ground.daemon(&[]).await;
    // Nobody has declared its queue but the command itself.
    let hog = ground
        .enqueue_to("etl-jobs", "scripts.hog", [json!({})])
        .await;
    let end = failure(&ground.ends(&hog).await[0]).unwrap();
    let said = format!("{} {}", end.message, end.causes.join(" "));
    let (_, peak) = said.split_once("peak memory ").expect(&said);
    let number: String = peak.chars().take_while(char::is_ascii_digit).collect();
    assert!(number.parse::<u64>().unwrap() >= 380, "{said}");
}
