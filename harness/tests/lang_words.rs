//! Every word of the language, and what the parser makes of it.

#![allow(clippy::expect_used, reason = "what a test takes for granted ends it")]

use rstest::rstest;
use vmailspec::scenario::{Header, Scenario, StepKind, parse};

/// What stands in a debug text without places: they are tested by the messages that underline.
fn without_places(debug: &str) -> String {
    let mut out = String::new();
    let mut rest = debug;
    while let Some(at) = rest.find("span: Span {") {
        out.push_str(rest[..at].trim_end_matches(", "));
        let tail = &rest[at..];
        rest = &tail[tail.find('}').expect("a span ends") + 1..];
        if out.ends_with("{ ") {
            rest = rest.trim_start_matches(", ");
        }
    }
    out.push_str(rest);
    // `Text { raw: "x" }` is "x".
    let mut short = String::new();
    let mut rest = out.as_str();
    while let Some(at) = rest.find("Text { raw: ") {
        short.push_str(&rest[..at]);
        let tail = &rest[at + "Text { raw: ".len()..];
        let end = tail.find("\" }").expect("a text ends");
        short.push_str(&tail[..=end]);
        rest = &tail[end + 3..];
    }
    short.push_str(rest);
    short
}

fn read(source: &str) -> Scenario {
    parse("a/b.case", source).unwrap_or_else(|mistakes| {
        let path = std::path::Path::new("a/b.case");
        panic!(
            "{}",
            vmailspec::scenario::error::render(path, source, &mistakes, false)
        )
    })
}

const CLAUSE: &str = "MUST    relay.x   rfc5321#7.9   a claim\nC: NOOP\nS: 250\n";

/// The step that this line (with the lines below it) is.
fn step(lines: &str) -> String {
    let scenario = read(&format!("title   A case\n{CLAUSE}{lines}\n"));
    let kind: &StepKind = &scenario.steps.get(3).expect("a step").kind;
    without_places(&format!("{kind:?}"))
}

fn header(line: &str) -> Header {
    read(&format!("title   A case\n{line}\n{CLAUSE}")).header
}

#[rstest]
#[case("C: MAIL FROM:<a@$sender>", r#"Client("MAIL FROM:<a@$sender>")"#)]
#[case("C:", r#"Client("")"#)]
#[case("C:NOOP", r#"Client("NOOP")"#)]
#[case("C: NOOP #1", r#"Client("NOOP #1")"#)]
#[case("C: NOOP  # a comment", r#"Client("NOOP")"#)]
#[case(r"bytes NOOP\r\n", r#"Bytes(["NOOP\\r\\n"])"#)]
#[case(r"bytes NO<cut>OP\r<cut>\n", r#"Bytes(["NO", "OP\\r", "\\n"])"#)]
#[case(
    "message",
    "Message(Message { size: None, headers: [], lines: [], unfinished: false })"
)]
#[case(
    "message 2000 bytes\n  header Subject: x\n  line .\n  line\n  unfinished",
    r#"Message(Message { size: Some(2000), headers: ["Subject: x"], lines: [".", ""], unfinished: true })"#
)]
#[case("connect", "Connect { from: None, entry: None, clear: false }")]
#[case(
    "connect from neighbour",
    "Connect { from: Some(Neighbour), entry: None, clear: false }"
)]
#[case(
    "connect clear entry 465 from stranger",
    "Connect { from: Some(Stranger), entry: Some(Smtps), clear: true }"
)]
#[case(
    "crowd 20 sessions 5 messages <address@$domain>",
    r#"Crowd { sessions: 20, messages: 5, to: "address@$domain" }"#
)]
#[case("tls", "Tls(Usual)")]
#[case("tls 1.2", "Tls(Version12)")]
#[case("tls unnamed", "Tls(Unnamed)")]
#[case("close", "Close(Whole)")]
#[case("close at once", "Close(AtOnce)")]
#[case("close reset", "Close(Reset)")]
#[case("close half", "Close(Half)")]
#[case(
    "mailer 465 address@$domain mypassword\n  from <address@$domain>\n  to <a@$elsewhere>\n  to <b@$elsewhere>",
    r#"Mailer { entry: Smtps, login: Some(("address@$domain", "mypassword")), from: "address@$domain", to: ["a@$elsewhere", "b@$elsewhere"] }"#
)]
#[case(
    "mailer 25\n  from <>\n  to <address@$domain>",
    r#"Mailer { entry: Plain, login: None, from: "", to: ["address@$domain"] }"#
)]
fn the_wire(#[case] lines: &str, #[case] expected: &str) {
    assert_eq!(step(lines), expected);
}

