//! Whole dialogues: sequence, transactions, content, TLS, limits, the ends of a session.
mod common;

use common::{Client, policy, settings};
use rstest::rstest;
use vmaild_protocol::{Action, Ask, Reply, Session};

const NO_RECIPIENTS: &str = "554 5.5.1 Error: no valid recipients";
const NESTED: &str = "503 5.5.1 Error: nested MAIL command";
const NEED_MAIL: &str = "503 5.5.1 Error: need MAIL command";
const NEED_RCPT: &str = "503 5.5.1 Error: need RCPT command";
const IN_PROGRESS: &str = "503 5.5.1 Error: MAIL transaction in progress";
const STORED: &str = "250 2.0.0 Ok: queued";
const UNRECOGNISED: &str = "500 5.5.2 Error: command not recognized";

#[test]
fn a_message_is_stored_with_its_envelope() {
    let mut client = Client::in_transaction();
    client.expect(&["RCPT TO:<\"e f\"@d.example> NOTIFY=NEVER", "DATA"]);
    assert_eq!(client.reply("Subject: x\r\n\r\n..\r\n.x\r\n."), STORED);
    let stored = client.stored.remove(0);
    assert_eq!(stored.content, b"Subject: x\r\n\r\n.\r\nx\r\n");
    assert_eq!(stored.envelope.reverse_path.to_string(), "<a@b.example>");
    assert_eq!(stored.envelope.helo, "client.example");
    let recipients = stored.envelope.recipients.iter();
    let recipients: Vec<_> = recipients.map(|to| to.mailbox.to_string()).collect();
    assert_eq!(recipients, ["c@d.example", "\"e f\"@d.example"]);
    assert!(!client.actions.contains(&Action::Discard));
}

#[test]
fn commands_out_of_sequence_are_refused_and_change_nothing() {
    let mut client = Client::new();
    assert_eq!(client.reply("RCPT"), NEED_MAIL);
    assert_eq!(client.reply("DATA"), NEED_RCPT);
    assert!(client.reply("MAIL FROM:<a@b").starts_with("501"));
    client.expect(&["MAIL FROM:<a@b>"]);
    assert_eq!(client.reply("MAIL FROM:<c@d>"), NESTED);
    assert_eq!(client.reply("DATA"), NO_RECIPIENTS);
    assert!(client.reply("RCPT TO:<nobody@d>").starts_with("550 5.1.1"));
    assert_eq!(client.reply("DATA"), NO_RECIPIENTS);
    assert_eq!(client.reply("AUTH PLAIN"), IN_PROGRESS);
    assert_eq!(client.reply("ETRN b.example"), IN_PROGRESS);
    client.expect(&["RCPT TO:<c@d>", "NOOP", "VRFY x@y"]);
    assert_eq!(client.reply("FOO"), UNRECOGNISED);
    assert!(client.reply("EHLO").starts_with("501"));
    assert_eq!(client.reply("DATA now"), "501 5.5.4 Syntax: DATA");
    client.expect(&["DATA", "."]);
    assert_eq!(client.stored.len(), 1);
    assert_eq!(client.reply("DATA"), NEED_RCPT);
}

#[rstest]
fn a_transaction_is_forgotten_after(
    #[values("RSET", "EHLO again", "HELO again", "STARTTLS")] line: &str,
) {
    let mut client = Client::in_transaction();
    client.expect(&[line]);
    assert_eq!(client.reply("DATA"), NEED_RCPT);
    assert_eq!(client.reply("RCPT TO:<c@d>"), NEED_MAIL);
    client.expect(&["MAIL FROM:<a@b>"]);
}

#[test]
fn what_the_policy_refuses_does_not_become_true() {
    let mut client = Client::new();
    assert!(client.reply("MAIL FROM:<refused@b>").starts_with("550"));
    assert_eq!(client.reply("RCPT TO:<c@d>"), NEED_MAIL);
    client.expect(&["MAIL FROM:<begin-refused@b>", "RCPT TO:<c@d>"]);
    assert!(client.reply("DATA").starts_with("550 5.7.1"));
    client.expect(&["RSET", "MAIL FROM:<store-refused@b>", "RCPT TO:<c@d>"]);
    client.expect(&["DATA"]);
    assert!(client.reply("x\r\n.").starts_with("451 4.3.0"));
    assert_eq!(client.reply("DATA"), NEED_RCPT);
    assert!(client.stored.is_empty());
}

