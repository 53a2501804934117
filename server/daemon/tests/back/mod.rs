//! A queue with its own folders and a main.cf of `inline:` tables, for the tests of the back.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses what it needs of it"
)]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, MX};
use hickory_resolver::proto::rr::{Name, RData, Record};
use tempfile::TempDir;
use tokio::sync::watch;
use vmaild::config::Config;
use vmaild::queue::tool::{Command, run};
use vmaild::queue::{Origin, Queue, Services, Untaken};
use vmaild::tls::Connector;
use vmaild_protocol::{Envelope, Recipient, ReversePath};

/// The tables of every test: a hosted domain with two mailboxes and some forwardings.
const MAIN_CF: &str = "
myhostname = server.domain.com
inet_interfaces = 127.0.0.1
smtpd_recipient_restrictions = reject_unauth_destination
smtpd_relay_restrictions =
recipient_delimiter = +
queue_directory = $QUEUE
virtual_mailbox_base = $BASE
virtual_alias_domains =
virtual_mailbox_domains = mydomain.com
virtual_alias_maps =
  inline:{ { myforward@mydomain.com = address@mydomain.com, otheraddress@mydomain.com }
    { dead@mydomain.com = gone@mydomain.com } { f@mydomain.com = address@mydomain.com }
    { a@mydomain.com = b@mydomain.com } { b@mydomain.com = a@mydomain.com }
    { out@mydomain.com = x@ext.example } }
  inline:{ { address@mydomain.com = address@mydomain.com } { full@mydomain.com = full@mydomain.com } }
virtual_mailbox_maps = inline:{ { address@mydomain.com = mydomain.com/address/ }
    { full@mydomain.com = mydomain.com/full/ }
    { sender@mydomain.com = mydomain.com/sender/ } { up@mydomain.com = mydomain.com/../../up/ }
    { link@mydomain.com = link/box/ } }
virtual_uid_maps = static:5000
virtual_gid_maps = static:5000
virtual_mailbox_limit_maps = inline:{ { full@mydomain.com = 3000 } { address@mydomain.com = 0 } }
virtual_mailbox_limit_override = yes
virtual_overquota_bounce = yes
virtual_create_maildirsize = yes
virtual_mailbox_extended = yes
minimal_backoff_time = 1s
maximal_backoff_time = 1s
queue_run_delay = 1s
";

/// A running queue.
pub struct Back {
    pub folder: TempDir,
    pub queue: Arc<Queue>,
}

/// What a queue is told beside its configuration.
#[derive(Debug, Default)]
pub struct Surroundings {
    pub listening: Vec<SocketAddr>,
    pub resolver: Option<SocketAddr>,
}

