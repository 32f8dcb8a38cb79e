//! Who may come in: roles, foreign pages, names that are none, guessing, slow clients, and where the server listens.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::cli_support::{Place, code, said};
use crate::http_support::{ADMIN, READ, Site, filled, routes};

const TASK: &str = "018f0000-0000-7000-8000-000000000001";

#[test]
fn every_route_asks_for_its_role_and_refuses_foreign_pages() {
    let place = Place::new();
    let (site, _daemon) = Site::guarded(&place);
    let document = site.with(READ, "GET", "/api/v1/openapi.json").done();
    let all = routes(&document);
    assert!(all.len() > 25, "{all:?}");
    for (method, path, role) in all {
        let at = filled(&path, TASK);
        let what = format!("{method} {path}");
        if path != "/api/v1/events" {
            let status = site.with(ADMIN, &method, &at).status;
            assert!(
                !matches!(status, 0 | 401 | 403 | 404 | 405 | 500)
                    || status == 404 && path.contains('{'),
                "{what}: {status}"
            );
        }
        let bare = site.send(&method, &at, &[], None);
        let read = (path != "/api/v1/events").then(|| site.with(READ, &method, &at).status);
        match role.as_str() {
            "none" => assert!(matches!(bare.status, 200 | 503), "{what}: {bare:?}"),
            "read" => assert!(
                bare.status == 401 && !matches!(read, Some(401 | 403)),
                "{what}: {bare:?} {read:?}"
            ),
            _ => assert!(
                bare.status == 401 && read == Some(403),
                "{what}: {bare:?} {read:?}"
            ),
        }
        for foreign in [
            ("Origin", "http://evil.example"),
            ("Origin", "null"),
            ("Sec-Fetch-Site", "cross-site"),
            ("Host", "evil.example"),
        ] {
            let token = format!("Bearer {ADMIN}");
            let reply = site.send(&method, &at, &[("Authorization", &token), foreign], None);
            assert_eq!(reply.status, 403, "{what} {foreign:?}: {reply:?}");
            assert!(reply.head.contains("application/problem+json"), "{reply:?}");
            assert!(
                reply.head.contains("x-content-type-options: nosniff"),
                "{reply:?}"
            );
        }
        if path != "/api/v1/events" {
            let odd = site.with(ADMIN, &method, &format!("{at}?nonsense=1"));
            assert_eq!(
                (odd.status, odd.json()["type"].as_str()),
                (400, Some("urn:celeriac:problem:unknown-parameter")),
                "{what}"
            );
        }
        let wrong = site.with(ADMIN, "DELETE", &at);
        assert_eq!(wrong.status, 405, "{what}: {wrong:?}");
    }
    assert_eq!(site.with(ADMIN, "GET", "/api/v2").status, 404);
    // No token is shown, whoever asks.
    let shown = site.with(ADMIN, "GET", "/api/v1/config");
    assert!(shown.status == 200 && !shown.body.contains(ADMIN) && !shown.body.contains(READ));
    assert!(shown.body.contains("\"***\""), "{}", shown.body);
}

#[test]
fn guessing_is_slowed_and_locks_nobody_out() {
    let place = Place::new();
    let (site, _daemon) = Site::guarded(&place);
    #[expect(
        clippy::disallowed_methods,
        reason = "the real program runs in real time"
    )]
    let start = Instant::now();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let guess = |number: u32| {
            site.with(
                &format!("wrong-wrong-wrong-{number}"),
                "GET",
                "/api/v1/queues",
            )
            .status
        };
        let guesses: Vec<_> = (0..12)
            .map(|number| scope.spawn(move || guess(number)))
            .collect();
        guesses.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert!(
        statuses.iter().all(|status| matches!(status, 401 | 429)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&429), "{statuses:?}");
    assert!(start.elapsed() >= Duration::from_millis(800));
    assert_eq!(site.with(ADMIN, "GET", "/api/v1/queues").status, 200);
    for header in ["Bearer", "Basic YWRtaW46YWRtaW4=", ADMIN] {
        assert_eq!(
            site.send("GET", "/api/v1/queues", &[("Authorization", header)], None)
                .status,
            401
        );
    }
}

