//! The SMTP client against a scripted next hop on loopback.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod back;
mod front;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use Fate::{Failed, Heard, Waits};
use back::{Back, Sink, Surroundings, envelope, eventually, friendly, name_server};
use front::Setup;
use rstest::rstest;
use vmaild_protocol::session::Notify;

const MESSAGE: &str = "Subject: probe\r\n\r\n.dot\r\nhello\r\n";

const USUAL: &str = "250-PIPELINING\r\n250 8BITMIME";

/// A host that offers `extensions`, answers `reply` to lines that begin with `to`, or closes there,
/// and takes everything else.
fn answering(
    to: &'static str,
    reply: Option<&'static str>,
    extensions: &'static str,
) -> impl Fn(&str) -> Option<String> {
    move |line| {
        if line.starts_with(to) {
            reply.map(str::to_owned)
        } else {
            Some(friendly(line, extensions))
        }
    }
}

/// A queue with these lines in its main.cf, and a message in it for the next hop.
async fn sending(sender: &str, more: &str) -> Back {
    let back = Back::start(more).await;
    let sent = back.send(sender, &["x@ext.example"], MESSAGE).await;
    sent.unwrap();
    back
}

#[rstest]
#[case::mail("MAIL", "550 5.1.8 no", "5.1.8", "MAIL FROM command")]
#[case::rcpt(
    "RCPT",
    "550-5.1.1 no such\r\n550 5.1.1 user",
    "5.1.1",
    "RCPT TO command"
)]
#[case::data("DATA", "554 no", "5.0.0", "DATA command")]
#[case::end(".", "554 5.7.1 spam", "5.7.1", "end of DATA command")]
#[tokio::test]
async fn a_refusal_comes_back_with_what_the_host_said(
    #[case] to: &'static str,
    #[case] reply: &'static str,
    #[case] status: &str,
    #[case] command: &str,
) {
    let sink = Sink::start(answering(to, Some(reply), USUAL));
    let back = sending("sender@mydomain.com", &sink.transport()).await;
    let notice = back.wait_for("mydomain.com/sender", 1).await.remove(0);
    assert!(notice.contains(&format!(
        "Action: failed\nStatus: {status}\nRemote-MTA: dns; "
    )));
    let flat = notice.replace("\n    ", " ");
    assert!(
        flat.contains(&format!("(in reply to {command})")),
        "{notice}"
    );
    assert!(flat.contains("Diagnostic-Code: smtp; 55"), "{notice}");
}

#[rstest]
#[case::greeting("CONNECT", Some("554 go away"), "refused to talk to me: 554 go away")]
#[case::nonsense("MAIL", Some("what?"), "Protocol error")]
#[case::a_promise_it_cannot_make("DATA", Some("250 done"), "said: 250 done")]
#[case::no_word_after_the_dot(".", None, "message may be sent more than once")]
#[tokio::test]
async fn what_says_nothing_of_the_message_is_tried_again(
    #[case] to: &'static str,
    #[case] reply: Option<&'static str>,
    #[case] why: &str,
) {
    let sink = Sink::start(answering(to, reply, USUAL));
    let back = sending("sender@mydomain.com", &sink.transport()).await;
    eventually(|| back.listing().contains(why).then_some(())).await;
    let accepting = Sink::friendly();
    let back = back.restart_with(&accepting.transport()).await;
    let heard = accepting.session().await.join("\n");
    assert!(
        heard.contains("MAIL FROM:<sender@mydomain.com> SIZE="),
        "{heard}"
    );
    back.wait_until_empty().await;
    assert!(back.mail("mydomain.com/sender").is_empty());
}

