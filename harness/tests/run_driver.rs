//! The driver against a server that a test scripts: what is blocked, broken, unreached, followed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rstest::rstest;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use vmailspec::driver::{ClauseSeen, Journal, Outcome, Stage, drive};
use vmailspec::environment::manners::{FOREIGN, Manners};
use vmailspec::environment::{Mail, Sunk, TargetFacts};
use vmailspec::names::Tokens;
use vmailspec::plan;
use vmailspec::scenario::{self, DatabaseFault, Entry, TargetAction, Vantage};
use vmailspec::verdict::{Harm, Seen};

const DOMAIN: &str = "d.test";

/// What the server does otherwise than a good one.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
struct Faults {
    /// How it ended by itself.
    crashed: Option<&'static str>,
    /// A command that begins so is answered so; empty: the connection is closed.
    replies: Vec<(&'static str, &'static str)>,
    /// Accepted and thrown away, unless it is a canary.
    loses: bool,
    /// Delivered twice.
    doubles: bool,
    /// Delivered without the last letter.
    changes: bool,
    /// Content is delivered though the final reply is a refusal.
    keeps_refused: bool,
}

#[derive(Debug)]
struct Fake {
    names: BTreeMap<String, String>,
    address: SocketAddr,
    root: TempDir,
    sunk: Arc<Mutex<Vec<Sunk>>>,
    crashed: Option<&'static str>,
    manners: Option<Manners>,
}

impl Fake {
    async fn new(faults: Faults) -> Self {
        let crashed = faults.crashed;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let root = tempfile::tempdir().unwrap();
        let sunk = Arc::new(Mutex::new(Vec::new()));
        let (path, to_sink) = (root.path().to_owned(), Arc::clone(&sunk));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serve = serve(stream, faults.clone(), path.clone(), Arc::clone(&to_sink));
                tokio::spawn(serve);
            }
        });
        let names = [
            ("domain", DOMAIN),
            ("sender", "s.test"),
            ("elsewhere", "e.test"),
        ];
        let names = names.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            crashed,
            manners: None,
            names: BTreeMap::from(names),
            address,
            root,
            sunk,
        }
    }

    async fn play(&self, text: &str) -> Outcome {
        let scenario = scenario::parse("test.case", text).unwrap();
        let case = plan::cases(&Arc::new(scenario)).remove(0);
        let journal = Journal::new(Duration::from_secs(20));
        drive(&case, self, &Tokens::new("r", 7), &journal).await
    }
}

/// One session: commands and replies as RFC 5321 has them, but for the faults.
async fn serve(stream: TcpStream, faults: Faults, root: PathBuf, sunk: Arc<Mutex<Vec<Sunk>>>) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let answer = |line: &str, usual: &str| {
        let fault = faults
            .replies
            .iter()
            .find(|(begin, _)| line.starts_with(begin));
        fault.map_or(usual, |(_, reply)| reply).to_owned()
    };
    write
        .write_all(answer("GREETING", "220 fake\r\n").as_bytes())
        .await
        .unwrap();
    let (mut from, mut to) = (String::new(), Vec::new());
    while let Ok(Some(line)) = lines.next_line().await {
        let address = || line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        let reply = match line.get(..4).unwrap_or_default() {
            "EHLO" => answer(&line, "250-fake\r\n250 PIPELINING\r\n"),
            "DATA" => answer(&line, "354 go\r\n"),
            "QUIT" => answer(&line, "221 bye\r\n"),
            _ => answer(&line, "250 2.0.0 Ok\r\n"),
        };
        if line.starts_with("MAIL") {
            (from, to) = (address(), Vec::new());
        }
        if line.starts_with("RCPT") && reply.starts_with('2') {
            to.push(address());
        }
        if reply.is_empty() {
            return;
        }
        write.write_all(reply.as_bytes()).await.unwrap();
        if reply.starts_with("354") {
            let mut content = String::new();
            while let Ok(Some(line)) = lines.next_line().await {
                if line == "." {
                    break;
                }
                content += line.strip_prefix('.').unwrap_or(&line);
                content.push('\n');
            }
            let canary = content.contains("-canary-");
            let usual = "250 2.0.0 Ok: queued as 4ABC\r\n".to_owned();
            let reply = if canary {
                usual
            } else {
                answer("CONTENT", &usual)
            };
            if (reply.starts_with('2') || faults.keeps_refused) && (canary || !faults.loses) {
                let copies = if faults.doubles && !canary { 2 } else { 1 };
                if faults.changes && !canary {
                    content.truncate(content.len() - 2);
                }
                for _ in 0..copies {
                    deliver(&root, &sunk, &from, &to, &content);
                }
            }
            write.write_all(reply.as_bytes()).await.unwrap();
        }
    }
}

