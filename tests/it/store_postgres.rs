//! A PostgreSQL server of our own: on a free loopback port, in a temporary directory, gone with its last user.

use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;

/// A database for one test.
pub(crate) struct Database {
    server: Arc<Server>,
    name: String,
}

impl Database {
    /// Creates an empty database, on the server of other tests that run or on a new one.
    pub(crate) fn create() -> Self {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        static COUNT: AtomicU32 = AtomicU32::new(0);

        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let server = shared
            .upgrade()
            .unwrap_or_else(|| Arc::new(Server::start()));
        *shared = Arc::downgrade(&server);
        drop(shared);
        let name = format!("celeriac_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        PgConnection::establish(&server.url("postgres"))
            .unwrap()
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .unwrap();
        Self { server, name }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url(&self.name)
    }
}

/// A running server; stops when dropped, so also when a test panics.
struct Server {
    programs: PathBuf,
    dir: tempfile::TempDir,
    user: Option<(u32, u32)>,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("celeriac-pg")
            .tempdir()
            .unwrap();
        let user = unprivileged();
        if let Some((uid, gid)) = user {
            chown(dir.path(), Some(uid), Some(gid)).unwrap();
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let server = Self {
            programs: programs(),
            dir,
            user,
            port,
        };
        let data = server.dir.path().join("data");
        server.run("initdb", |command| {
            command.arg("-D").arg(&data).args([
                "-U",
                "celeriac",
                "-A",
                "trust",
                "--no-sync",
                "-E",
                "UTF8",
                "--locale=C",
            ])
        });
        server.run("pg_ctl", |command| {
            let options = format!(
                "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -F -c max_connections=200"
            );
            let log = server.dir.path().join("log");
            command.arg("start").arg("-w").arg("-D").arg(&data).arg("-l").arg(log).arg("-o").arg(options)
        });
        server
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://celeriac@127.0.0.1:{}/{database}", self.port)
    }

    fn run(&self, program: &str, with: impl FnOnce(&mut Command) -> &mut Command) {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.dir.path());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        let log = self.dir.path().join("run.log");
        let out = std::fs::File::create(&log).unwrap();
        command.stdout(out.try_clone().unwrap()).stderr(out);
        let status = with(&mut command).status().unwrap();
        assert!(
            status.success(),
            "{program}: {}",
            std::fs::read_to_string(log).unwrap_or_default()
        );
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.dir.path().join("data");
        self.run("pg_ctl", |command| {
            command.args(["stop", "-m", "immediate", "-D"]).arg(&data)
        });
    }
}

/// Returns the folder of the server's programs.
fn programs() -> PathBuf {
    let has_server =
        |folder: &PathBuf| folder.join("initdb").exists() && folder.join("pg_ctl").exists();
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(has_server)
        .collect();
    versions.sort();
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(has_server)
    };
    versions.pop().or_else(on_path).expect(
        "PostgreSQL's initdb and pg_ctl are neither in /usr/lib/postgresql/*/bin nor on PATH: \
         install the Debian package `postgresql`",
    )
}

/// Returns a user for the server, which refuses to run as root; `None` when we are not root.
fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string(Path::new("/etc/passwd")).unwrap();
    let find = |name: &str| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(
        find("postgres")
            .or_else(|| find("nobody"))
            .expect("there is a user `postgres` or `nobody`"),
    )
}