#[rstest]
#[case(
    "S: 250",
    "Code { digits: [Some(2), Some(5), Some(0)], enhanced: None }"
)]
#[case("S: 4yz", "Code { digits: [Some(4), None, None], enhanced: None }")]
#[case("S: 25z", "Code { digits: [Some(2), Some(5), None], enhanced: None }")]
#[case("S: xyz", "Code { digits: [None, None, None], enhanced: None }")]
#[case(
    "S: 554 5.7.1",
    "Code { digits: [Some(5), Some(5), Some(4)], enhanced: Some([Some(5), Some(7), Some(1)]) }"
)]
#[case(
    "S: 5yz 5.x.x",
    "Code { digits: [Some(5), None, None], enhanced: Some([Some(5), None, None]) }"
)]
#[case("S: closed", "Closed")]
#[case("S: closed in order", "ClosedInOrder")]
#[case("S: alert | closed", "Alert, Closed")]
#[case(
    "S: 421|closed",
    "Code { digits: [Some(4), Some(2), Some(1)], enhanced: None }, Closed"
)]
fn a_reply(#[case] line: &str, #[case] patterns: &str) {
    let expected = format!(
        "Reply(Reply {{ again: false, patterns: [{patterns}], details: [], within: None }})"
    );
    assert_eq!(step(line), expected);
}

#[test]
fn a_reply_has_details_and_a_limit() {
    assert_eq!(
        step("S: nothing within 500ms"),
        "Reply(Reply { again: false, patterns: [Nothing], details: [], within: Some(500ms) })"
    );
    assert_eq!(
        step("S= 250\n  has PIPELINING\n  lacks VRFY"),
        "Reply(Reply { again: true, patterns: [Code { digits: [Some(2), Some(5), Some(0)], \
         enhanced: None }], details: [Detail { word: \"has\", text: \"PIPELINING\" }, Detail { \
         word: \"lacks\", text: \"VRFY\" }], within: None })"
    );
}

#[rstest]
#[case(
    "sql UPDATE users SET quota = 1",
    r#"Sql("UPDATE users SET quota = 1")"#
)]
#[case("database stop", "Database(Stop)")]
#[case("database start", "Database(Start)")]
#[case("database pause", "Database(Pause)")]
#[case("database resume", "Database(Resume)")]
#[case("database slow", "Database(Slow)")]
#[case("database cut", "Database(Cut)")]
#[case("disk mailboxes full", "Disk(Mailboxes, true)")]
#[case("disk queue free", "Disk(Queue, false)")]
#[case("target restart", "Target(Restart)")]
#[case("target kill", "Target(Kill)")]
#[case("target start", "Target(Start)")]
#[case("sink refuses", "SinkListens(false)")]
#[case("sink accepts", "SinkListens(true)")]
#[case(
    "sink answers DATA 451 4.3.0 come again",
    r#"SinkAnswers { verb: "DATA", recipient: None, reply: Some("451 4.3.0 come again") }"#
)]
#[case(
    "sink answers RCPT <a@$transport> 550 5.1.1 nobody",
    r#"SinkAnswers { verb: "RCPT", recipient: Some("a@$transport"), reply: Some("550 5.1.1 nobody") }"#
)]
#[case(
    "sink answers RCPT as usual",
    r#"SinkAnswers { verb: "RCPT", recipient: None, reply: None }"#
)]
#[case(
    "sink answers DOT closes",
    r#"SinkAnswers { verb: "DOT", recipient: None, reply: Some("closes") }"#
)]
#[case(
    "maildir address@$domain empty-out",
    r#"Mailbox("address@$domain", EmptyOut)"#
)]
#[case(
    "maildir address@$domain throw-out",
    r#"Mailbox("address@$domain", ThrowOut)"#
)]
#[case("maildir address@$domain shut", r#"Mailbox("address@$domain", Shut)"#)]
#[case("maildir address@$domain open", r#"Mailbox("address@$domain", Open)"#)]
#[case(
    "maildir address@$domain measured",
    r#"Mailbox("address@$domain", Measured)"#
)]
#[case(
    "maildir address@$domain watched",
    r#"Mailbox("address@$domain", Watched)"#
)]
#[case(
    "maildir address@$domain put .Trash/cur/1.a 60 bytes",
    r#"Mailbox("address@$domain", Put(".Trash/cur/1.a", 60))"#
)]
#[case(
    "repeat 3\n  C: RCPT TO:<a$n@$domain>",
    r#"Repeat(3, [Step { kind: Client("RCPT TO:<a$n@$domain>") }])"#
)]
fn the_world(#[case] lines: &str, #[case] expected: &str) {
    assert_eq!(step(lines), expected);
}