fn deliver(
    root: &std::path::Path,
    sunk: &Mutex<Vec<Sunk>>,
    from: &str,
    to: &[String],
    content: &str,
) {
    static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    for recipient in to {
        let (local, domain) = recipient.split_once('@').unwrap();
        if domain != DOMAIN {
            sunk.lock().unwrap().push(Sunk {
                from: from.into(),
                to: vec![recipient.clone()],
                helo: String::new(),
                parameters: Vec::new(),
                content: content.into(),
                bare: 0,
            });
            continue;
        }
        let folder = root.join(domain).join(local);
        std::fs::create_dir_all(folder.join("new")).unwrap();
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let text = format!("Delivered-To: {recipient}\nX-Original-To: {recipient}\n{content}");
        // As a Maildir wants it: nobody sees half a message.
        let part = folder.join(format!("{number}.part"));
        std::fs::write(&part, text).unwrap();
        std::fs::rename(part, folder.join("new").join(format!("{number}.fake"))).unwrap();
    }
}

impl Stage for Fake {
    fn names(&self) -> &BTreeMap<String, String> {
        &self.names
    }
    fn facts(&self) -> TargetFacts {
        TargetFacts {
            plain: self.address,
            smtps: self.address,
            trust: vmailspec::wire::Trust::Any,
            hostname: "fake".into(),
            stranger: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3)),
            neighbour: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)),
            maildir_root: Some(self.root.path().to_owned()),
            owner: None,
            capabilities: vec!["maildir".into()],
            profiles: Vec::new(),
            own_targets: 1,
            unavailable: Vec::new(),
            at_once: None,
            manners: self.manners.clone(),
            secrets: vmailspec::environment::secrets::Secrets::default(),
            foreign: ["here.example".into(), "there.example".into()],
        }
    }
    async fn address(&self, _: Entry) -> Result<SocketAddr, String> {
        Ok(self.address)
    }
    fn direct(&self, _: Entry) -> SocketAddr {
        self.address
    }
    fn source(&self, _: Vantage) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3))
    }
    async fn sql(&self, statement: &str) -> Result<(), String> {
        Err(format!("no such table: {statement}"))
    }
    async fn rows(&self, _: &str) -> Result<usize, String> {
        Ok(0)
    }
    async fn database(&self, _: DatabaseFault) -> Result<(), String> {
        Ok(())
    }
    async fn target(&self, _: TargetAction) -> Result<(), String> {
        Ok(())
    }
    fn sink_answers(&self, _: &str, _: Option<&str>, _: Option<&str>) {}
    async fn sink_listens(&self, _: bool) -> Result<(), String> {
        Ok(())
    }
    fn sunk(&self) -> Vec<Sunk> {
        self.sunk.lock().unwrap().clone()
    }
    fn maildir(&self, address: &str) -> Option<PathBuf> {
        let (local, domain) = address.split_once('@')?;
        Some(self.root.path().join(domain).join(local))
    }
    async fn mails(&self, address: &str) -> Result<Vec<Mail>, String> {
        let folder = self.maildir(address).unwrap().join("new");
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Ok(Vec::new());
        };
        let paths = entries.map(|entry| entry.unwrap().path());
        Ok(paths
            .map(|path| Mail {
                content: std::fs::read(&path).unwrap(),
                path,
            })
            .collect())
    }
    async fn queued(&self, _: &str) -> Option<usize> {
        Some(0)
    }
    fn log(&self) -> Vec<String> {
        Vec::new()
    }
    fn canary_mailbox(&self) -> String {
        format!("canary@{DOMAIN}")
    }
    fn crashed(&self) -> Option<String> {
        self.crashed.map(str::to_owned)
    }
}

