//! What real Postfix answers to each command line, but for the deviations that are named here.
mod common;

use common::Client;
use rstest::rstest;
use vmaild_protocol::Action;

const UNRECOGNISED: &str = "500 5.5.2 Error: command not recognized";
const NEEDS_SMTPUTF8: &str = "553 5.6.7 Error: address beyond ASCII needs SMTPUTF8";

#[rstest]
#[case("NOOP with an argument", "250 2.0.0 Ok")]
#[case("nOoP", "250 2.0.0 Ok")]
#[case(" \tNOOP\t ", "250 2.0.0 Ok")]
#[case("NOOP\rRSET", "250 2.0.0 Ok")]
#[case("NOOP \u{e9}", "250 2.0.0 Ok")]
#[case("RSET ", "250 2.0.0 Ok")]
#[case("RSET x", "501 5.5.4 Syntax: RSET")]
#[case("VRFY <a@b.example>", "252 2.0.0 a@b.example")]
#[case("VRFY postmaster", "252 2.0.0 postmaster")]
#[case("VRFY \u{e9}@b.example SMTPUTF8", "252 2.0.0 ?@b.example")]
#[case("VRFY \u{e9}@b.example", NEEDS_SMTPUTF8)]
#[case("VRFY a@b.example x", "501 5.5.4 Syntax: VRFY address [SMTPUTF8]")]
#[case("VRFY", "501 5.5.4 Syntax: VRFY address [SMTPUTF8]")]
#[case("VRFY <>", "501 5.1.3 Bad recipient address syntax")]
#[case("EXPN a", UNRECOGNISED)]
#[case("HELP", UNRECOGNISED)]
#[case("HELOX a", UNRECOGNISED)]
#[case("AUTH=PLAIN x", UNRECOGNISED)]
#[case("OPTIONS / HTTP/1.1", UNRECOGNISED)]
#[case("", "500 5.5.2 Error: bad syntax")]
#[case("NO\0OP", UNRECOGNISED)]
#[case("NOOP \0abc", "500 5.5.2 Error: bad syntax")]
#[case("\0NOOP", "500 5.5.2 Error: bad syntax")]
#[case("ETRN b.example", "459 4.0.0 service unavailable")]
#[case("ETRN @b.example", "459 4.0.0 service unavailable")]
#[case("ETRN -", "501 5.5.4 Error: invalid parameter syntax")]
#[case("ETRN", "501 5.5.4 Syntax: ETRN domain")]
#[case("EHLO", "501 Syntax: EHLO hostname")]
#[case("HELO ", "501 Syntax: HELO hostname")]
#[case("HELO a b c", "250 server.domain.com")]
#[case("STARTTLS now", "501 5.5.4 Syntax: STARTTLS")]
#[case("QUIT now", "221 2.0.0 Bye")]
fn a_simple_command_is_answered(#[case] line: &str, #[case] reply: &str) {
    assert_eq!(Client::new().reply(line), reply);
}

#[rstest]
fn another_protocol_is_sent_away(
    #[values(
        "GET / HTTP/1.1\r\nHost: x\r\n",
        "post /",
        "CONNECT 127.0.0.1:25 HTTP/1.0",
        "From: a@b.example",
        "\u{e9}",
        "123",
        "{json}",
        "-",
        "."
    )]
    line: &str,
) {
    let mut client = Client::new();
    let goodbye = "221 2.7.0 Error: I can break rules, too. Goodbye.";
    assert_eq!(client.say(line), [goodbye]);
    assert!(client.is_closed());
    assert!(client.say("NOOP").is_empty());
}

#[test]
fn a_tls_client_is_sent_away_before_its_line_ends() {
    let mut client = Client::new();
    client.feed(b"\x16");
    assert!(!client.is_closed());
    client.feed(b"\x03");
    assert!(client.is_closed());
}

#[test]
fn octets_that_are_not_utf8_are_refused_in_any_command() {
    let mut client = Client::new();
    for line in [
        &b"EHLO \xe9x\r\n"[..],
        b"MAIL FROM:<\xe9@x>\r\n",
        b"\xff\xfe\r\n",
    ] {
        client.feed(line);
        assert_eq!(client.heard(), ["500 5.5.2 Error: bad UTF-8 syntax"]);
    }
}

const OK: &str = "250 2.1.0 Ok";
const BAD_SENDER: &str = "501 5.1.7 Bad sender address syntax";
const SYNTAX: &str = "501 5.5.4 Syntax: MAIL FROM:<address>";
const BAD_SIZE: &str = "501 5.5.4 Bad message size syntax";
const TOO_BIG: &str = "552 5.3.4 Message size exceeds fixed limit";
const ENORMOUS: &str = "552 5.3.4 Message size exceeds file system imposed limit";