#[rstest]
#[case(
    "maildir address@$domain empty within 2s",
    r#"Maildir { address: "address@$domain", count: 0, details: [], within: Some(2s) }"#
)]
#[case(
    "maildir address@$domain 2 messages",
    r#"Maildir { address: "address@$domain", count: 2, details: [], within: None }"#
)]
#[case(
    "sink $elsewhere empty",
    r#"Sink { domain: "$elsewhere", count: 0, details: [], within: None }"#
)]
#[case(
    "sink $sender 1 message within 1m",
    r#"Sink { domain: "$sender", count: 1, details: [], within: Some(60s) }"#
)]
#[case("sink heard QUIT within 2s", r#"SinkHeard("QUIT", Some(2s))"#)]
#[case("queue empty", "Queue(0, None)")]
#[case("queue 1 message within 5s", "Queue(1, Some(5s))")]
#[case(
    "rows 0 SELECT email FROM users",
    r#"Rows(0, "SELECT email FROM users")"#
)]
fn a_probe(#[case] lines: &str, #[case] expected: &str) {
    assert_eq!(step(lines), expected);
}

#[rstest]
#[case("maildir address@$domain 1 message", "has Subject: x")]
#[case("maildir address@$domain 1 message", "lacks Bcc:")]
#[case("maildir address@$domain 1 message", "first Return-Path:")]
#[case(
    "maildir address@$domain 1 message",
    "header Delivered-To: address@$domain"
)]
#[case("maildir address@$domain 1 message", "path $domain/address/new")]
#[case("maildir address@$domain 1 message", "mode 0600")]
#[case("maildir address@$domain 1 message", "foldermode 700")]
#[case("maildir address@$domain 1 message", "owner vmail")]
#[case("maildir address@$domain 1 message", "name ,S=$size")]
#[case("maildir address@$domain 1 message", "lf")]
#[case("maildir address@$domain 1 message", "plainname")]
#[case("maildir address@$domain 1 message", "dated")]
#[case("maildir address@$domain 1 message", "folders")]
#[case("maildir address@$domain 1 message", "tidy")]
#[case("maildir address@$domain 1 message", "whole")]
#[case("maildir address@$domain 1 message", "throughtmp")]
#[case("sink $sender 1 message", "parameter NOTIFY=NEVER")]
#[case("sink $sender 1 message", "noparameter RET=")]
#[case("sink $sender 1 message", "crlf")]
#[case("maildir address@$domain 1 message", "width 998")]
#[case("maildir address@$domain 1 message", "maildirsize 102400S,10C")]
#[case("sink $sender 1 message", "from <>")]
#[case("sink $sender 1 message", "to <friend@$sender>")]
#[case("sink $sender 1 message", "has over quota")]
#[case("sink $sender 1 message", "lacks over quota")]
#[case("sink $sender 1 message", "header Subject: x")]
#[case("sink $sender 1 message", "status Status: 5.x.x")]
#[case("sink $sender 1 message", "part 2 message/delivery-status")]
fn a_detail_of_a_message(#[case] probe: &str, #[case] line: &str) {
    let (word, text) = line.split_once(' ').unwrap_or((line, ""));
    let seen = step(&format!("{probe}\n  {line}"));
    let expected = format!("details: [Detail {{ word: {word:?}, text: {text:?} }}]");
    assert!(seen.contains(&expected), "{seen}");
}