const MAIL: &str = "title   one message

C: MAIL FROM:<friend@$sender>
S: 250

MUST    seq.one   rfc5321#3.3   a recipient is taken
C: RCPT TO:<address@$domain>
S: 250
C: DATA
S: 354

MUST    seq.two   rfc5321#3.3   the message is taken
message
S: 250

MUST    seq.three   rfc5321#3.3   and delivered
maildir address@$domain 1 message
";

fn seen(outcome: &Outcome, id: &str) -> Seen {
    outcome
        .clauses
        .iter()
        .find(|one| one.clause.id == id)
        .map(|one| one.seen)
        .unwrap()
}

fn failed(outcome: &Outcome) -> Vec<&str> {
    let failed = |one: &&ClauseSeen| matches!(one.seen, Seen::Otherwise(_));
    outcome
        .clauses
        .iter()
        .filter(failed)
        .map(|one| one.clause.id.as_str())
        .collect()
}

#[tokio::test]
async fn a_good_server_holds_everything_the_ledger_too() {
    let outcome = Fake::new(Faults::default()).await.play(MAIL).await;
    assert_eq!(outcome.blocked, None);
    assert!(
        outcome.clauses.iter().all(|one| one.seen == Seen::AsSaid),
        "{outcome:#?}"
    );
    assert_eq!(outcome.clauses.len(), 3 + 5);
}

#[tokio::test]
async fn a_server_that_ends_by_itself_is_broken_whatever_it_answered() {
    let faults = Faults {
        crashed: Some("exit status 101"),
        ..Faults::default()
    };
    let outcome = Fake::new(faults).await.play(MAIL).await;
    assert_eq!(seen(&outcome, "ledger.crash"), Seen::Otherwise(Harm::Done));
}

#[tokio::test]
async fn what_fails_before_the_first_clause_blocks_the_case_and_says_where() {
    let faults = Faults {
        replies: vec![("MAIL", "550 no\r\n")],
        ..Faults::default()
    };
    let outcome = Fake::new(faults).await.play(MAIL).await;
    assert_eq!(
        outcome.blocked.as_deref(),
        Some("the set-up failed in line 4: expected 250, but there was 550 no")
    );
    assert!(outcome.clauses.iter().all(|one| one.seen == Seen::Nothing));
}

/// A server that is asked about mail for one domain only, none of the case's.
async fn somebody_elses() -> Fake {
    let mut fake = Fake::new(Faults::default()).await;
    fake.manners = Some(Manners {
        domains: vec!["named.test".to_owned()],
        pace: None,
    });
    fake
}

#[tokio::test]
async fn what_a_server_of_somebody_elses_is_not_asked_is_unsupported_and_never_blocked() {
    let outcome = somebody_elses().await.play(MAIL).await;
    assert_eq!(outcome.blocked.as_deref(), Some(FOREIGN));
    let spared = |one: &ClauseSeen| one.seen == Seen::Unsupported;
    assert!(outcome.clauses.iter().all(spared), "{outcome:#?}");
    let told = format!("! behind `RCPT TO:<address@{DOMAIN}>` {FOREIGN}");
    assert!(outcome.transcript.iter().any(|(_, line)| *line == told));
}

const MAILER: &str = "title   a client\nstart   nothing\n\nmailer 25\n  from <friend@$sender>\n  to <address@$domain>\n\n\
    MUST    seq.one   rfc5321#3.3   it is refused\nmailer refused\n";

#[rstest]
#[case("RCPT", "550 no\r\n", Seen::AsSaid)]
#[case("RCPT", "", Seen::Otherwise(Harm::None))]
#[case("DATA", "", Seen::Otherwise(Harm::None))]
#[tokio::test]
async fn a_mail_client_is_refused_by_a_reply_and_not_by_a_connection_that_breaks(
    #[case] command: &'static str,
    #[case] reply: &'static str,
    #[case] expected: Seen,
) {
    let faults = Faults {
        replies: vec![(command, reply)],
        ..Faults::default()
    };
    let outcome = Fake::new(faults).await.play(MAILER).await;
    assert_eq!(seen(&outcome, "seq.one"), expected, "{outcome:#?}");
}