/// RFC 3461 §5.2.1, §5.2.2: what the sender hears from this server, by what he asked for, what the
/// next hop said of the recipient, and whether it reports itself.
#[rstest]
#[case::success_there("250 DSN", "250 ok", Some("SUCCESS"), None)]
#[case::failure_there("250 DSN", "550 no", Some("FAILURE"), Some("failed"))]
#[case::no_failure_there("250 DSN", "550 no", Some("SUCCESS"), None)]
#[case::success("250 8BITMIME", "250 ok", Some("SUCCESS"), Some("relayed"))]
#[case::no_success("250 8BITMIME", "250 ok", Some("FAILURE"), None)]
#[case::nothing_asked_of_success("250 8BITMIME", "250 ok", None, None)]
#[case::failure("250 8BITMIME", "550 no", Some("FAILURE"), Some("failed"))]
#[case::no_failure("250 8BITMIME", "550 no", Some("SUCCESS"), None)]
#[case::never("250 8BITMIME", "550 no", Some("NEVER"), None)]
#[case::nothing_asked_of_failure("250 8BITMIME", "550 no", None, Some("failed"))]
#[tokio::test]
async fn the_sender_hears_what_he_asked_for(
    #[case] offer: &'static str,
    #[case] reply: &'static str,
    #[case] asked: Option<&str>,
    #[case] action: Option<&str>,
) {
    let sink = Sink::start(answering("RCPT", Some(reply), offer));
    let back = Back::start(&sink.transport()).await;
    let mut envelope = envelope("sender@mydomain.com", &["x@ext.example"]);
    envelope.recipients[0].notify = asked.map(|asked| Notify {
        success: asked == "SUCCESS",
        failure: asked == "FAILURE",
        delay: false,
    });
    back.send_as(envelope, MESSAGE).await.unwrap();
    let heard = sink.session().await.join("\n");
    let passed_on = asked.filter(|_| offer.contains("DSN"));
    let parameter = passed_on.map(|asked| format!(" NOTIFY={asked}"));
    let command = format!("RCPT TO:<x@ext.example>{}\n", parameter.unwrap_or_default());
    assert!(heard.contains(&command), "{heard}");
    back.wait_until_empty().await;
    let notices = back.mail("mydomain.com/sender").join("\n");
    let actions: Vec<_> = notices
        .lines()
        .filter_map(|line| line.strip_prefix("Action: "))
        .collect();
    assert_eq!(actions, Vec::from_iter(action), "{notices}");
}

#[rstest]
#[case::size("250 SIZE 100", "x", false, "5.3.4")]
#[case::eight_bit("250 PIPELINING", "caf\u{e9}", false, "5.6.3")]
#[case::smtputf8("250 8BITMIME", "x", true, "5.6.7")]
#[tokio::test]
async fn what_the_host_cannot_take_is_not_sent(
    #[case] extensions: &'static str,
    #[case] body: &str,
    #[case] smtputf8: bool,
    #[case] status: &str,
) {
    let sink = Sink::start(move |line| Some(friendly(line, extensions)));
    let back = Back::start(&sink.transport()).await;
    let mut asked = envelope("sender@mydomain.com", &["x@ext.example"]);
    asked.smtputf8 = smtputf8;
    back.send_as(asked, &format!("Subject: p\r\n\r\n{body}\r\n"))
        .await
        .unwrap();
    assert_eq!(sink.session().await, ["EHLO server.domain.com", "QUIT"]);
    let notice = back.wait_for("mydomain.com/sender", 1).await.remove(0);
    assert!(notice.contains(&format!("Status: {status}\n")), "{notice}");
}

const GREETING: &str = "220 sink.ext.example ESMTP";
const BUSY: &str = "421 4.7.0 too many connections";

/// Sixty messages for a next hop that greets nobody before all of them wait; it then says `greeting`
/// to the first `places` connections, and to the others that it has no place left.
async fn sixty(greeting: &'static str, places: usize) -> (Back, Sink) {
    let connections = AtomicUsize::new(0);
    let open = Arc::new(AtomicBool::new(false));
    let gate = open.clone();
    let sink = Sink::start(move |line| {
        while !gate.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Some(match line {
            "CONNECT" if connections.fetch_add(1, Ordering::Relaxed) >= places => BUSY.to_owned(),
            "CONNECT" => greeting.to_owned(),
            line => friendly(line, "250 8BITMIME"),
        })
    });
    let more = "minimal_backoff_time = 1h\nmaximal_backoff_time = 1h";
    let back = Back::start(&format!("{more}\n{}", sink.transport())).await;
    for _ in 0..60 {
        back.send("<>", &["x@ext.example"], MESSAGE).await.unwrap();
    }
    open.store(true, Ordering::Relaxed);
    (back, sink)
}

#[tokio::test]
async fn messages_that_wait_for_one_host_share_connections() {
    let (back, sink) = sixty(GREETING, 60).await;
    back.wait_until_empty().await;
    let (mut messages, mut sessions) = (0, 0);
    while messages < 60 {
        let heard = sink.session().await;
        messages += heard.iter().filter(|line| *line == ".").count();
        sessions += 1;
    }
    assert_eq!(messages, 60);
    assert!(sessions <= 30, "{sessions} connections for 60 messages");
}

