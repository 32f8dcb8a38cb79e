//! A PostgreSQL server of our own: on a free loopback port, in a temporary directory, gone with this process.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::ports::{STARTS, free_port};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;

/// A database for one test.
pub(crate) struct Database {
    server: &'static Server,
    name: String,
}

impl Database {
    /// Creates an empty database, on the one server of all tests of this process.
    pub(crate) fn create() -> Self {
        static SERVER: OnceLock<(Server, Guard)> = OnceLock::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);

        let start = || {
            let server = Server::start();
            let guard = Guard::of(&server);
            (server, guard)
        };
        let server = &SERVER.get_or_init(start).0;
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

/// Ends the server and removes its directory when this process is gone, however it goes.
struct Guard(#[expect(dead_code, reason = "its standard input ends with this process")] Child);

impl Guard {
    fn of(server: &Server) -> Self {
        let pid = std::fs::read_to_string(server.dir.path().join("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap();
        // It leaves shared memory behind when it is killed: it is asked, and gone at once all the same.
        let script = format!(
            "trap '' INT TERM HUP; cat; kill -QUIT {pid}; \
             for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 {pid} || break; sleep 0.2; done; rm -rf \"$1\""
        );
        let child = Command::new("/bin/sh")
            .args(["-c", &script, "sh"])
            .arg(server.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

/// A running server.
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
        let mut server = Self {
            programs: programs(),
            dir,
            user,
            port: 0,
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
        for _ in 0..STARTS {
            server.port = free_port();
            if server.launch(&data) {
                return server;
            }
        }
        panic!("PostgreSQL does not start:\n{}", server.log());
    }

    /// Starts the processes and waits until they serve. Returns `false` when they ended instead.
    fn launch(&self, data: &Path) -> bool {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -F -c max_connections=200",
            self.port
        );
        let log = self.dir.path().join("log");
        self.ends_well("pg_ctl", |command| {
            let command = command.args(["start", "-w", "-t", "120", "-D"]).arg(data);
            command.arg("-l").arg(log).arg("-o").arg(options)
        })
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://celeriac@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs one of the server's programs.
    fn run(&self, program: &str, with: impl FnOnce(&mut Command) -> &mut Command) {
        assert!(self.ends_well(program, with), "{program}: {}", self.log());
    }

    /// Runs one of the server's programs; returns whether it succeeded.
    fn ends_well(&self, program: &str, with: impl FnOnce(&mut Command) -> &mut Command) -> bool {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.dir.path());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        let out = std::fs::File::create(self.dir.path().join("run.log")).unwrap();
        command.stdout(out.try_clone().unwrap()).stderr(out);
        with(&mut command).status().unwrap().success()
    }

    /// Returns what the program that ran last and the server said.
    fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.dir.path().join(name));
        ["run.log", "log"]
            .map(|name| read(name).unwrap_or_default())
            .concat()
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