#[tokio::test]
async fn a_mail_client_that_was_not_let_is_not_refused_by_the_server() {
    let outcome = somebody_elses().await.play(MAILER).await;
    assert_eq!(seen(&outcome, "seq.one"), Seen::Unsupported);
}

#[rstest]
#[case("GREETING", "554 no\r\n", "the greeting was 554 no")]
#[case("EHLO", "500 no\r\n", "EHLO was answered 500 no")]
#[tokio::test]
async fn a_start_state_that_cannot_be_reached_blocks_the_case(
    #[case] command: &'static str,
    #[case] reply: &'static str,
    #[case] why: &str,
) {
    let faults = Faults {
        replies: vec![(command, reply)],
        ..Faults::default()
    };
    let outcome = Fake::new(faults).await.play(MAIL).await;
    assert!(outcome.blocked.unwrap().contains(why));
}

#[tokio::test]
async fn the_first_surprise_ends_the_dialogue_and_probes_still_run_as_evidence() {
    let faults = Faults {
        replies: vec![("RCPT TO:<a", "550 no\r\n")],
        ..Faults::default()
    };
    let outcome = Fake::new(faults).await.play(MAIL).await;
    assert_eq!(seen(&outcome, "seq.one"), Seen::Otherwise(Harm::None));
    assert_eq!(seen(&outcome, "seq.two"), Seen::NotReached);
    assert_eq!(seen(&outcome, "seq.three"), Seen::NotReached);
    let failure = outcome.clauses[0].failure.clone().unwrap();
    assert_eq!(
        (failure.expected.as_str(), failure.seen.as_str()),
        ("250", "550 no")
    );
    assert_eq!(&MAIL[failure.place.0..][..6], "S: 250");
    let evidence = |line: &str| line == "evidence, line 17: no message";
    assert!(outcome.transcript.iter().any(|(_, line)| evidence(line)));
}

#[rstest]
#[case::another_code("550 no\r\n", Harm::None)]
#[case::mixed_codes("250-a\r\n251 b\r\n", Harm::None)]
#[case::bare_lf("250 ok\n", Harm::None)]
#[case::no_reply_but_an_end("", Harm::Done)]
#[tokio::test]
async fn only_an_end_or_a_silence_does_harm(#[case] reply: &'static str, #[case] harm: Harm) {
    let faults = Faults {
        replies: vec![("RCPT TO:<a", reply)],
        ..Faults::default()
    };
    let outcome = Fake::new(faults).await.play(MAIL).await;
    assert_eq!(seen(&outcome, "seq.one"), Seen::Otherwise(harm));
}

/// Of each reply in turn: the first that is not what a server says, and what is said about it.
#[rstest]
#[tokio::test]
async fn garbage_and_endless_replies_break_the_clause_at_once(
    #[values("GREETING", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT", "QUIT")] verb: &'static str,
    #[values(false, true)] endless: bool,
) {
    let (reply, told) = if endless {
        ("250-more\r\n".repeat(20_000), "a reply that does not end")
    } else {
        (
            "\u{1}\u{fffd} nonsense\r\n".to_owned(),
            "a line without a reply code",
        )
    };
    let fake = Fake::new(Faults {
        replies: vec![(verb, String::leak(reply))],
        ..Faults::default()
    })
    .await;
    let outcome = fake.play(EVERY_VERB).await;
    assert_eq!(seen(&outcome, "seq.answers"), Seen::Otherwise(Harm::None));
    let heard = &outcome.clauses[0].failure.as_ref().unwrap().seen;
    assert!(heard.contains(told), "{heard}");
}

/// One clause over a whole session.
const EVERY_VERB: &str = "title   x
start   connected

MUST    seq.answers   rfc5321#4.2   every command is answered
S: 220
C: EHLO client.example
S: 250
C: MAIL FROM:<a@$sender>
S: 250
C: RCPT TO:<b@$domain>
S: 250
C: DATA
S: 354
message
S: 250
C: QUIT
S: 221
";