#[test]
fn thousands_of_slow_clients_do_not_delay_a_probe() {
    let place = Place::new();
    let (site, _daemon) = Site::start(&place, &[]);
    let slow: Vec<_> = (0..2_000)
        .map(|_| {
            let mut stream = site.connect();
            stream
                .write_all(b"GET /api/v1/queues HTTP/1.1\r\nHost: 127")
                .unwrap();
            stream
        })
        .collect();
    #[expect(
        clippy::disallowed_methods,
        reason = "the real program runs in real time"
    )]
    let now = Instant::now;
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let start = now();
        assert_eq!(site.get("/livez").status, 200);
        best = best.min(start.elapsed());
    }
    // The best of many: a loaded machine delays single ones, a server that is full all of them.
    assert!(best < Duration::from_millis(50), "{best:?}");
    // A head that does not come ends its connection.
    let mut one = slow.into_iter().next().unwrap();
    let mut reply = Vec::new();
    let _reset = one.read_to_end(&mut reply);
    let reply = String::from_utf8_lossy(&reply);
    assert!(
        reply.is_empty() || reply.starts_with("HTTP/1.1 408"),
        "{reply}"
    );
}

#[test]
fn bodies_are_bounded_and_of_one_kind() {
    let place = Place::new();
    let (site, _daemon) = Site::start(&place, &[]);
    let path = "/api/v1/dead/purge";
    assert_eq!(site.post(path, &" ".repeat(70_000)).status, 413);
    let chunked = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n20000\r\n{}\r\n0\r\n\r\n",
        " ".repeat(0x20000)
    );
    assert_eq!(site.raw(chunked.as_bytes()).status, 413);
    let form = [("Content-Type", "text/plain")];
    assert_eq!(
        site.send("POST", path, &form, Some("{\"all\":true}"))
            .status,
        415
    );
    for body in [
        "{",
        "[]",
        "{\"all\":true,\"al\":1}",
        "{\"all\":1}",
        "{}",
        "{\"reason\":\"<b>\"}",
    ] {
        assert_eq!(site.post(path, body).status, 400, "{body}");
    }
}

#[test]
fn addresses_are_bound_by_the_rules() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let asked = place.run(&["run", "--http", &address]);
    assert_eq!(code(&asked), 64, "{}", said(&asked));
    assert!(
        said(&asked).contains("another process serves there"),
        "{}",
        said(&asked)
    );
    let open = place.run(&["run", "--http", "0.0.0.0:0"]);
    assert_eq!(code(&open), 64, "{}", said(&open));
    assert!(said(&open).contains("without a token"), "{}", said(&open));
    let file = place.path().join("token");
    let mut missing = place.command(&["run", "--http", "127.0.0.1:0"]);
    let missing = missing
        .env("CELERIAC_HTTP_ADMIN_TOKEN_FILE", &file)
        .output()
        .unwrap();
    assert_eq!(code(&missing), 64, "{}", said(&missing));
    std::fs::write(&file, "short\n").unwrap();
    let mut short = place.command(&["run", "--http", "127.0.0.1:0"]);
    let short = short
        .env("CELERIAC_HTTP_ADMIN_TOKEN_FILE", &file)
        .output()
        .unwrap();
    assert_eq!(code(&short), 64);
    assert!(
        !said(&short).contains("short\n") && said(&short).contains("5 characters"),
        "{}",
        said(&short)
    );
    // Nobody asked for the default: whoever comes second takes a free one, and says where.
    let (first, second) = (place.daemon(&[]), place.daemon(&[]));
    let sites = [
        Site::of(&place, first.pid()),
        Site::of(&place, second.pid()),
    ];
    assert_ne!(sites[0].address, sites[1].address);
    for site in sites {
        assert_eq!(site.get("/livez").status, 200);
    }
    let text = place.lines(&["status"]).join("\n");
    assert!(
        text.contains(&format!("serves http://{}", sites[1].address)),
        "{text}"
    );
    let none = place.daemon(&["--no-http"]);
    let status = place.json(&["status", "--json"]);
    let workers = status["workers"].as_array().unwrap();
    let mut its = workers.iter().filter(|worker| worker["pid"] == none.pid());
    assert!(its.next().unwrap()["http"].is_null());
}
