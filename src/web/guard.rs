//! Who may come in at all: the names the server is asked by, and the pages that ask. Pure.
//!
//! A page of somebody else can make a browser send requests to a loopback address, and with DNS rebinding read what comes
//! back. So a name in `Host` must be known, a page in `Origin` must be of this server, and a browser that says that the
//! request crosses sites is believed.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header::{HOST, HeaderMap, HeaderName, ORIGIN};

use super::problem::Problem;

/// Refuses what a foreign page, or a name that points here by trickery, has sent.
pub(super) fn check(request: &HttpRequest, hosts: &[String]) -> Result<(), Problem> {
    let headers = request.headers();
    let host = match (only(headers, &HOST)?, request.uri().authority()) {
        (_, Some(authority)) => authority.as_str().to_owned(),
        (Some(host), None) => host.to_owned(),
        (None, None) => return Err(foreign("the request names no host")),
    };
    if !is_known(&host, hosts) {
        return Err(foreign(
            "the server is not asked by this name; `http.hosts` lists those it has beside IP addresses and localhost",
        ));
    }
    if let Some(origin) = only(headers, &ORIGIN)?
        && !is_same(origin, &host)
    {
        return Err(foreign("the request comes from a page of another origin"));
    }
    let site = only(headers, &HeaderName::from_static("sec-fetch-site"))?;
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return Err(foreign("the request comes from a page of another site"));
    }
    Ok(())
}

fn foreign(detail: &str) -> Problem {
    Problem::new(403, "foreign-request", detail)
}

/// Returns the only value of a header; several are a trick.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text)),
        _ => Err(foreign(
            "a header that says where the request comes from is not clear",
        )),
    }
}

/// Returns whether a host, with its port, is an IP address, localhost, or one of `hosts`.
fn is_known(host: &str, hosts: &[String]) -> bool {
    let name = name_of(host).to_ascii_lowercase();
    let literal = name.trim_start_matches('[').trim_end_matches(']');
    literal.parse::<IpAddr>().is_ok() || name == "localhost" || hosts.contains(&name)
}

/// Returns a host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Returns whether an origin is the host that was asked.
fn is_same(origin: &str, host: &str) -> bool {
    let rest = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn passes(headers: &[(&'static str, &str)]) -> bool {
        let mut request = TestRequest::default();
        for header in headers {
            request = request.append_header(*header);
        }
        check(&request.to_http_request(), &["ops.example".to_owned()]).is_ok()
    }

    #[test]
    fn names_that_are_known_come_in() {
        for host in [
            "127.0.0.1:7654",
            "localhost",
            "LOCALHOST:1",
            "[::1]:7654",
            "10.0.0.7",
            "ops.example:80",
        ] {
            assert!(passes(&[("host", host)]), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "",
            ":80",
            "ops.example.",
            "a@b",
        ] {
            assert!(!passes(&[("host", host)]), "{host}");
        }
        assert!(!passes(&[]));
        assert!(!passes(&[("host", "localhost"), ("host", "evil.example")]));
    }

    #[test]
    fn pages_of_others_do_not() {
        let from = |key, value| passes(&[("host", "localhost:7654"), (key, value)]);
        assert!(from("origin", "http://localhost:7654"));
        assert!(from("sec-fetch-site", "same-origin") && from("sec-fetch-site", "none"));
        for origin in [
            "null",
            "http://localhost:1",
            "http://evil.example",
            "localhost:7654",
            "file://",
        ] {
            assert!(!from("origin", origin), "{origin}");
        }
        for site in ["cross-site", "same-site", "", "none, cross-site"] {
            assert!(!from("sec-fetch-site", site), "{site}");
        }
    }
}