#[tokio::test]
async fn a_server_that_does_not_answer_is_a_hang() {
    let text = "title   x\n\nROBUST  seq.noop   rfc5321#4.1.1.9   NOOP is answered\nC: SLEEP\nS: 250 within 3s\n";
    let faults = Faults {
        replies: vec![("SLEEP", "25")],
        ..Faults::default()
    };
    let outcome = Fake::new(faults).await.play(text).await;
    assert_eq!(seen(&outcome, "seq.noop"), Seen::Otherwise(Harm::Done));
    assert_eq!(
        outcome.clauses[0].failure.as_ref().unwrap().seen,
        "nothing, after 25"
    );
}

#[rstest]
#[case::lost(Faults { loses: true, ..Faults::default() }, "ledger.lost")]
#[case::doubled(Faults { doubles: true, ..Faults::default() }, "ledger.doubled")]
#[case::changed(Faults { changes: true, ..Faults::default() }, "ledger.changed")]
#[case::refused(
    Faults { keeps_refused: true, replies: vec![("CONTENT", "554 no\r\n")], ..Faults::default() },
    "ledger.refused"
)]
#[tokio::test]
async fn the_ledger_sees_what_no_line_asks_for(#[case] faults: Faults, #[case] id: &str) {
    let text = MAIL.split("message\nS: 250").next().unwrap();
    let outcome = Fake::new(faults)
        .await
        .play(&format!("{text}message\nS: 250 | 554\n"))
        .await;
    assert_eq!(failed(&outcome), [id]);
}

#[tokio::test]
async fn a_message_that_lines_spell_out_is_followed_by_its_token() {
    let text = MAIL.replace(
        "message\nS",
        "C: X-Vmailspec-Token: $token\nC: Subject: by hand\nC:\nC: text\nC: .\nS",
    );
    let outcome = Fake::new(Faults {
        loses: true,
        ..Faults::default()
    })
    .await
    .play(&text)
    .await;
    assert!(failed(&outcome).contains(&"ledger.lost"), "{outcome:#?}");
}

#[tokio::test]
async fn absence_is_not_shown_when_the_canary_is_refused() {
    let text = "title   x\n\nMUST    seq.none   rfc5321#3.3   nothing there\nmaildir address@$domain empty\n";
    let faults = Faults {
        replies: vec![("RCPT TO:<canary", "451 later\r\n")],
        ..Faults::default()
    };
    let outcome = Fake::new(faults).await.play(text).await;
    assert_eq!(seen(&outcome, "seq.none"), Seen::Nothing);
    assert!(outcome.blocked.unwrap().contains("absence cannot be shown"));
}

#[tokio::test]
async fn a_statement_that_fails_is_not_the_targets_fault() {
    let text = MAIL.replace("message\nS", "sql DROP TABLE nothing\nmessage\nS");
    let outcome = Fake::new(Faults::default()).await.play(&text).await;
    assert_eq!(seen(&outcome, "seq.one"), Seen::AsSaid);
    assert_eq!(seen(&outcome, "seq.two"), Seen::Nothing);
    assert_eq!(seen(&outcome, "seq.three"), Seen::Nothing);
    assert!(outcome.blocked.unwrap().contains("no such table"));
}

#[tokio::test]
async fn the_same_reply_is_looked_at_for_two_clauses() {
    let text = "title   x\n\nMUST    seq.a   rfc5321#3.3   a\nC: RCPT TO:<x@$elsewhere>\nS: 5yz\n\
        SHOULD  seq.b   rfc5321#3.3   b\nS= 550\nMUST    seq.c   rfc5321#3.3   c\nC: NOOP\nS: 250\n";
    let faults = Faults {
        replies: vec![("RCPT", "554 5.7.1 no\r\n")],
        ..Faults::default()
    };
    let outcome = Fake::new(faults).await.play(text).await;
    assert_eq!(failed(&outcome), ["seq.b"]);
    assert_eq!(seen(&outcome, "seq.c"), Seen::AsSaid);
}