#[test]
fn helo_can_be_required() {
    let mut client = Client::with(|settings| settings.helo_required = true);
    for line in ["MAIL FROM:<a@b>", "VRFY a", "AUTH PLAIN", "ETRN b.example"] {
        assert_eq!(client.reply(line), "503 5.5.1 Error: send HELO/EHLO first");
    }
    client.expect(&["NOOP", "RSET", "HELO x", "MAIL FROM:<a@b>"]);
}

#[rstest]
#[case(&[], "SMTP", "UTF8SMTP")]
#[case(&["HELO x"], "SMTP", "UTF8SMTP")]
#[case(&["EHLO x"], "ESMTP", "UTF8SMTP")]
#[case(&["EHLO x", AUTH], "ESMTPA", "UTF8SMTPA")]
#[case(&["STARTTLS", "EHLO x"], "ESMTPS", "UTF8SMTPS")]
#[case(&["EHLO x", "STARTTLS", "EHLO x", AUTH], "ESMTPSA", "UTF8SMTPSA")]
#[case(&["EHLO x", AUTH, "STARTTLS", "EHLO x"], "ESMTPS", "UTF8SMTPS")]
#[case(&["EHLO x", "STARTTLS"], "SMTP", "UTF8SMTPS")]
fn the_protocol_for_received_says_how_the_message_came(
    #[case] before: &[&str],
    #[case] plain: &str,
    #[case] utf8: &str,
) {
    for (smtputf8, protocol) in [("", plain), (" SMTPUTF8", utf8)] {
        let mut client = Client::new();
        client.expect(before);
        client.expect(&[&format!("MAIL FROM:<a@b>{smtputf8}"), "RCPT TO:<c@d>"]);
        client.expect(&["DATA", "."]);
        assert_eq!(client.stored[0].envelope.protocol, protocol);
    }
}

const AUTH: &str = "AUTH PLAIN AHVzZXJAZG9tAG15cGFzc3dvcmQ=";