impl Back {
    /// A queue with these lines added to main.cf.
    pub async fn start(more: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), more, Surroundings::default()).await
    }

    /// A queue in a folder that may hold mail already.
    pub async fn start_in(folder: TempDir, more: &str, surroundings: Surroundings) -> Self {
        let base = folder.path().join("vmail");
        fs::create_dir_all(&base).unwrap();
        let text = MAIN_CF
            .replace("$QUEUE", folder.path().join("queue").to_str().unwrap())
            .replace("$BASE", base.to_str().unwrap());
        fs::write(folder.path().join("main.cf"), format!("{text}{more}\n")).unwrap();
        let service = "2525 inet n - n - - smtpd\n";
        fs::write(folder.path().join("master.cf"), service).unwrap();
        let config = Config::read(folder.path()).map_err(|mistakes| format!("{mistakes:?}"));
        let services = Services {
            params: watch::channel(config.unwrap().params).1,
            resolver: surroundings.resolver,
            tls: Some(Connector::new().unwrap()),
            listening: surroundings.listening,
        };
        Self {
            queue: Queue::open(services).await.unwrap(),
            folder,
        }
    }

    /// Stops the queue and starts another on the same folders, with other lines in main.cf.
    pub async fn restart_with(self, more: &str) -> Self {
        self.queue.drain(Duration::from_secs(10)).await;
        Self::start_in(self.folder, more, Surroundings::default()).await
    }

    /// Puts a message into the queue.
    pub async fn send(
        &self,
        sender: &str,
        recipients: &[&str],
        content: &str,
    ) -> Result<String, Untaken> {
        self.send_as(envelope(sender, recipients), content).await
    }

    /// Puts a letter of `sender@mydomain.com` into the queue, and returns its id.
    pub async fn sent(&self, recipients: &[&str], content: &str) -> String {
        let id = self.send("sender@mydomain.com", recipients, content).await;
        id.unwrap()
    }

    /// Puts a message with this envelope into the queue.
    pub async fn send_as(&self, envelope: Envelope, content: &str) -> Result<String, Untaken> {
        let mut incoming = self.queue.begin(&origin(), &envelope);
        incoming.write(content.as_bytes()).await?;
        incoming.commit(&envelope).await
    }

    /// The files in `new` of a mailbox, in order.
    pub fn mail(&self, mailbox: &str) -> Vec<String> {
        let new = self.folder.path().join("vmail").join(mailbox).join("new");
        let Ok(entries) = fs::read_dir(new) else {
            return Vec::new();
        };
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let texts = paths.iter().map(|path| fs::read_to_string(path).unwrap());
        texts.collect()
    }

    /// Waits until a mailbox has this many messages, and returns them.
    pub async fn wait_for(&self, mailbox: &str, count: usize) -> Vec<String> {
        eventually(|| (self.mail(mailbox).len() >= count).then_some(())).await;
        self.mail(mailbox)
    }

    /// Waits until nothing is in the queue.
    pub async fn wait_until_empty(&self) {
        eventually(|| self.queued().is_empty().then_some(())).await;
    }

    /// The names in `active`.
    pub fn queued(&self) -> Vec<String> {
        let active = self.folder.path().join("queue/active");
        let names = fs::read_dir(active).unwrap();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// What `vmaild queue list` says.
    pub fn listing(&self) -> String {
        let mut list = Vec::new();
        run(&self.folder.path().join("queue"), &Command::List, &mut list).unwrap();
        String::from_utf8(list).unwrap()
    }
}

pub fn origin() -> Origin {
    let client: IpAddr = "127.0.0.3".parse().unwrap();
    Origin { client, tls: None }
}

pub fn envelope(sender: &str, recipients: &[&str]) -> Envelope {
    let recipient = |text: &&str| Recipient {
        mailbox: text.parse().unwrap(),
        ..Recipient::default()
    };
    Envelope {
        reverse_path: sender.parse::<ReversePath>().unwrap(),
        recipients: recipients.iter().map(recipient).collect(),
        helo: "client.probe.example".to_owned(),
        protocol: "ESMTP",
        ..Envelope::default()
    }
}

/// Asks until there is an answer; fails after a minute.
pub async fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            start.elapsed() < Duration::from_mins(1),
            "it did not come about in a minute"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A next hop that says what a script has it say. Each session it was asked for is handed out as
/// the lines that it heard.
pub struct Sink {
    pub address: SocketAddr,
    sessions: Receiver<Vec<String>>,
}