#[tokio::test]
async fn a_host_that_does_not_talk_is_asked_for_those_who_waited_too() {
    let (back, sink) = sixty("421 4.3.2 not now", 60).await;
    let all = || back.listing().matches("421 4.3.2 not now").count() == 60;
    eventually(|| all().then_some(())).await;
    let sessions = std::iter::from_fn(|| sink.ended()).count();
    assert!(sessions <= 20, "{sessions} connections to learn it");
}

#[tokio::test]
async fn a_host_that_has_few_places_gets_the_rest_through_those() {
    let (back, _sink) = sixty(GREETING, 2).await;
    // Twenty connected at once, and eighteen of them heard that there was no place.
    let refused = || back.listing().matches(BUSY).count() == 18;
    let rest = || back.listing().matches("x@ext.example").count() == 18;
    eventually(|| (refused() && rest()).then_some(())).await;
}

/// What becomes of a message for `x@ext.example`.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// The host at this address hears it.
    Heard(&'static str),
    /// It goes back with this status.
    Failed(&'static str),
    /// It waits, and the listing says why.
    Waits(&'static str),
}

#[rstest]
#[case::best_first("MX 20 two.example\nMX 10 one.example", Heard("one"))]
#[case::next_where_it_is_down("MX 10 down.example\nMX 20 two.example", Heard("two"))]
#[case::next_where_it_puts_off("MX 10 later.example\nMX 20 two.example", Heard("two"))]
#[case::next_where_it_has_no_address("MX 10 nowhere.example\nMX 20 two.example", Heard("two"))]
#[case::next_where_it_is_not_told("MX 10 failing.example\nMX 20 two.example", Heard("two"))]
#[case::its_own_address("A 127.9.7.1", Heard("one"))]
#[case::its_own_address_of_today("AAAA ::1", Waits("connect to ext.example[::1]:"))]
#[case::takes_no_mail("MX 0 .\nA 127.9.7.1", Failed("5.1.10"))]
#[case::is_not_there("", Failed("5.4.4"))]
#[case::leads_nowhere("MX 10 nowhere.example", Failed("5.4.4"))]
#[case::cannot_be_looked_up("SERVFAIL", Waits("try again"))]
#[case::cannot_be_found("MX 10 failing.example", Waits("try again"))]
#[case::is_this_server("MX 10 me.example", Failed("5.4.6"))]
#[case::is_called_like_this_server("MX 10 server.domain.com", Failed("5.4.6"))]
#[case::the_better_one_cannot_be_looked_up(
    "MX 10 failing.example\nMX 20 me.example",
    Waits("unable to find primary relay")
)]
#[case::not_those_behind_this_server(
    "MX 10 down.example\nMX 20 me.example\nMX 30 two.example",
    Waits("connect to down.example[127.9.7.9]:")
)]
#[tokio::test]
async fn mail_goes_where_its_domain_says(#[case] records: &str, #[case] fate: Fate) {
    const HOSTS: &str =
        "one.example A 127.9.7.1\ntwo.example A 127.9.7.2\nlater.example A 127.9.7.3
        me.example A 127.9.7.4\ndown.example A 127.9.7.9\nserver.domain.com A 127.9.7.1
        failing.example SERVFAIL\n";
    let takes = |line: &str| Some(friendly(line, "250 8BITMIME"));
    let one = Sink::start_at(([127, 9, 7, 1], 0).into(), takes);
    let port = one.address.port();
    let two = Sink::start_at(([127, 9, 7, 2], port).into(), takes);
    let later = answering("RCPT", Some("450 4.2.0 later"), "250 8BITMIME");
    let _later = Sink::start_at(([127, 9, 7, 3], port).into(), later);
    let records: Vec<_> = records
        .lines()
        .map(|line| format!("ext.example {line}\n"))
        .collect();
    let surroundings = Surroundings {
        listening: vec![([127, 9, 7, 4], port).into()],
        resolver: Some(name_server((HOSTS.to_owned() + &records.concat()).leak())),
    };
    let more = format!("smtp_tcp_port = {port}");
    let back = Back::start_in(tempfile::tempdir().unwrap(), &more, surroundings).await;
    back.send("sender@mydomain.com", &["x@ext.example"], MESSAGE)
        .await
        .unwrap();
    match fate {
        Heard(host) => {
            let heard = if host == "one" { &one } else { &two };
            assert!(heard.session().await.contains(&".".to_owned()));
            back.wait_until_empty().await;
        }
        Failed(status) => {
            let notice = back.wait_for("mydomain.com/sender", 1).await.remove(0);
            assert!(notice.contains(&format!("Status: {status}\n")), "{notice}");
        }
        Waits(why) => {
            eventually(|| back.listing().contains(why).then_some(())).await;
            assert!(one.ended().is_none() && two.ended().is_none());
        }
    }
}

