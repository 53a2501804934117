//! Whole sessions with a running server, its tables in SQLite.

mod front;

use std::process::Command;

use front::{Client, Setup};
use rstest::rstest;

#[test]
fn the_log_says_whom_a_session_was_refused_and_what_it_came_to() {
    let server = Setup::new().start();
    let mut client = server.greeted();
    client.says("AUTH PLAIN AHgAeA==", "535 5.7.8 ");
    server.wait_for_log("SASL PLAIN authentication failed");
    client.says("MAIL FROM:<friend@ext.example>", "250");
    client.says("RCPT TO:<x@ext.example>", "554 5.7.1 ");
    client.says("RCPT TO:<address@mydomain.com>", "250");
    client.says("DATA", "354");
    client.says("Subject: hello\r\n\r\nhello\r\n.", "250");
    client.says("QUIT", "221");
    server.wait_for_log("disconnect from unknown[127.0.0.1] auth=0/1 mail=1 rcpt=1/2 data=1");
    let refusal = "NOQUEUE: reject: RCPT from unknown[127.0.0.1]: 554 5.7.1 <x@ext.example>";
    assert!(server.log().contains(refusal));
}

#[test]
fn vrfy_answers_as_rcpt_would_and_etrn_never_serves() {
    let server = Setup::new().start();
    let mut client = server.greeted();
    client.says(
        "VRFY address@mydomain.com",
        "252 2.0.0 address@mydomain.com",
    );
    client.says("VRFY nobody@mydomain.com", "550 5.1.1 ");
    client.says(
        "VRFY a@ext.example",
        "554 5.7.1 <a@ext.example>: Relay access denied",
    );
    client.says("VRFY postmaster", "252 2.0.0 postmaster");
    client.says(
        "ETRN ext.example",
        "459 4.7.0 <ext.example>: service unavailable",
    );
}

#[test]
fn the_postmaster_without_a_domain_has_a_mailbox() {
    let server = Setup::new().start();
    let mut client = server.greeted();
    client.says("MAIL FROM:<friend@ext.example>", "250");
    client.says("RCPT TO:<postmaster>", "250");
    client.says("DATA", "354");
    client.says("Subject: help\r\n\r\nhelp\r\n.", "250");
    assert_eq!(server.files("vmail/postmaster/new").len(), 1);
}

#[test]
fn a_new_domain_and_its_user_count_at_once() {
    let server = Setup::new().start();
    let mut client = server.greeted();
    client.says("MAIL FROM:<friend@ext.example>", "250");
    client.says("RCPT TO:<new@new.example>", "554");
    server.setup.sql("INSERT INTO domains VALUES ('new.example'); INSERT INTO users (email) VALUES ('new@new.example')");
    client.says("RCPT TO:<new@new.example>", "250");
}

#[test]
fn a_port_without_certificate_offers_no_tls() {
    let server = Setup::new().start();
    let extensions = server.greeted().says("EHLO client.example", "250-");
    assert!(!extensions.contains("STARTTLS"), "{extensions}");
    assert!(
        extensions.contains("AUTH PLAIN LOGIN") && extensions.contains("AUTH=PLAIN LOGIN"),
        "{extensions}"
    );
    assert_eq!(Client::connect(server.smtps()).rest(), "");
    server.wait_for_log("TLS is not offered");
    server.wait_for_log("no connection can be served");
}

#[test]
fn a_port_that_demands_tls_offers_no_login_in_clear_and_verifies_nobody() {
    let setup = Setup::new().certificate();
    let server = setup.main_cf("smtpd_tls_security_level = encrypt").start();
    let mut client = server.greeted();
    assert!(!client.says("EHLO client.example", "250").contains("AUTH"));
    for command in [
        "VRFY address@mydomain.com",
        "RSET",
        "DATA",
        "ETRN x",
        "MAIL FROM:<",
    ] {
        client.says(command, "530 5.7.0");
    }
}

#[test]
fn port_465_says_nothing_in_clear() {
    let server = Setup::new().certificate().start();
    let mut client = Client::connect(server.smtps());
    client.send("EHLO client.example\r\n");
    let answer = client.rest();
    assert!(
        !answer.contains("220") && !answer.contains("250"),
        "{answer:?}"
    );
    server.wait_for_log("SSL_accept error");
}