impl Sink {
    /// `answer` maps a line that was heard to the reply, CRLF not included; `None` closes. It hears
    /// `CONNECT` first, and the dot as `.`; lines of content before the dot are not asked about.
    pub fn start(answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), answer)
    }

    /// The same at an address that is given.
    pub fn start_at(
        address: SocketAddr,
        answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, sessions) = channel();
        let answer = Arc::new(answer);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, sender) = (answer.clone(), sender.clone());
                std::thread::spawn(move || {
                    let heard = session(stream.unwrap(), answer.as_ref());
                    let _ = sender.send(heard);
                });
            }
        });
        Self { address, sessions }
    }

    /// A host that takes everything and offers the usual.
    pub fn friendly() -> Self {
        let usual = "250-PIPELINING\r\n250-SIZE 50000000\r\n250-DSN\r\n250 8BITMIME";
        Self::start(|line| Some(friendly(line, usual)))
    }

    /// `smtp:` to it, as a transport table has it.
    pub fn transport(&self) -> String {
        format!(
            "transport_maps = inline:{{ {{ ext.example = smtp:[{}]:{} }} }}",
            self.address.ip(),
            self.address.port()
        )
    }

    /// The next session that ended.
    pub async fn session(&self) -> Vec<String> {
        eventually(|| self.ended()).await
    }

    /// The next session that has ended already.
    pub fn ended(&self) -> Option<Vec<String>> {
        self.sessions.try_recv().ok()
    }
}

/// The replies of a host that takes everything.
pub fn friendly(line: &str, extensions: &str) -> String {
    match line.split([' ', ':']).next().unwrap() {
        "CONNECT" => "220 sink.ext.example ESMTP".to_owned(),
        "EHLO" => format!("250-sink.ext.example\r\n{extensions}"),
        "DATA" => "354 go".to_owned(),
        "QUIT" => "221 bye".to_owned(),
        "." => "250 2.0.0 Ok: sunk".to_owned(),
        _ => "250 2.1.0 Ok".to_owned(),
    }
}

fn session(stream: TcpStream, answer: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let mut heard = Vec::new();
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    let mut say = |line: &str| {
        let reply = answer(line)?;
        let sent = writer.write_all(format!("{reply}\r\n").as_bytes());
        sent.is_ok().then_some(reply)
    };
    if say("CONNECT").is_none() {
        return heard;
    }
    let mut content = false;
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
            return heard;
        }
        let line = String::from_utf8(line).unwrap();
        assert!(line.ends_with("\r\n"), "{line:?} does not end with CRLF");
        let line = line.trim_end_matches("\r\n").to_owned();
        heard.push(line.clone());
        if content && line != "." {
            continue;
        }
        let Some(reply) = say(&line) else {
            return heard;
        };
        content = line == "DATA" && reply.starts_with("354");
        // There is no TLS here: whoever was promised it finds the connection closed.
        if line == "QUIT" || line == "STARTTLS" {
            return heard;
        }
    }
}

/// A name server that knows `NAME MX 10 HOST`, `NAME A 127.0.0.1`, `NAME AAAA ::1` and `NAME
/// SERVFAIL`, one a line; other names do not exist.
pub fn name_server(records: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let mut message = Message::from_vec(&buffer[..length]).unwrap();
            let query = message.queries[0].clone();
            let name = query.name().to_string();
            let known: Vec<Vec<&str>> = records
                .lines()
                .map(|line| line.split_whitespace().collect())
                .filter(|words: &Vec<&str>| words.first() == Some(&name.trim_end_matches('.')))
                .collect();
            message.metadata.message_type = MessageType::Response;
            message.metadata.response_code = match known.first().map(|words| words[1]) {
                None => ResponseCode::NXDomain,
                Some("SERVFAIL") => ResponseCode::ServFail,
                Some(_) => ResponseCode::NoError,
            };
            for words in known {
                let data = match words[1..] {
                    ["A", ip] => RData::A(A(ip.parse().unwrap())),
                    ["AAAA", ip] => RData::AAAA(AAAA(ip.parse().unwrap())),
                    ["MX", preference, host] => {
                        let host = Name::from_str(host).unwrap();
                        RData::MX(MX::new(preference.parse().unwrap(), host))
                    }
                    _ => continue,
                };
                if data.record_type() == query.query_type() {
                    message.add_answer(Record::from_rdata(query.name().clone(), 60, data));
                }
            }
            socket.send_to(&message.to_vec().unwrap(), client).unwrap();
        }
    });
    address
}