#[rstest]
#[case("FROM:a@b", OK)]
#[case("FROM: a@b", OK)]
#[case("FROM:< a@b > SIZE=10", OK)]
#[case("FROM:\"a@b", BAD_SENDER)]
#[case("from:<>", OK)]
#[case("FROM:<a@b>SIZE=100", BAD_SENDER)]
#[case("FROM:Probe <a@b>", "555 5.5.4 Unsupported option: <a@b>")]
#[case("", SYNTAX)]
#[case("FROM", SYNTAX)]
#[case("FROM: ", SYNTAX)]
#[case("FROM :<a@b>", SYNTAX)]
#[case("TO:<a@b>", SYNTAX)]
#[case("FROMM:<a@b>", SYNTAX)]
#[case("<a@b>", SYNTAX)]
#[case("FROM:<a@b> SIZE=0", OK)]
#[case("FROM:<a@b> size=10240000 body=8bitmime", OK)]
#[case("FROM:<a@b> SIZE=10240001", TOO_BIG)]
#[case("FROM:<a@b> SIZE=99999999999999999999", ENORMOUS)]
#[case("FROM:<a@b> SIZE=-1", BAD_SIZE)]
#[case("FROM:<a@b> SIZE=+1", BAD_SIZE)]
#[case("FROM:<a@b> SIZE=1k", BAD_SIZE)]
#[case("FROM:<a@b> SIZE=", BAD_SIZE)]
#[case("FROM:<a@b> BODY=7BIT", OK)]
#[case(
    "FROM:<a@b> RET=FULL ENVID=a+2Bb SIZE=10 BODY=8BITMIME SMTPUTF8 AUTH=<>",
    OK
)]
#[case("FROM:<a@b> RET=HDRS", OK)]
#[case::envid_of_rfc_3461(&format!("FROM:<a@b> ENVID={}", "a".repeat(100)), OK)]
#[case::envid_as_postfix(&format!("FROM:<a@b> ENVID={}", "a".repeat(1500)), OK)]
#[case("FROM:<a@b> RET=FOO", "501 5.5.4 Bad RET parameter syntax")]
#[case("FROM:<a@b> ENVID=a+ZZ", "501 5.5.4 Bad ENVID parameter syntax")]
#[case("FROM:<a@b> ENVID=", "501 5.5.4 Bad ENVID parameter syntax")]
#[case("FROM:<\u{e9}@b> SMTPUTF8", OK)]
#[case("FROM:<a@\u{e9}.example> SMTPUTF8", OK)]
// Not as Postfix: a parameter given twice, control characters in xtext, UTF-8 without SMTPUTF8.
#[case("FROM:<a@b> SIZE=10 SIZE=20", "501 5.5.4 Bad SIZE parameter syntax")]
#[case("FROM:<a@b> RET=FULL RET=FULL", "501 5.5.4 Bad RET parameter syntax")]
#[case("FROM:<a@b> ENVID=a+0D+0AX", "501 5.5.4 Bad ENVID parameter syntax")]
#[case("FROM:<a@b> AUTH=a+ZZb", "501 5.5.4 Bad AUTH parameter syntax")]
#[case("FROM:<\u{e9}@b>", NEEDS_SMTPUTF8)]
fn mail_is_answered(#[case] arguments: &str, #[case] reply: &str) {
    assert_eq!(Client::new().reply(&format!("MAIL {arguments}")), reply);
}

#[rstest]
fn a_parameter_that_nobody_knows_is_named(
    #[values(
        "SIZE",
        "BODY=",
        "BODY=BINARYMIME",
        "SMTPUTF8=yes",
        "NOTIFY=NEVER",
        "<x@y>",
        "A=B"
    )]
    parameter: &str,
) {
    let reply = Client::new().reply(&format!("MAIL FROM:<a@b> SIZE=10 {parameter}"));
    assert_eq!(reply, format!("555 5.5.4 Unsupported option: {parameter}"));
}

const RCPT_OK: &str = "250 2.1.5 Ok";
const BAD_RCPT: &str = "501 5.1.3 Bad recipient address syntax";
const BAD_NOTIFY: &str = "501 5.5.4 Error: Bad NOTIFY parameter syntax";
const BAD_ORCPT: &str = "501 5.5.4 Error: Bad ORCPT parameter syntax";