#[tokio::test]
async fn where_tls_does_not_work_mail_that_may_go_in_clear_does() {
    let sink = Sink::start(|line| Some(friendly(line, "250-STARTTLS\r\n250 8BITMIME")));
    let more = format!("smtp_tls_security_level = may\n{}", sink.transport());
    let back = sending("<>", &more).await;
    assert_eq!(sink.session().await.last().unwrap(), "STARTTLS");
    assert!(sink.session().await.contains(&".".to_owned()));
    back.wait_until_empty().await;
}

#[tokio::test]
async fn a_refusal_with_the_code_of_failed_tls_is_no_reason_to_connect_in_clear() {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    let sink = Sink::start(move |line| {
        count.fetch_add(usize::from(line == "CONNECT"), Ordering::Relaxed);
        Some("554 5.7.5 not you".to_owned())
    });
    let more =
        "smtp_tls_security_level = may\nminimal_backoff_time = 1h\nmaximal_backoff_time = 1h";
    let back = Back::start(&format!("{more}\n{}", sink.transport())).await;
    back.send("<>", &["x@ext.example"], MESSAGE).await.unwrap();
    eventually(|| back.listing().contains("not you").then_some(())).await;
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[rstest]
#[case::not_offered("250 8BITMIME", "TLS is required, but was not offered")]
#[case::not_working("250 STARTTLS", "Cannot start TLS")]
#[tokio::test]
async fn without_tls_mail_that_must_not_go_in_clear_waits(
    #[case] offer: &'static str,
    #[case] why: &str,
) {
    let sink = Sink::start(move |line| Some(friendly(line, offer)));
    let more = format!("smtp_tls_security_level = encrypt\n{}", sink.transport());
    let back = sending("<>", &more).await;
    eventually(|| back.listing().contains(why).then_some(())).await;
    let heard = sink.session().await;
    assert!(
        !heard.iter().any(|line| line.starts_with("MAIL")),
        "{heard:?}"
    );
}

#[rstest]
#[case::both_can(true, "may", true)]
#[case::it_is_not_offered(false, "may", false)]
#[case::it_is_not_wanted(true, "none", false)]
#[case::it_must_be(true, "encrypt", true)]
#[test]
fn mail_goes_out_under_tls_where_both_sides_want_it(
    #[case] certificate: bool,
    #[case] level: &str,
    #[case] secured: bool,
) {
    let next = Setup::new();
    let next = if certificate {
        next.certificate()
    } else {
        next
    };
    let next = next.start();
    let first = Setup::new().main_cf(&format!("smtp_tls_security_level = {level}"));
    let hop = format!("smtp:[127.0.0.1]:{}", next.smtp().port());
    first.sql(&format!(
        "INSERT INTO transport VALUES ('address@mydomain.com', '{hop}')"
    ));
    let first = first.start();
    let mut client = first.greeted();
    client.says("MAIL FROM:<friend@ext.example>", "250");
    client.says("RCPT TO:<address@mydomain.com>", "250");
    client.says("DATA", "354");
    client.says("Subject: probe\r\n\r\nhello\r\n.", "250");
    next.wait_for_log("status=sent (delivered to maildir)");
    let mail = &next.files("vmail/mydomain.com/address/new")[0];
    let mail = std::fs::read_to_string(mail).unwrap();
    assert_eq!(mail.contains("(TLSv1"), secured, "{mail}");
}

#[tokio::test]
async fn mail_for_the_server_itself_is_a_loop() {
    let here = "127.0.0.1:2599".parse().unwrap();
    let more = "transport_maps = inline:{ ext.example=smtp:[127.0.0.1]:2599 }";
    let surroundings = Surroundings {
        listening: vec![here],
        ..Surroundings::default()
    };
    let back = Back::start_in(tempfile::tempdir().unwrap(), more, surroundings).await;
    back.send("sender@mydomain.com", &["x@ext.example"], MESSAGE)
        .await
        .unwrap();
    let notice = back.wait_for("mydomain.com/sender", 1).await.remove(0);
    assert!(notice.contains("Status: 5.4.6\n"), "{notice}");
    assert!(notice.contains("mail for 127.0.0.1 loops back to myself"));
}
