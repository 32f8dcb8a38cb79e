//! A daemon with its HTTP API, and a client that can send what no proper client would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::cli_support::{Daemon, Place};

/// The token that may read.
pub(crate) const READ: &str = "read-read-read-read-read";
/// The token that may change.
pub(crate) const ADMIN: &str = "admin-admin-admin-admin";

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    /// Returns the document.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the document of a request that was carried out.
    pub(crate) fn done(self) -> Value {
        assert!(matches!(self.status, 200 | 201), "{self:?}");
        self.json()
    }
}

/// Where a daemon serves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
}

impl Site {
    /// Starts a daemon that serves at a free port.
    pub(crate) fn start(place: &Place, arguments: &[&str]) -> (Self, Daemon) {
        let daemon = place.daemon(&[&["--http", "127.0.0.1:0"], arguments].concat());
        (Self::of(place, daemon.pid()), daemon)
    }

    /// Starts a daemon with both tokens.
    pub(crate) fn guarded(place: &Place) -> (Self, Daemon) {
        let config = place.path().join("celeriac.toml");
        let text = format!("[http]\nread_token = \"{READ}\"\nadmin_token = \"{ADMIN}\"\n");
        std::fs::write(config, text).unwrap();
        Self::start(place, &[])
    }

    /// Finds where a daemon serves by its record.
    pub(crate) fn of(place: &Place, pid: u32) -> Self {
        let status = place.json(&["status", "--json"]);
        let workers = status["workers"].as_array().unwrap();
        let worker = workers.iter().find(|worker| worker["pid"] == pid).unwrap();
        let address = worker["http"].as_str().unwrap().parse().unwrap();
        Self { address }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        stream
    }

    /// Sends bytes as they are and reads until the server is done.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        // A server that has seen enough may close before all is sent.
        let _cut = stream.write_all(bytes);
        let mut reply = Vec::new();
        let _reset = stream.read_to_end(&mut reply);
        let reply = String::from_utf8_lossy(&reply);
        let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Reply {
            status: status.unwrap_or(0),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    /// Sends a request with these headers beside `Host` and what the body needs.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Reply {
        let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            text.push_str(&format!("Host: {}\r\n", self.address));
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = body {
            if !headers.iter().any(|(name, _)| *name == "Content-Type") {
                text.push_str("Content-Type: application/json\r\n");
            }
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(body.unwrap_or_default());
        self.raw(text.as_bytes())
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], None)
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Reply {
        self.send("POST", path, &[], Some(body))
    }

    /// Sends a request with a token.
    pub(crate) fn with(&self, token: &str, method: &str, path: &str) -> Reply {
        let value = format!("Bearer {token}");
        self.send(method, path, &[("Authorization", &value)], None)
    }
}

/// Returns every route of the server's own document: method, path, role.
pub(crate) fn routes(document: &Value) -> Vec<(String, String, String)> {
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let role = operation["x-role"].as_str().unwrap().to_owned();
            routes.push((method.to_ascii_uppercase(), path.clone(), role));
        }
    }
    routes
}

/// Fills the parts of a path.
pub(crate) fn filled(path: &str, part: &str) -> String {
    let parts = path
        .split('/')
        .map(|it| if it.starts_with('{') { part } else { it });
    parts.collect::<Vec<_>>().join("/")
}