#[rstest]
#[case("TO:<a@b>", RCPT_OK)]
#[case("to:\t<a@b>   ", RCPT_OK)]
#[case("TO:Postmaster", RCPT_OK)]
#[case("TO:<>", BAD_RCPT)]
#[case("TO:<addr\ress@b>", BAD_RCPT)]
#[case("TO:<addr\0ess@b>", "500 5.5.2 Error: bad syntax")]
#[case("TO:<a@b> junk", "555 5.5.4 Unsupported option: junk")]
#[case("FROM:<a@b>", "501 5.5.4 Syntax: RCPT TO:<address>")]
#[case("", "501 5.5.4 Syntax: RCPT TO:<address>")]
#[case("TO:<a@b> NOTIFY=NEVER ORCPT=rfc822;a+2Bb@x", RCPT_OK)]
#[case("TO:<a@b> notify=success,failure,DELAY", RCPT_OK)]
#[case("TO:<a@b> ORCPT=rfc822;", RCPT_OK)]
#[case("TO:<a@b> ORCPT=x-400;a", RCPT_OK)]
#[case("TO:<a@b> ORCPT=x_400;a", BAD_ORCPT)]
#[case::orcpt_of_rfc_3461(&format!("TO:<a@b> ORCPT=rfc822;{}", "+40".repeat(164)), RCPT_OK)]
#[case("TO:<a@b> NOTIFY=NEVER,SUCCESS", BAD_NOTIFY)]
#[case("TO:<a@b> NOTIFY=", BAD_NOTIFY)]
#[case("TO:<a@b> ORCPT=foo", BAD_ORCPT)]
#[case("TO:<a@b> ORCPT=rfc822;a+0Ab", BAD_ORCPT)]
#[case("TO:<a@b> RET=FULL", "555 5.5.4 Unsupported option: RET=FULL")]
#[case("TO:<\u{e9}@b>", NEEDS_SMTPUTF8)]
fn rcpt_is_answered(#[case] arguments: &str, #[case] reply: &str) {
    let mut client = Client::new();
    client.expect(&["MAIL FROM:<a@b>"]);
    assert_eq!(client.reply(&format!("RCPT {arguments}")), reply);
}

#[rstest]
#[case("AUTH", "501 5.5.4 Syntax: AUTH mechanism")]
#[case("AUTH PLAIN a b", "501 5.5.4 Syntax: AUTH mechanism")]
#[case(
    "AUTH CRAM-MD5",
    "504 5.5.4 Error: authentication mechanism not supported"
)]
#[case("AUTH plain AHUAbXlwYXNzd29yZA==", WELCOME)]
#[case::same_identity("AUTH PLAIN dQB1AG15cGFzc3dvcmQ=", WELCOME)]
#[case::other_identity("AUTH PLAIN eAB1AG15cGFzc3dvcmQ=", DENIED)]
#[case::wrong("AUTH PLAIN AHUAd3Jvbmc=", DENIED)]
#[case::no_user("AUTH PLAIN AABteXBhc3N3b3Jk", DENIED)]
#[case::no_password("AUTH PLAIN AHUA", DENIED)]
#[case::no_nul("AUTH PLAIN YWJj", DENIED)]
#[case::three_nuls("AUTH PLAIN AHUAbXlwYXNzd29yZAA=", DENIED)]
#[case::not_utf8("AUTH PLAIN AOkAbXlwYXNzd29yZA==", DENIED)]
#[case::empty("AUTH PLAIN =", DENIED)]
#[case::not_base64("AUTH PLAIN !!!!", NOT_BASE64)]
#[case::star_is_not_base64("AUTH PLAIN *", NOT_BASE64)]
#[case::no_padding("AUTH PLAIN AHUAbXlwYXNzd29yZA", NOT_BASE64)]
#[case::padding_inside("AUTH PLAIN AAA=BBB=", NOT_BASE64)]
#[case::too_much_padding("AUTH PLAIN AHUAbXlwYXNzd29yZA===", NOT_BASE64)]
fn auth_is_answered(#[case] line: &str, #[case] reply: &str) {
    assert_eq!(Client::new().reply(line), reply);
}

const WELCOME: &str = "235 2.7.0 Authentication successful";
const ABORTED: &str = "501 5.7.0 Authentication aborted";
const DENIED: &str = "535 5.7.8 Error: authentication failed";
const NOT_BASE64: &str = "501 5.5.2 Error: malformed base64";

