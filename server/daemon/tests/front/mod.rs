//! A server on ephemeral loopback ports, with the tutorial's rows in SQLite, and a client of bare sockets.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses a part of it; a set-up that fails is a test that fails"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rusqlite::Connection;

const TABLES: [(&str, &str, &str, &str); 6] = [
    ("domains", "domains", "'virtual'", "domain"),
    ("forwardings", "forwardings", "destination", "email"),
    ("email2email", "users", "email", "email"),
    (
        "mailboxes",
        "users",
        "CONCAT(SUBSTRING_INDEX(email,'@',-1),'/',SUBSTRING_INDEX(email,'@',1),'/')",
        "email",
    ),
    ("limits", "users", "quota", "email"),
    ("transports", "transport", "transport", "domain"),
];

const ROWS: &str = "
    CREATE TABLE domains (domain TEXT PRIMARY KEY COLLATE NOCASE);
    CREATE TABLE forwardings (email TEXT PRIMARY KEY COLLATE NOCASE, destination TEXT);
    CREATE TABLE transport (domain TEXT PRIMARY KEY COLLATE NOCASE, transport TEXT);
    CREATE TABLE users (email TEXT PRIMARY KEY COLLATE NOCASE, password TEXT, quota INT DEFAULT 102400);
    INSERT INTO domains VALUES ('mydomain.com');
    INSERT INTO users (email, password) VALUES ('address@mydomain.com', 'abeTm2pJKypwA');
    INSERT INTO forwardings VALUES ('myforward@mydomain.com', 'address@mydomain.com');
";

/// A folder with a configuration in it.
pub struct Setup {
    pub folder: tempfile::TempDir,
}

impl Setup {
    /// The tutorial's configuration, with SQLite in place of MySQL.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let setup = Self { folder };
        // The server may give up root, and must still get at its files then.
        fs::set_permissions(setup.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let owner = fs::metadata(setup.path()).unwrap().uid();
        let id = if owner == 0 { 65_534 } else { owner };
        let at = setup.path().display().to_string();
        let from = format!("proxy:sqlite:{at}");
        setup.write(
            "main.cf",
            &format!(
                "myhostname = server.domain.com\nmyorigin = $myhostname\nmydestination =\n\
                 mynetworks = 127.0.0.2/32\nrecipient_delimiter = +\n\
                 smtpd_sasl_auth_enable = yes\nbroken_sasl_auth_clients = yes\n\
                 smtpd_sasl_local_domain = $myhostname\nsmtpd_use_tls = yes\n\
                 smtpd_tls_cert_file = {at}/smtpd.cert\nsmtpd_tls_key_file = {at}/smtpd.key\n\
                 smtpd_recipient_restrictions = permit_mynetworks, permit_sasl_authenticated,\n  reject_unauth_destination\n\
                 smtpd_relay_restrictions =\nvirtual_alias_domains =\n\
                 virtual_alias_maps = {from}/forwardings.cf, {from}/email2email.cf\n\
                 virtual_mailbox_domains = {from}/domains.cf\n\
                 virtual_mailbox_maps = {from}/mailboxes.cf\n\
                 virtual_mailbox_limit_maps = {from}/limits.cf\n\
                 transport_maps = {from}/transports.cf\nvirtual_mailbox_base = {at}/vmail\n\
                 virtual_uid_maps = static:{id}\nvirtual_gid_maps = static:{id}\n\
                 queue_directory = {at}/queue\n",
            ),
        );
        setup.write(
            "master.cf",
            "127.0.0.1:0 inet n - y - - smtpd\n[127.0.0.1]:0 inet n - y - - smtpd\n  \
             -o smtpd_tls_wrappermode=yes -o smtpd_client_restrictions=permit_sasl_authenticated,reject\n",
        );
        for (name, table, select, key) in TABLES {
            setup.write(
                &format!("{name}.cf"),
                &format!("dbpath = {at}/mail.db\ntable = {table}\nselect_field = {select}\nwhere_field = {key}\n"),
            );
        }
        setup.write(
            "sasl/smtpd.conf",
            "pwcheck_method: saslauthd\nmech_list: plain login\nallow_plaintext: true\n",
        );
        setup.write(
            "pam.d/smtp",
            &format!(
                "auth required pam_sqlite3.so database={at}/mail.db table=users usercolumn=email \
                 passwdcolumn=password crypt=1\n"
            ),
        );
        setup.sql(ROWS);
        setup
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Adds lines to main.cf.
    pub fn main_cf(self, lines: &str) -> Self {
        self.add(lines);
        self
    }

    /// The same where the server is running.
    pub fn add(&self, lines: &str) {
        let mut main = append(&self.path().join("main.cf"));
        writeln!(main, "{lines}").unwrap();
    }

    /// A self-signed certificate.
    pub fn certificate(self) -> Self {
        let made = rcgen::generate_simple_self_signed(["server.domain.com".to_owned()]).unwrap();
        self.write("smtpd.cert", &made.cert.pem());
        self.write("smtpd.key", &made.signing_key.serialize_pem());
        self
    }

    pub fn sql(&self, statements: &str) {
        Connection::open(self.path().join("mail.db"))
            .unwrap()
            .execute_batch(statements)
            .unwrap();
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vmaild"));
        command.arg("--config").arg(self.path());
        command
    }

    /// Starts the server and waits until it listens.
    pub fn start(self) -> Server {
        let mut server = self.begin();
        server.wait_until_ready();
        server
    }

    /// Starts the server.
    pub fn begin(self) -> Server {
        let command = self.command();
        self.begin_by(command)
    }

    /// Starts the server by this command.
    pub fn begin_by(self, mut command: Command) -> Server {
        Server {
            child: self.spawn(&mut command),
            ports: Vec::new(),
            setup: self,
        }
    }

    fn spawn(&self, command: &mut Command) -> Child {
        let log = append(&self.path().join("log"));
        command.stdout(Stdio::piped()).stderr(log).spawn().unwrap()
    }
}

fn append(path: &Path) -> fs::File {
    let mut options = fs::File::options();
    options.create(true).append(true).open(path).unwrap()
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    pub setup: Setup,
    ports: Vec<SocketAddr>,
}

impl Server {
    /// Waits until it listens.
    pub fn wait_until_ready(&mut self) {
        let mut stdout = BufReader::new(self.child.stdout.as_mut().unwrap());
        let mut ready = String::new();
        stdout.read_line(&mut ready).unwrap();
        let words = ready.split([' ', ',']);
        self.ports = words.filter_map(|word| word.parse().ok()).collect();
        assert_eq!(self.ports.len(), 2, "{ready}{}", self.log());
    }

