//! The server's life: before the broker is there, while the process ends, and with a reader that does not read.

use std::io::{BufRead as _, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;

use serde_json::json;

use crate::cli_support::Place;
use crate::http_support::Site;

fn terminate(pid: u32) {
    let told = Command::new("kill")
        .arg("-TERM")
        .arg(pid.to_string())
        .status();
    assert!(told.unwrap().success());
}

#[test]
fn readiness_ends_with_the_first_signal_and_the_server_last() {
    let place = Place::new();
    let (site, daemon) = Site::start(&place, &[]);
    place.until("it is ready", || site.get("/readyz").status == 200);
    let task = json!({ "task": "demo.sleep", "args": { "ms": 600_000 } }).to_string();
    assert_eq!(site.post("/api/v1/tasks", &task).status, 201);
    place.until("it runs", || {
        site.get("/api/v1/overview").done()["running"] == 1
    });
    terminate(daemon.pid());
    place.until("it is not ready any more", || {
        site.get("/readyz").status == 503
    });
    assert_eq!(site.get("/livez").status, 200);
    assert!(site.get("/readyz").body.contains("the process ends"));
    // Told again it gives back what runs, and then nobody serves any more.
    terminate(daemon.pid());
    place.until("nobody serves", || {
        std::net::TcpStream::connect(site.address).is_err()
    });
}

#[cfg(feature = "redis")]
#[test]
fn a_daemon_that_waits_for_its_broker_lives_and_is_not_ready() {
    let place = Place::new();
    // Free a moment ago: the broker's nobody takes, the server's is asked for at once.
    let [broker, http] = [(); 2].map(|()| {
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    });
    let url = format!("redis://{broker}");
    let mut command = place.command(&["--broker", &url, "run", "--http", &http.to_string()]);
    let mut daemon = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    place.until("somebody serves", || {
        std::net::TcpStream::connect(http).is_ok()
    });
    let site = Site { address: http };
    assert_eq!(site.get("/livez").status, 200);
    assert_eq!(site.get("/readyz").status, 503);
    assert_eq!(
        site.get("/api/v1/queues").json()["type"],
        "urn:celeriac:problem:starting"
    );
    terminate(daemon.id());
    assert!(daemon.wait().unwrap().success());
}

#[test]
fn a_reader_that_does_not_read_holds_up_nobody_and_hears_what_it_missed() {
    const TASKS: u64 = 10_000;
    let place = Place::new();
    let (site, _daemon) = Site::start(&place, &[]);
    let mut stream = site.connect();
    let request = format!(
        "GET /api/v1/events HTTP/1.1\r\nHost: {}\r\n\r\n",
        site.address
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::with_capacity(64, stream).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("retry:")));
    let count = TASKS.to_string();
    let all = [
        "enqueue",
        "demo.echo",
        "--args",
        r#"{"value":1}"#,
        "--count",
        &count,
    ];
    assert_eq!(place.lines(&all).len() as u64, TASKS);
    place.until("all have run", || {
        let queues = site.get("/api/v1/queues").done();
        queues["queues"]
            .as_array()
            .unwrap()
            .iter()
            .any(|queue| queue["counters"]["succeeded"] == TASKS)
    });
    // It is told, or was cut off because it read nothing for too long; the events between are not kept for it.
    let (mut heard, mut told) = (0, false);
    for line in lines.map_while(Result::ok) {
        heard += u64::from(line.starts_with("data:"));
        told |= line == "event: missed";
        if told {
            break;
        }
    }
    assert!(heard < 3 * TASKS, "{heard}");
    assert_eq!(site.get("/livez").status, 200);
}