#[rstest]
#[case(
    "smtpd_client_connection_count_limit",
    "421 4.7.0 server.domain.com Error: too many connections from 127.0.0.1\r\n"
)]
#[case(
    "vmaild_session_limit",
    "421 4.3.2 server.domain.com Error: all server ports are busy\r\n"
)]
fn there_are_so_many_connections_and_no_more(#[case] parameter: &str, #[case] farewell: &str) {
    let server = Setup::new().main_cf(&format!("{parameter} = 2")).start();
    let (first, _second) = (server.greeted(), server.greeted());
    assert_eq!(Client::connect(server.smtp()).rest(), farewell);
    drop(first);
    // Its place is given back behind the line that says so.
    server.wait_for_log("disconnect");
    let is_greeted = || Client::connect(server.smtp()).reply().starts_with("220");
    server.wait_for("a place", is_greeted);
}

#[test]
fn neighbours_may_have_any_number_of_connections() {
    let limit = "smtpd_client_connection_count_limit = 1\nmynetworks = 127.0.0.0/8";
    let server = Setup::new().main_cf(limit).start();
    let _first = server.greeted();
    server.greeted();
}

#[rstest]
fn a_silent_client_hears_421(
    #[values(
        "NOO",
        "AUTH LOGIN\r\n",
        "MAIL FROM:<a@b>\r\nRCPT TO:<postmaster>\r\nDATA\r\nhalf a"
    )]
    before: &str,
) {
    let server = Setup::new().main_cf("smtpd_timeout = 4s").start();
    let mut client = server.greeted();
    client.send(before);
    let farewell = "421 4.4.2 server.domain.com Error: timeout exceeded\r\n";
    let heard = client.rest();
    assert!(heard.ends_with(farewell), "{heard}");
}

#[test]
fn a_session_that_is_busy_at_sigterm_hears_421_too() {
    let setup = Setup::new().main_cf("smtpd_soft_error_limit = 1\nsmtpd_error_sleep_time = 3s");
    let mut server = setup.start();
    let mut client = server.greeted();
    client.says("NONSENSE", "500");
    client.send("NONSENSE\r\n");
    server.signal("-TERM");
    server.wait_for_log("terminating");
    let heard = client.rest();
    assert!(heard.contains("421 4.3.2"), "{heard}");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn sighup_changes_new_sessions_only_and_a_mistake_changes_nothing() {
    let server = Setup::new().start();
    let mut old = server.greeted();
    let reload = |lines: &str, heard: &str| {
        server.setup.add(lines);
        server.signal("-HUP");
        server.wait_for_log(heard);
        Client::connect(server.smtp()).says("", "220 new");
    };
    reload(
        "smtpd_banner = new\ndefault_process_limit = 7",
        "the new configuration is in force",
    );
    old.says("NOOP", "250");
    let log = server.log();
    assert!(log.contains("default_process_limit has changed"), "{log}");
    assert!(!log.contains("queue_directory has changed"), "{log}");
    reload(
        "smtpd_banner = worse\nsmtpd_timeout = soon",
        "the old one stays in force",
    );
    old.says("QUIT", "221");
}

#[rstest]
fn too_few_open_files_for_the_sessions_that_are_allowed_are_warned_about_at_start(
    #[values(1000, 20)] session_limit: usize,
) {
    let setup = Setup::new().main_cf(&format!(
        "vmaild_session_limit = {session_limit}\ndefault_process_limit = 100"
    ));
    let server = setup.command();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 900; exec \"$0\" \"$@\""]);
    limited.arg(server.get_program()).args(server.get_args());
    let mut server = setup.begin_by(limited);
    server.wait_until_ready();
    let log = server.log();
    let expected = "900 open files are allowed (RLIMIT_NOFILE, hard), expected 1864 or more for \
                    vmaild_session_limit = 1000 and default_process_limit = 100";
    let warned = session_limit == 1000;
    assert_eq!(log.contains(expected), warned, "{log}");
    assert_eq!(log.contains("RLIMIT_NOFILE"), warned, "{log}");
}
