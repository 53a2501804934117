//! A server that the tests start as its owner would, and that vmailspec knows from outside only.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

pub(crate) mod fake;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tempfile::TempDir;
use vmailspec::environment::certs::{Authority, Identity};
use vmailspec::environment::names::statements;
use vmailspec::environment::random::free_port;
use vmailspec::environment::template::{self, Settings, Tables};

pub(crate) const VMAILSPEC: &str = env!("CARGO_BIN_EXE_vmailspec");
/// Of vmail, where we are root and can give files away.
const VMAIL: u32 = 5000;

/// A reference server, configured by hand.
pub(crate) struct Theirs {
    child: Child,
    pub(crate) smtp: SocketAddr,
    pub(crate) smtps: SocketAddr,
    /// Where it asks for next hops, and their port.
    pub(crate) name_server: SocketAddr,
    pub(crate) next_hop_port: u16,
    owner: (u32, u32),
    folder: TempDir,
}

/// An empty database with the four tables.
pub(crate) fn sqlite(folder: &Path, name: &str) -> PathBuf {
    let file = folder.join(name);
    let schema = vmailspec::fixtures::file("sql/schema.sqlite.sql").unwrap();
    let database = Connection::open(&file).unwrap();
    database
        .execute_batch(&statements(schema).join(";\n"))
        .unwrap();
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&file, mode).unwrap();
    file
}

/// How many rows its four tables have.
pub(crate) fn rows(database: &Path) -> u32 {
    let database = Connection::open(database).unwrap();
    database.busy_timeout(Duration::from_secs(5)).unwrap();
    ["domains", "forwardings", "transport", "users"]
        .iter()
        .map(|table| {
            let count = format!("SELECT count(*) FROM {table}");
            database
                .query_row(&count, [], |row| row.get::<_, u32>(0))
                .unwrap()
        })
        .sum()
}

/// A certificate for the tutorial's host, and its authority's.
pub(crate) fn certificate() -> (Identity, String) {
    let authority = Authority::new().unwrap();
    let identity = authority.sign("server.domain.com").unwrap();
    let (_, own) = identity.certificate.split_at(
        identity
            .certificate
            .rfind("-----BEGIN CERTIFICATE-----")
            .unwrap(),
    );
    let own = own.to_owned();
    (identity, own)
}

impl Theirs {
    /// On these tables, which `tables` makes in a folder that goes with it.
    pub(crate) fn start(tables: impl FnOnce(&Path) -> Tables) -> Self {
        let (identity, authority) = certificate();
        let theirs = Self::with(tables, &identity);
        std::fs::write(theirs.path("ca.pem"), authority).unwrap();
        theirs
    }