#[rstest]
#[case("from    neighbour", "from: Neighbour")]
#[case("entry   25+starttls", "entry: StartTls")]
#[case("entry   465", "entry: Smtps")]
#[case("start   nothing\nslow", "start: Nothing")]
#[case("start   connected", "start: Connected")]
#[case("start   greeted", "start: Greeted")]
#[case(
    "start   authenticated address@$domain",
    r#"start: Authenticated("address@$domain")"#
)]
#[case("names   tutorial", "literal_names: true")]
#[case(
    "needs   quota own-target\nneeds   sink",
    r#"needs: ["quota", "own-target", "sink"]"#
)]
#[case("profile vda", r#"profile: Some("vda")"#)]
#[case(
    "main.cf virtual_alias_domains =",
    r#"main_cf: [("virtual_alias_domains", "")]"#
)]
#[case(
    "main.cf myorigin = $$mydomain",
    r#"main_cf: [("myorigin", "$$mydomain")]"#
)]
#[case(
    "master.cf smtps smtpd_tls_wrappermode = yes",
    r#"master_cf: [("smtps", "smtpd_tls_wrappermode", "yes")]"#
)]
#[case("slow", "slow: true")]
#[case("each    entry 25, 465", r#"each: [("entry", ["25", "465"])]"#)]
#[case(
    "each    who a@$domain, \"\"\neach    verb NOOP, RSET",
    r#"each: [("who", ["a@$domain", ""]), ("verb", ["NOOP", "RSET"])]"#
)]
#[case(
    "cases   verb  code\n        VRFY a@$domain  252\n        \"\"  5yz",
    r#"cases: Some((["verb", "code"], [["VRFY a@$domain", "252"], ["", "5yz"]]))"#
)]
fn a_header_line(#[case] line: &str, #[case] expected: &str) {
    let line = if line.starts_with("start   nothing") {
        // Without a connection the clause of this table would have nothing to speak on.
        let source = "title   A case\nstart   nothing\nslow\nconnect\n".to_owned() + CLAUSE;
        read(&source).header
    } else {
        header(line)
    };
    let seen = without_places(&format!("{line:?}"));
    assert!(seen.contains(expected), "{seen}");
}

#[rstest]
#[case("MUST", "Must")]
#[case("MUST-NOT", "MustNot")]
#[case("SHOULD", "Should")]
#[case("SHOULD-NOT", "ShouldNot")]
#[case("MAY", "May")]
#[case("ROBUST", "Robust")]
fn a_clause(#[case] level: &str, #[case] expected: &str) {
    let line = format!("{level} esc.code-5.7.1 rfc3463#3.8 postfix:mynetworks  says: why");
    let seen = step(&format!("{line}\nS= 250"));
    assert_eq!(
        seen,
        format!(
            "Clause(Clause {{ level: {expected}, id: \"esc.code-5.7.1\", references: \
             [\"rfc3463#3.8\", \"postfix:mynetworks\"], claim: \"says: why\" }})"
        )
    );
}

#[test]
fn lines_may_end_as_on_windows() {
    let source = format!("title   A case\n{CLAUSE}").replace('\n', "\r\n");
    assert_eq!(read(&source).title, "A case");
}

#[test]
fn a_comment_ends_a_line_after_two_blanks_and_fills_one_at_its_start() {
    let source = format!("# about\ntitle   A #1 case  # the title\n  # indented\n{CLAUSE}");
    assert_eq!(read(&source).title, "A #1 case");
}
