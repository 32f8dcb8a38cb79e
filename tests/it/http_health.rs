//! The verdict, its changes and the figures, as one sees them over HTTP.

use std::io::{BufRead as _, BufReader, Write};

use crate::cli_support::Place;
use crate::http_support::{READ, Site};

/// Goal: whoever asks learns how it is; what is wrong with what is only for those who may look.
#[test]
fn everybody_learns_the_verdict_and_nobody_else_the_reasons() {
    let place = Place::new();
    let (site, _daemon) = Site::guarded(&place);
    place.until("it was looked at", || site.get("/health").status == 200);
    let header = ("Authorization", "Bearer admin-admin-admin-admin");
    let opened = site.send(
        "POST",
        "/api/v1/breakers/stripe/open",
        &[header],
        Some("{}"),
    );
    assert_eq!(opened.status, 200, "{opened:?}");
    place.until("the open breaker is a reason", || {
        site.get("/health").body.contains("breaker_open")
    });
    let reply = site.get("/health");
    assert_eq!(reply.status, 200, "degraded is at work: {reply:?}");
    assert_eq!(reply.json()["verdict"], "degraded");
    assert!(!reply.body.contains("stripe"), "{reply:?}");
    assert_eq!(site.get("/api/v1/health").status, 401);
    let full = site.with(READ, "GET", "/api/v1/health").done();
    let reasons = full["reasons"].as_array().unwrap();
    assert!(reasons.iter().any(|reason| reason["subject"] == "stripe"));
    assert!(!full["history"].as_array().unwrap().is_empty());
}

/// Goal: a reader of the stream hears of a reason when it comes.
#[test]
fn events_tell_of_the_health() {
    let place = Place::new();
    let (site, _daemon) = Site::start(&place, &[]);
    let mut stream = site.connect();
    let request = format!(
        "GET /api/v1/events?kinds=verdict HTTP/1.1\r\nHost: {}\r\n\r\n",
        site.address
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.starts_with("retry:")));
    site.post("/api/v1/breakers/stripe/open", "{}").done();
    let raised = lines
        .find(|line| line.contains("\"event\":\"raised\"") && line.contains("breaker_open"))
        .unwrap();
    assert!(raised.contains("\"subject\":\"stripe\""), "{raised}");
}

/// Goal: Prometheus reads figures of queues, tasks and the process, and only with a token that may read.
#[test]
fn figures_are_read_as_prometheus_reads_them() {
    let place = Place::new();
    let (site, _daemon) = Site::guarded(&place);
    assert_eq!(site.get("/metrics").status, 401);
    let read = || site.with(READ, "GET", "/metrics");
    place.until("the broker was read", || {
        read()
            .body
            .contains("celeriac_queue_paused{queue=\"default\"} 0\n")
    });
    let reply = read();
    assert!(
        reply
            .head
            .contains("content-type: text/plain; version=0.0.4"),
        "{reply:?}"
    );
    for wanted in [
        "celeriac_build_info{version=",
        "celeriac_health{verdict=\"unknown\"} 0\n",
        "# TYPE celeriac_worker_restarts_total counter\n",
    ] {
        assert!(reply.body.contains(wanted), "{wanted}: {reply:?}");
    }
}