    pub(crate) fn with(tables: impl FnOnce(&Path) -> Tables, identity: &Identity) -> Self {
        let folder = TempDir::new().unwrap();
        let readable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), readable).unwrap();
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let port = || free_port(here).unwrap();
        let (smtp, smtps) = ((here, port()).into(), (here, port()).into());
        let name_server: SocketAddr = (here, port()).into();
        let next_hop_port = free_port(Ipv4Addr::new(127, 9, 0, 1).into()).unwrap();
        let owner = if rustix::process::geteuid().is_root() {
            (VMAIL, VMAIL)
        } else {
            let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
            (uid.as_raw(), gid.as_raw())
        };
        let settings = Settings {
            config: folder.path().join("config"),
            queue: folder.path().join("queue"),
            mailboxes: folder.path().join("vmail"),
            smtp,
            smtps,
            next_hop_port,
            name_server,
            owner,
            tables: tables(folder.path()),
            main_cf: Vec::new(),
            master_cf: Vec::new(),
        };
        for path in [&settings.queue, &settings.mailboxes] {
            std::fs::create_dir(path).unwrap();
            std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1)).unwrap();
        }
        template::write(&settings, identity, None).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(VMAILSPEC)
            .args(["serve", "--config"])
            .arg(&settings.config)
            .args(["--resolver", &name_server.to_string()])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let theirs = Self {
            child,
            smtp,
            smtps,
            name_server,
            next_hop_port,
            owner,
            folder,
        };
        theirs.eventually("it listens", || theirs.log().contains("listening on"));
        theirs
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap()
    }

    pub(crate) fn eventually(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(
                Instant::now() < deadline,
                "not within 30 s: {what}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The description of everything that can be reached of it; `rows` says how rows come there,
    /// `command` runs where its Maildirs are.
    pub(crate) fn describe(&self, capabilities: &str, rows: &str, command: &str) -> PathBuf {
        let file = self.path("theirs.toml");
        std::fs::write(&file, self.description(capabilities, rows, command)).unwrap();
        file
    }

    /// The same, as text.
    pub(crate) fn description(&self, capabilities: &str, rows: &str, command: &str) -> String {
        let mut text = format!(
            "name = \"theirs\"\nstart = \"nothing\"\ncapabilities = [{capabilities}]\n\
             profiles = [\"tutorial\", \"postfix\", \"vda\"]\nlog = \"{}\"\nqueue = \"{}\"\n\n\
             [listen]\nsmtp = \"{}\"\nsmtps = \"{}\"\nname = \"server.domain.com\"\ncertificates = \"ca.pem\"\n\n\
             {rows}\n\n[clients]\nstranger = \"127.0.0.3\"\nneighbour = \"127.0.0.2\"\n",
            self.path("log").display(),
            self.path("queue").display(),
            self.smtp,
            self.smtps
        );
        if capabilities.contains("maildir") {
            let path = self.path("vmail");
            let _ = write!(
                text,
                "\n[maildirs]\npath = \"{}\"\n{command}\n",
                path.display()
            );
            if command.is_empty() {
                let (uid, gid) = self.owner;
                let _ = writeln!(text, "owner = \"{uid}:{gid}\"");
            }
        }
        if capabilities.contains("sink") {
            let _ = write!(
                text,
                "\n[sink]\nname_server = \"{}\"\nport = {}\n",
                self.name_server, self.next_hop_port
            );
        }
        text
    }

    /// What lies in its Maildirs. What is in its queue is the server's: a report whose next hop went
    /// away with the run stays there until the server gives it up.
    pub(crate) fn left(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path("vmail")).unwrap().flatten();
        entries.map(|entry| entry.path()).collect()
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Asks a process to end, and waits for it.
pub(crate) fn end(child: &mut Child) {
    let pid = rustix::process::Pid::from_child(child);
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
    let _ = child.wait();
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(VMAILSPEC);
    command
        .args(arguments)
        .env_remove("VMAILSPEC_PASSWORD")
        .stdin(Stdio::null());
    command
}

pub(crate) fn vmailspec(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(text).unwrap()
}

/// What a run came to.
pub(crate) struct Result {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
    pub(crate) json: serde_json::Value,
}

impl Result {
    pub(crate) fn count(&self, verdict: &str) -> u64 {
        self.json["summary"][verdict].as_u64().unwrap_or(0)
    }

    /// The reasons for which clauses were not judged.
    pub(crate) fn reasons(&self) -> Vec<&str> {
        let cases = self.json["cases"].as_array().unwrap().iter();
        cases.filter_map(|case| case["blocked"].as_str()).collect()
    }

    pub(crate) fn verdicts(&self) -> impl Iterator<Item = (&str, &str)> {
        let cases = self.json["cases"].as_array().unwrap().iter();
        let clauses = cases.flat_map(|case| case["clauses"].as_array().unwrap());
        clauses.map(|one| {
            (
                one["id"].as_str().unwrap(),
                one["verdict"].as_str().unwrap(),
            )
        })
    }
}

/// `vmailspec run` with these words, and its result as JSON.
pub(crate) fn run(words: &[&str]) -> Result {
    let folder = TempDir::new().unwrap();
    let json = folder.path().join("run.json");
    let words = [&["run"], words, &["--json", json.to_str().unwrap()]].concat();
    let output = vmailspec(&words);
    let json = std::fs::read(json).ok();
    Result {
        code: output.status.code(),
        text: said(&output),
        json: json
            .and_then(|json| serde_json::from_slice(&json).ok())
            .unwrap_or_default(),
    }
}