#[test]
fn authentication_lasts_until_starttls() {
    let user = |client: &mut Client| {
        client.expect(&["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "."]);
        client.stored.pop().unwrap().envelope.user
    };
    let mut client = Client::new();
    client.expect(&[AUTH, "RSET", "EHLO x"]);
    assert_eq!(user(&mut client).as_deref(), Some("user@dom"));
    assert_eq!(client.reply(AUTH), "503 5.5.1 Error: already authenticated");
    client.expect(&["STARTTLS"]);
    assert_eq!(user(&mut client), None);
    client.expect(&[AUTH]);
    let mut client = Client::with(|settings| settings.auth = false);
    let not_enabled = "503 5.5.1 Error: authentication not enabled";
    assert_eq!(client.reply(AUTH), not_enabled);
    let disabled = "503 5.5.4 Error: authentication disabled";
    assert_eq!(client.reply("MAIL FROM:<a@b> AUTH=<>"), disabled);
}

#[rstest]
#[case(false, "502 5.5.1 Error: command not implemented")]
#[case(true, "554 5.5.1 Error: TLS already active")]
fn starttls_is_refused_where_it_cannot_be(#[case] implicit_tls: bool, #[case] reply: &str) {
    let mut client = Client::with(|settings| {
        (settings.starttls, settings.implicit_tls) = (false, implicit_tls);
    });
    assert_eq!(client.reply("STARTTLS"), reply);
}

#[test]
fn text_behind_a_refused_data_is_commands_and_counts_as_errors() {
    let mut client = Client::new();
    client.expect(&["EHLO x"]);
    let replies = client.say("MAIL FROM:<a@b>\r\nRCPT TO:<nobody@d>\r\nDATA\r\njust text\r\n.");
    assert_eq!(replies[2], NO_RECIPIENTS);
    assert_eq!(replies[3], UNRECOGNISED);
    assert!(replies[4].starts_with("221 2.7.0"));
}

#[rstest]
#[case(b"x\n.\r\nMAIL FROM:<e@f>\r\n", "LF")]
#[case(b"x\r\n.\nMAIL FROM:<e@f>\r\n", "LF")]
#[case(b"x\r.\rMAIL FROM:<e@f>\r\n", "CR")]
#[case(b"x\r\n.\rMAIL FROM:<e@f>\r\n", "CR")]
#[case(b"x\r\r\n.\r\r\nMAIL FROM:<e@f>\r\n", "CR")]
#[case(b"x\r\n.\r\r\nMAIL FROM:<e@f>\r\n", "CR")]
#[case(b"\nx", "LF")]
fn a_bare_octet_in_content_ends_the_session(#[case] content: &[u8], #[case] which: &str) {
    let mut client = Client::in_transaction();
    client.expect(&["DATA"]);
    client.feed(content);
    let error = format!("550 5.5.2 server.domain.com Error: bare <{which}> received");
    assert_eq!(client.heard(), [error.as_str()]);
    assert!(matches!(
        client.actions[..],
        [.., Action::Discard, Action::Send(_), Action::Close]
    ));
    let mut client = Client::in_transaction();
    client.feed(format!("BDAT {} LAST\r\n", content.len()).as_bytes());
    client.feed(content);
    let heard = client.heard();
    assert!(heard[0].starts_with("550 5.5.2"), "{heard:?}");
    assert!(client.is_closed() && client.actions.contains(&Action::Discard));
    assert!(client.stored.is_empty());
}

#[test]
fn a_message_over_the_limit_is_read_to_its_end_and_discarded_once() {
    for (size, reply) in [(98, STORED), (99, "552 5.3.4 Error: message file too big")] {
        let mut client = Client::with(|settings| settings.message_size_limit = 100);
        client.expect(&["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA"]);
        assert_eq!(client.reply(&format!(".{}\r\n.", "x".repeat(size))), reply);
        let is_discard = |action: &&Action| **action == Action::Discard;
        let discards = client.actions.iter().filter(is_discard).count();
        assert_eq!(discards, client.stored.len() ^ 1);
        client.expect(&["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "."]);
    }
}

#[test]
fn chunks_are_joined_unchanged() {
    let mut client = Client::in_transaction();
    client.feed(b"BDAT 7\r\na\r\n.\r\n\r");
    assert_eq!(client.heard(), ["250 2.0.0 Ok: 7 bytes"]);
    assert_eq!(client.reply("DATA"), "503 5.5.1 Error: DATA after BDAT");
    let late = "503 5.5.1 Error: RCPT after BDAT";
    assert_eq!(client.reply("RCPT TO:<e@f>"), late);
    assert_eq!(client.reply("MAIL FROM:<e@f>"), NESTED);
    client.feed(b"BDAT 0\r\nBDAT 4 LAST\r\n\n..x");
    assert_eq!(client.heard(), ["250 2.0.0 Ok: 0 bytes", STORED]);
    assert_eq!(client.stored[0].content, b"a\r\n.\r\n\r\n..x\r\n");
    assert_eq!(client.reply("BDAT 0 LAST"), NEED_RCPT);
    client.expect(&["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "BDAT 0 LAST"]);
    assert_eq!(client.stored[1].content, b"");
}

#[test]
fn a_refused_chunk_is_read_and_not_executed() {
    let mut client = Client::new();
    client.feed(b"BDAT 6 LAST\r\nQUIT\r\n");
    assert_eq!(client.heard(), [NEED_RCPT]);
    client.expect(&["MAIL FROM:<begin-refused@b>"]);
    client.feed(b"BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\n");
    let discarded = "551 5.0.0 Discarded 6 bytes after earlier error";
    assert_eq!(client.heard(), [NO_RECIPIENTS, discarded]);
    client.expect(&["MAIL FROM:<begin-refused@b>", "RCPT TO:<c@d>"]);
    client.feed(b"BDAT 6\r\nQUIT\r\n");
    assert_eq!(client.heard(), ["550 5.7.1 Not now"]);
    client.expect(&["RSET", "MAIL FROM:<a@b>", "RCPT TO:<c@d>"]);
    client.feed(b"BDAT 2\r\nx\nBDAT");
    assert!(client.is_closed());
}

#[test]
fn a_chunk_over_the_limit_discards_the_message() {
    let mut client = Client::with(|settings| settings.message_size_limit = 10);
    client.expect(&["MAIL FROM:<a@b>", "RCPT TO:<c@d>"]);
    client.feed(b"BDAT 6\r\nabcd\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n");
    let too_big = "552 5.3.4 Chunk exceeds message size limit";
    let heard = client.heard();
    assert_eq!(heard, ["250 2.0.0 Ok: 6 bytes", too_big, "250 2.0.0 Ok"]);
    assert!(client.actions.contains(&Action::Discard) && client.stored.is_empty());
    client.expect(&["MAIL FROM:<a@b>"]);
}

#[rstest]
fn a_message_in_chunks_is_discarded_by(
    #[values("RSET", "EHLO x", "STARTTLS", "QUIT", "BDAT x")] line: &str,
) {
    let mut client = Client::in_transaction();
    client.feed(b"BDAT 3\r\nabc");
    client.say(line);
    assert!(client.actions.contains(&Action::Discard));
}

#[rstest]
fn a_bdat_without_a_size_ends_the_session(
    #[values("", "x", "-1", "+1", "10 FIRST", "1 LAST x", "99999999999999999999")] arguments: &str,
) {
    let mut client = Client::in_transaction();
    let error = "521 5.5.4 Syntax: BDAT count [LAST]";
    assert_eq!(client.reply(&format!("BDAT {arguments}")), error);
    assert!(client.is_closed());
}

#[rstest]
#[case("BOGUS", 10, 20)]
#[case("RCPT TO:<nobody@d>", 10, 20)]
#[case("AUTH PLAIN AHUAd3Jvbmc=", 10, 20)]
#[case("NOOP", 111, 121)]
#[case("BDAT 0", 111, 121)]
#[case("RSET", 111, 121)]
#[case("VRFY a@b", 111, 121)]
#[case("EHLO x", 111, 121)]
fn errors_slow_the_client_down_and_then_end_the_session(
    #[case] line: &str,
    #[case] fast: usize,
    #[case] all: usize,
) {
    let mut client = Client::new();
    if line.starts_with("RCPT") {
        client.expect(&["MAIL FROM:<a@b>"]);
    }
    if line.starts_with("BDAT") {
        client.expect(&["MAIL FROM:<a@b>", "RCPT TO:<c@d>"]);
    }
    let mut pauses = Vec::new();
    for _ in 0..all {
        let before = client.actions.len();
        client.say(line);
        pauses.push(client.actions[before..].contains(&Action::Pause));
    }
    assert_eq!(pauses.iter().position(|&paused| paused), Some(fast));
    assert!(client.is_closed());
    let farewell = b"421 4.7.0 server.domain.com Error: too many errors\r\n".to_vec();
    // A message that was begun is thrown away besides.
    client.actions.retain(|action| *action != Action::Discard);
    let end = [Action::Pause, Action::Send(farewell), Action::Close];
    assert!(client.actions.ends_with(&end));
}

#[test]
fn a_message_too_big_counts_as_an_error() {
    let mut client = Client::with(|settings| {
        (settings.message_size_limit, settings.hard_error_limit) = (1, 1);
    });
    client.expect(&["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA"]);
    assert_eq!(client.say("x\r\n.").len(), 2);
    assert!(client.is_closed());
}

#[test]
fn a_message_that_was_taken_forgives_errors() {
    let mut client = Client::new();
    for _ in 0..5 {
        for _ in 0..9 {
            assert_eq!(client.reply("BOGUS"), UNRECOGNISED);
        }
        client.expect(&["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "."]);
    }
    assert!(!client.actions.contains(&Action::Pause));
}

#[test]
fn too_many_recipients_are_refused_and_do_not_count_as_errors_at_first() {
    let mut client = Client::with(|settings| {
        (settings.recipient_limit, settings.overshoot_limit) = (3, 100);
    });
    client.expect(&["MAIL FROM:<a@b>"]);
    client.expect(&["RCPT TO:<c@d>"; 3]);
    for _ in 0..100 {
        let too_many = "452 4.5.3 Error: too many recipients";
        assert_eq!(client.reply("RCPT TO:<c@d>"), too_many);
    }
    for _ in 0..20 {
        assert!(!client.is_closed());
        client.say("RCPT TO:<c@d>");
    }
    assert!(client.is_closed());
}

#[test]
fn a_client_that_closes_is_answered_and_its_half_line_forgotten() {
    let mut client = Client::in_transaction();
    client.session.feed(b"NOOP\r\nDATA\r\nhalf a mess");
    client.session.client_closed();
    client.run();
    assert_eq!(client.heard().len(), 2);
    assert!(client.actions.ends_with(&[Action::Discard, Action::Close]));
}

#[rstest]
fn a_time_out_discards_and_says_so(#[values("NOOP", "DATA", "BDAT 9", "AUTH PLAIN")] line: &str) {
    let mut client = if line.starts_with("AUTH") {
        Client::new()
    } else {
        Client::in_transaction()
    };
    client.say(line);
    client.session.timed_out();
    client.run();
    let farewell = "421 4.4.2 server.domain.com Error: timeout exceeded";
    assert_eq!(client.heard(), [farewell]);
    assert!(client.is_closed());
    assert_eq!(
        client.actions.contains(&Action::Discard),
        matches!(line, "DATA" | "BDAT 9")
    );
}

#[test]
fn a_handshake_that_never_ends_is_closed_without_a_word_in_clear() {
    let mut client = Client::new();
    client.handshakes = false;
    assert!(client.reply("STARTTLS").starts_with("220"));
    client.session.timed_out();
    client.run();
    assert_eq!(client.heard(), [""; 0]);
    assert!(client.is_closed());
}

#[test]
fn a_server_that_goes_down_first_answers_what_it_was_asked() {
    let mut session = Session::new(settings());
    session.feed(b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n");
    let _greeting = session.poll();
    let Some(Action::Ask(ask)) = session.poll() else {
        panic!("MAIL is asked about")
    };
    session.shut_down();
    session.timed_out();
    session.client_closed();
    assert_eq!(session.poll(), None);
    session.answer(policy(&ask));
    let rest: Vec<_> = std::iter::from_fn(|| session.poll()).collect();
    let farewell = b"421 4.3.2 server.domain.com Service shutting down\r\n".to_vec();
    let sender = Action::Send(b"250 2.1.0 Ok\r\n".to_vec());
    assert_eq!(rest, [sender, Action::Send(farewell), Action::Close]);
    session.feed(b"NOOP\r\n");
    session.answer(Reply::new(250, ""));
    assert_eq!(session.poll(), None);
}

#[test]
fn an_answer_of_421_ends_the_session() {
    let mut session = Session::new(settings());
    session.feed(b"VRFY a@b\r\nNOOP\r\n");
    let asked = std::iter::from_fn(|| session.poll()).last();
    assert!(matches!(asked, Some(Action::Ask(Ask::Verify(_)))));
    session.answer(Reply::new(421, "4.7.0 Go away"));
    assert!(matches!(session.poll(), Some(Action::Send(_))));
    assert_eq!(session.poll(), Some(Action::Close));
    assert_eq!(session.poll(), None);
}

#[test]
fn a_chunk_is_read_to_its_end_however_it_comes() {
    let octets = vec![b'x'; 200_000];
    let wire = [b"BDAT 200000\r\n", octets.as_slice()].concat();
    for piece in [wire.len(), 70_000, 999] {
        let mut client = Client::in_transaction();
        wire.chunks(piece).for_each(|octets| client.feed(octets));
        assert_eq!(client.heard(), ["250 2.0.0 Ok: 200000 bytes"]);
        // Without a transaction it is refused, and not taken for commands.
        let mut client = Client::new();
        wire.chunks(piece).for_each(|octets| client.feed(octets));
        assert_eq!(client.heard().len(), 1);
        client.expect(&["NOOP"]);
    }
}