#[rstest]
#[case(&["AUTH PLAIN", "AHUAbXlwYXNzd29yZA=="], &["334 ", WELCOME])]
#[case(&["AUTH PLAIN ", ""], &["334 ", DENIED])]
#[case(&["AUTH PLAIN", "="], &["334 ", NOT_BASE64])]
#[case(&["AUTH PLAIN", "*"], &["334 ", ABORTED])]
#[case(&["AUTH PLAIN", "AHUAbXlwYXNz d29yZA=="], &["334 ", NOT_BASE64])]
#[case(
    &["auth LoGiN", "dQ==", "bXlwYXNzd29yZA=="],
    &["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6", WELCOME]
)]
#[case(&["AUTH LOGIN dQ==", "bXlwYXNzd29yZA=="], &["334 UGFzc3dvcmQ6", WELCOME])]
#[case(&["AUTH LOGIN dQ==", "*"], &["334 UGFzc3dvcmQ6", ABORTED])]
#[case(&["AUTH LOGIN =", "bXlwYXNzd29yZA=="], &["334 UGFzc3dvcmQ6", DENIED])]
#[case(&["AUTH LOGIN dQ==", "AA=="], &["334 UGFzc3dvcmQ6", DENIED])]
fn an_auth_exchange_runs(#[case] lines: &[&str], #[case] replies: &[&str]) {
    let mut client = Client::new();
    for (line, reply) in lines.iter().zip(replies) {
        assert_eq!(client.reply(line), *reply);
    }
    assert_eq!(client.reply("NOOP"), "250 2.0.0 Ok");
}

#[test]
fn an_auth_response_may_have_12288_octets() {
    let mut client = Client::new();
    let longest = "A".repeat(12_288);
    assert_eq!(client.reply(&format!("AUTH PLAIN {longest}")), DENIED);
    let over = "A".repeat(12_292);
    let limit = "500 5.5.6 SASL response limit exceeded";
    assert_eq!(client.reply(&format!("AUTH PLAIN {over}")), limit);
    client.expect(&["AUTH PLAIN"]);
    assert_eq!(client.reply(&over), limit);
    client.expect(&["AUTH PLAIN"]);
    assert_eq!(client.reply(&"A".repeat(1_000_000)), limit);
}

#[rstest]
#[case(500, "250 2.1.0 Ok")]
#[case(2048, "250 2.1.0 Ok")]
#[case(2049, BAD_SENDER)]
#[case(100_000, BAD_SENDER)]
fn a_command_line_is_cut_at_its_limit_and_the_rest_is_skipped(
    #[case] length: usize,
    #[case] mail: &str,
) {
    let padded = |start: &str, end: &str| {
        let padding = "a".repeat(length - start.len() - end.len());
        format!("{start}{padding}{end}")
    };
    let mut client = Client::new();
    assert_eq!(client.reply(&padded("NOOP ", "")), "250 2.0.0 Ok");
    assert_eq!(client.reply(&padded("a", "")), UNRECOGNISED);
    assert_eq!(client.reply(&padded("MAIL FROM:<", "@b.example>")), mail);
}

#[test]
fn ehlo_lists_what_postfix_lists_in_its_order() {
    let tail = "ENHANCEDSTATUSCODES 8BITMIME DSN SMTPUTF8 CHUNKING";
    let full = format!(
        "250 server.domain.com PIPELINING SIZE 10240000 VRFY ETRN STARTTLS AUTH PLAIN LOGIN \
         AUTH=PLAIN LOGIN {tail}"
    );
    let mut client = Client::new();
    assert_eq!(client.reply("EHLO x"), full);
    client.expect(&["STARTTLS"]);
    assert_eq!(client.reply("EHLO x"), full.replace("STARTTLS ", ""));
    let mut client = Client::with(|settings| {
        (settings.message_size_limit, settings.auth_needs_tls) = (0, true);
    });
    let bare = format!("250 server.domain.com PIPELINING SIZE VRFY ETRN STARTTLS {tail}");
    assert_eq!(client.reply("EHLO x"), bare);
    assert_eq!(client.reply("AUTH PLAIN").get(..10), Some("538 5.7.11"));
    client.expect(&["MAIL FROM:<a@b> SIZE=4000000000"]);
}

#[rstest]
#[case("[127.0.0.1]", "[127.0.0.1]")]
#[case("[IPv6:::1]", "[IPv6:::1]")]
#[case("a b(evil)<x>", "a?b?evil??x?")]
#[case("a\x1b\u{e9}\rb", "a???b")]
fn the_clients_name_cannot_break_a_header(#[case] name: &str, #[case] helo: &str) {
    let mut client = Client::new();
    client.expect(&[&format!("EHLO {name}")]);
    client.expect(&["MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "."]);
    assert_eq!(client.stored[0].envelope.helo, helo);
}

#[test]
fn a_bare_lf_ends_no_command_but_the_session() {
    for start in [&b"NOOP\nRSET\r\n"[..], b"AUTH PLAIN\r\nab\ncd\r\n"] {
        let mut client = Client::new();
        client.feed(start);
        let error = "550 5.5.2 server.domain.com Error: bare <LF> received";
        assert_eq!(client.heard().last().unwrap(), error);
        assert!(client.is_closed());
        let asks = |action: &Action| matches!(action, Action::Ask(_));
        assert!(!client.actions.iter().any(asks));
    }
}
