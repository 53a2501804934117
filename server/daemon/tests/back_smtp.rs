//! The SMTP client against a scripted next hop on loopback.

mod back;

use back::{Back, Sink, envelope, eventually, friendly};
use rstest::rstest;
use vmaild_protocol::session::{Notify, Ret};

const MESSAGE: &str = "Subject: probe\r\n\r\n.dot\r\nhello\r\n";

/// A sink that answers `reply` to lines that begin with `to`, and takes everything else.
fn refusing(to: &'static str, reply: &'static str) -> Sink {
    Sink::start(move |line| {
        let hit = line.starts_with(to);
        Some(if hit {
            reply.to_owned()
        } else {
            friendly(line, "250-PIPELINING\r\n250 8BITMIME")
        })
    })
}

#[tokio::test]
async fn a_message_goes_out_in_one_transaction() {
    let sink = Sink::friendly();
    let back = Back::start(&sink.transport()).await;
    let to = ["x@ext.example", "y@ext.example", "out@mydomain.com"];
    let mut asked = envelope("sender@mydomain.com", &to);
    asked.ret = Some(Ret::Full);
    asked.envid = Some("e+2B1".to_owned());
    asked.recipients[1].orcpt = Some("rfc822;y+40old@x.example".to_owned());
    asked.recipients[1].notify = Some(Notify {
        success: true,
        failure: true,
        delay: false,
    });
    let id = back.send_as(asked, MESSAGE).await.unwrap();
    let heard = sink.session().await.join("\n").replace(&id, "<QID>");
    let size = heard
        .split("SIZE=")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    let date = heard
        .lines()
        .find(|line| line.contains("+0000"))
        .unwrap()
        .to_owned();
    let heard = heard.replace(&date, "\t<DATE>").replace(&size, "<SIZE>");
    insta::assert_snapshot!("transaction", heard);
    back.wait_until_empty().await;
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
    let sink = refusing(to, reply);
    let back = Back::start(&sink.transport()).await;
    back.send("sender@mydomain.com", &["x@ext.example"], MESSAGE)
        .await
        .unwrap();
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
#[case::greeting("CONNECT", "554 go away")]
#[case::mail("MAIL", "451 4.3.0 later")]
#[case::rcpt("RCPT", "450 4.2.0 later")]
#[case::data("DATA", "421 4.3.2 closing")]
#[case::end(".", "452 4.3.1 full")]
#[case::nonsense("MAIL", "what?")]
#[case::a_promise_it_cannot_make("DATA", "250 done")]
#[tokio::test]
async fn anything_temporary_is_tried_again(#[case] to: &'static str, #[case] reply: &'static str) {
    let sink = refusing(to, reply);
    let back = Back::start(&sink.transport()).await;
    back.send("sender@mydomain.com", &["x@ext.example"], MESSAGE)
        .await
        .unwrap();
    eventually(|| back.listing().contains("<x@ext.example> (").then_some(())).await;
    let accepting = Sink::friendly();
    let back = back.restart_with(&accepting.transport()).await;
    accepting.session().await;
    back.wait_until_empty().await;
    assert!(back.mail("mydomain.com/sender").is_empty());
}

#[tokio::test]
async fn each_recipient_is_judged_alone() {
    let sink = Sink::start(|line| match line {
        "RCPT TO:<bad@ext.example>" => Some("550 5.1.1 no".to_owned()),
        line => Some(friendly(line, "250 PIPELINING")),
    });
    let back = Back::start(&sink.transport()).await;
    let to = ["bad@ext.example", "good@ext.example"];
    back.send("sender@mydomain.com", &to, MESSAGE)
        .await
        .unwrap();
    let heard = sink.session().await;
    assert!(heard.contains(&".".to_owned()));
    let notice = back.wait_for("mydomain.com/sender", 1).await.remove(0);
    assert!(notice.contains("bad@ext.example\n") && !notice.contains("good@ext.example"));
}

#[tokio::test]
async fn a_host_without_ehlo_is_spoken_to_with_helo_and_no_parameters() {
    let sink = refusing("EHLO", "502 what");
    let back = Back::start(&sink.transport()).await;
    let mut asked = envelope("sender@mydomain.com", &["x@ext.example"]);
    asked.envid = Some("e".to_owned());
    back.send_as(asked, MESSAGE).await.unwrap();
    let heard = sink.session().await;
    let expected = [
        "HELO server.domain.com",
        "MAIL FROM:<sender@mydomain.com>",
        "RCPT TO:<x@ext.example>",
    ];
    assert_eq!(heard[1..4], expected);
}

#[tokio::test]
async fn success_is_reported_where_the_next_hop_will_not() {
    let sink = refusing("NOTHING", "");
    let back = Back::start(&sink.transport()).await;
    let mut asked = envelope("sender@mydomain.com", &["x@ext.example"]);
    asked.recipients[0].notify = Some(Notify {
        success: true,
        ..Notify::default()
    });
    back.send_as(asked, MESSAGE).await.unwrap();
    let heard = sink.session().await;
    assert!(
        heard.contains(&"RCPT TO:<x@ext.example>".to_owned()),
        "{heard:?}"
    );
    let notice = back.wait_for("mydomain.com/sender", 1).await.remove(0);
    assert!(notice.contains("Action: relayed\nStatus: 2.0.0\nRemote-MTA: dns; 127.0.0.1\n"));
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

#[tokio::test]
async fn mail_for_the_server_itself_is_a_loop() {
    let here = "127.0.0.1:2599".parse().unwrap();
    let more = "transport_maps = inline:{ ext.example=smtp:[127.0.0.1]:2599 }";
    let back = Back::start_in(tempfile::tempdir().unwrap(), more, vec![here]).await;
    back.send("sender@mydomain.com", &["x@ext.example"], MESSAGE)
        .await
        .unwrap();
    let notice = back.wait_for("mydomain.com/sender", 1).await.remove(0);
    assert!(notice.contains("Status: 5.4.6\n"), "{notice}");
    assert!(notice.contains("mail for 127.0.0.1 loops back to myself"));
}

#[tokio::test]
async fn a_host_that_closes_after_the_dot_is_tried_again_and_never_bounced() {
    let sink = Sink::start(|line| (line != ".").then(|| friendly(line, "250 8BITMIME")));
    let back = Back::start(&sink.transport()).await;
    back.send("sender@mydomain.com", &["x@ext.example"], MESSAGE)
        .await
        .unwrap();
    sink.session().await;
    sink.session().await;
    let listing = back.listing();
    assert!(
        listing.contains("message may be sent more than once"),
        "{listing}"
    );
    assert!(back.mail("mydomain.com/sender").is_empty());
}

#[tokio::test]
async fn many_messages_for_one_host_share_connections() {
    let sink = Sink::friendly();
    let back = Back::start(&sink.transport()).await;
    for _ in 0..200 {
        back.send("<>", &["x@ext.example"], MESSAGE).await.unwrap();
    }
    let mut messages = 0;
    while messages < 200 {
        messages += sink
            .session()
            .await
            .iter()
            .filter(|line| *line == ".")
            .count();
    }
    assert_eq!(messages, 200);
    back.wait_until_empty().await;
}