#[tokio::test]
async fn a_repeated_block_counts_and_a_password_is_not_shown() {
    let text = "title   x\n\nMUST    seq.a   rfc5321#3.3   a\nrepeat 3\n  C: NOOP $n\n  S: 250\n\
        C: AUTH PLAIN $plain(address@$domain mypassword)\nS: 250\n";
    let outcome = Fake::new(Faults::default()).await.play(text).await;
    let lines: Vec<&str> = outcome
        .transcript
        .iter()
        .map(|(_, line)| line.as_str())
        .collect();
    assert!(
        lines.contains(&"C: NOOP 1") && lines.contains(&"C: NOOP 3"),
        "{lines:#?}"
    );
    assert!(lines.contains(&"C: AUTH PLAIN (not shown)"), "{lines:#?}");
    // As it is, and behind "\0address@" in base64.
    let hidden = ["mypassword", "AGFkZHJlc3NA"];
    let shows = |line: &&str| hidden.iter().any(|text| line.contains(text));
    assert!(!lines.iter().any(shows), "{lines:#?}");
}

#[tokio::test]
async fn rules_change_what_goes_over_the_wire() {
    use vmailspec::wrong::{Wrong, parse};
    let fake = Fake::new(Faults::default()).await;
    let rules =
        parse("# x\nafter RSET reply 250 => 500\nreply 250-fake => drop\ncommand NOOP => HELP\n")
            .unwrap();
    let proxy = Wrong::new(rules).before(fake.address).await.unwrap();
    let stream = TcpStream::connect(proxy).await.unwrap();
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut heard = Vec::new();
    for command in ["", "EHLO x\r\n", "RSET\r\n", "NOOP\r\n", "QUIT\r\n"] {
        write.write_all(command.as_bytes()).await.unwrap();
        heard.push(lines.next_line().await.unwrap().unwrap());
    }
    assert_eq!(
        heard,
        [
            "220 fake",
            "250 PIPELINING",
            "500 2.0.0 Ok",
            "250 2.0.0 Ok",
            "221 bye"
        ]
    );
}

#[rstest]
#[case(
    "reply 250\n",
    "expected `reply|command|content|ending PART => TEXT|drop|close|again`"
)]
#[case(
    "replies 250 => 500\n",
    "`replies`: expected reply, command, content, ending, connection or after"
)]
#[case("after RSET 250 => 500\n", "expected `reply` behind `after COMMAND`")]
#[case("reply => 500\n", "a rule needs the beginning")]
fn a_rule_that_is_none_is_an_error(#[case] text: &str, #[case] why: &str) {
    let (line, said) = vmailspec::wrong::parse(text).unwrap_err();
    assert_eq!(line, 1);
    assert!(said.contains(why), "{said}");
}

#[tokio::test]
async fn a_proxy_greets_first_and_changes_beginnings_and_ends_of_content() {
    use tokio::io::AsyncReadExt;
    use vmailspec::wrong::{Wrong, parse};
    let rules = "connection => hello\\r\\n\ncontent .. => .\nending \\r\\n => \\r\\n\nending \\n => !\\r\\n\n";
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let proxy = Wrong::new(parse(rules).unwrap())
        .before(address)
        .await
        .unwrap();
    let mut client = TcpStream::connect(proxy).await.unwrap();
    let (mut target, _) = server.accept().await.unwrap();
    let mut octets = [0; 64];
    client.read_exact(&mut octets[..7]).await.unwrap();
    assert_eq!(&octets[..7], b"hello\r\n");
    target.write_all(b"220 hi\r\n").await.unwrap();
    client.read_exact(&mut octets[..8]).await.unwrap();
    client.write_all(b"DATA\r\n").await.unwrap();
    target.read_exact(&mut octets[..6]).await.unwrap();
    target.write_all(b"354 go\r\n").await.unwrap();
    client.read_exact(&mut octets[..8]).await.unwrap();
    client.write_all(b"..a\r\nb\n").await.unwrap();
    target.read_exact(&mut octets[..8]).await.unwrap();
    assert_eq!(&octets[..8], b".a\r\nb!\r\n");
}