    /// Kills it, as a power cut of the process, and starts it on what it left.
    pub fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = self.setup.spawn(&mut self.setup.command());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.setup.path().join("log")).unwrap()
    }

    /// Waits for a line in the log.
    pub fn wait_for_log(&self, text: &str) {
        self.wait_for(text, || self.log().contains(text));
    }

    /// Waits until `what` has come about.
    pub fn wait_for(&self, what: &str, has_come: impl Fn() -> bool) {
        let begun = Instant::now();
        while !has_come() {
            let late = begun.elapsed() > Duration::from_mins(1);
            let queue = self.files("queue");
            assert!(!late, "{what:?} did not come: {queue:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The port in clear.
    pub fn smtp(&self) -> SocketAddr {
        self.ports[0]
    }

    /// The port with TLS from the first byte.
    pub fn smtps(&self) -> SocketAddr {
        self.ports[1]
    }

    /// A client in clear that has said EHLO.
    pub fn greeted(&self) -> Client {
        let mut client = Client::connect(self.smtp());
        client.says("", "220 server.domain.com ESMTP Postfix");
        client.says("EHLO client.example", "250-server.domain.com");
        client
    }

    pub fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        kill.args([name, &self.child.id().to_string()]);
        assert!(kill.status().unwrap().success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// All files below `folder`, as paths relative to it.
    pub fn files(&self, folder: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.setup.path().join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path);
                }
            }
        }
        found
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client that reads whole replies.
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    /// `None` where nobody listens.
    pub fn try_connect(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        let limit = Some(Duration::from_secs(20));
        stream.set_read_timeout(limit).ok()?;
        Some(Self(BufReader::new(stream)))
    }

    pub fn send(&mut self, octets: &str) {
        self.try_send(octets).unwrap();
    }

    /// `None` where the server is gone.
    pub fn try_send(&mut self, octets: &str) -> Option<()> {
        self.0.get_mut().write_all(octets.as_bytes()).ok()
    }

    /// One reply, its lines joined by `|`.
    pub fn reply(&mut self) -> String {
        self.try_reply().unwrap()
    }

    /// `None` where the server is gone.
    pub fn try_reply(&mut self) -> Option<String> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).ok();
            read.filter(|&count| count > 0)?;
            let last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line.trim_end().to_owned());
            if last {
                return Some(lines.join("|"));
            }
        }
    }

    /// Sends a line (unless it is empty) and checks how the reply begins.
    #[track_caller]
    pub fn says(&mut self, line: &str, expected: &str) -> String {
        if !line.is_empty() {
            self.send(&format!("{line}\r\n"));
        }
        let reply = self.reply();
        let right = reply.starts_with(expected);
        assert!(right, "{line}: {reply}, expected {expected}");
        reply
    }

    /// Everything until the server closes.
    pub fn rest(&mut self) -> String {
        let mut rest = String::new();
        let end = self.0.read_to_string(&mut rest);
        let silent = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        assert!(!end.as_ref().is_err_and(silent), "not closed: {rest}");
        rest
    }
}
