//! Whole sessions with a running server, its tables in SQLite.

mod front;

use front::{Client, Setup};
use rstest::rstest;

/// `\0address@mydomain.com\0mypassword`
const PLAIN: &str = "AUTH PLAIN AGFkZHJlc3NAbXlkb21haW4uY29tAG15cGFzc3dvcmQ=";

#[test]
fn a_message_for_a_mailbox_is_taken_and_for_others_refused() {
    let server = Setup::new().start();
    let mut client = server.greeted();
    client.says("MAIL FROM:<friend@ext.example>", "250 2.1.0 Ok");
    client.says(
        "RCPT TO:<x@ext.example>",
        "554 5.7.1 <x@ext.example>: Relay access denied",
    );
    client.says(
        "RCPT TO:<nobody@mydomain.com>",
        "550 5.1.1 <nobody@mydomain.com>: Recipient address rejected: User unknown in virtual mailbox table",
    );
    client.says("RCPT TO:<Address+tag@MyDomain.com>", "250 2.1.5 Ok");
    client.says("RCPT TO:<myforward@mydomain.com>", "250 2.1.5 Ok");
    client.says("RCPT TO:<Postmaster>", "250 2.1.5 Ok");
    client.says("RCPT TO:<postmaster@mydomain.com>", "250 2.1.5 Ok");
    client.says("DATA", "354 End data with <CR><LF>.<CR><LF>");
    client.send("Subject: hello\r\n\r\n..dot\r\n.\r\n");
    client.says("", "250 2.0.0 Ok: queued as ");
    client.says("QUIT", "221 2.0.0 Bye");
    server.wait_for_log("disconnect from unknown[127.0.0.1] mail=1 rcpt=4/6 data=1");
    assert!(
        server
            .log()
            .contains("NOQUEUE: reject: RCPT from unknown[127.0.0.1]: 554 5.7.1 <x@ext.example>")
    );
}

// Oracle R03b: none of these gets through, whatever the way it is written in.
#[test]
fn no_trick_of_a_stranger_makes_the_server_a_relay() {
    let server = Setup::new().start();
    let mut client = server.greeted();
    client.says("MAIL FROM:<address@mydomain.com>", "250");
    for recipient in [
        "x%ext.example@mydomain.com",
        "x%ext.example@server.domain.com",
        "x%ext.example",
        "\"x@ext.example\"",
        "\"x@ext.example\"@mydomain.com",
        "ext.example!x",
        "ext.example!x@mydomain.com",
        "@mydomain.com:x@ext.example",
        "x@[127.0.0.9]",
        "x%ext.example@[127.0.0.1]",
        "x@ext.example@mydomain.com",
        "x@ext.example (mydomain.com)",
        "@[127.0.0.1]:x@ext.example",
        "@mydomain.com,@server.domain.com:x@ext.example",
        ":x@ext.example",
        "x@mydomain.com.ext.example",
        "x@ext.example.",
        "\"x@ext.example\"@server.domain.com",
        "x@ext.example\u{b}@mydomain.com",
        "x@sub.mydomain.com",
        "postmaster@ext.example",
    ] {
        client.says("NOOP", "250");
        let reply = client.says(&format!("RCPT TO:<{recipient}>"), "5");
        let denied = reply.starts_with("554 5.7.1 ") && reply.ends_with("Relay access denied");
        assert!(
            denied || reply == "501 5.1.3 Bad recipient address syntax",
            "{recipient}: {reply}"
        );
        // A fresh envelope keeps the error count of the session below its limit.
        client = server.greeted();
        client.says("MAIL FROM:<address@mydomain.com>", "250");
    }
    client.says("RCPT TO:<address+x=ext.example@mydomain.com>", "250");
}

#[test]
fn what_means_something_in_sql_or_in_a_path_is_part_of_a_name() {
    let server = Setup::new().start();
    let mut client = server.greeted();
    client.says("MAIL FROM:<friend@ext.example>", "250");
    for local in [
        "' OR '1'='1",
        "'; DELETE FROM users; --",
        "address'--",
        "_ddress",
        "..",
        "../mydomain.com/address",
        "address/",
        "address ",
    ] {
        client.says(&format!("RCPT TO:<\"{local}\"@mydomain.com>"), "550 5.1.1");
    }
    client.says("RCPT TO:<address@mydomain.com>", "250");
}

#[test]
fn a_user_who_has_authenticated_may_send_anywhere() {
    let server = Setup::new().start();
    let mut client = server.greeted();
    client.says(
        "AUTH PLAIN AGFkZHJlc3NAbXlkb21haW4uY29tAHdyb25n",
        "535 5.7.8 ",
    );
    client.says(
        "AUTH PLAIN AG5vYm9keUBteWRvbWFpbi5jb20AbXlwYXNzd29yZA==",
        "535 5.7.8 ",
    );
    client.says(PLAIN, "235 2.7.0 Authentication successful");
    client.says("MAIL FROM:<somebody-else@other.example>", "250");
    client.says("RCPT TO:<x@ext.example>", "250");
    client.says(
        "RCPT TO:<x@refused.example>",
        "550 5.1.2 <x@refused.example>: Recipient address rejected: no such domain here",
    );
    client.says("RCPT TO:<nobody@mydomain.com>", "550 5.1.1");
    drop(client);
    server.wait_for_log("auth=1/3");
    assert!(!server.log().contains("mypassword") && !server.log().contains("bXlwYXNzd29yZA"));
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
fn a_database_that_is_away_is_a_temporary_failure_and_is_used_when_it_is_back() {
    let server = Setup::new().start();
    let (there, away) = (
        server.setup.path().join("mail.db"),
        server.setup.path().join("away.db"),
    );
    std::fs::rename(&there, &away).unwrap();
    let mut client = server.greeted();
    client.says(PLAIN, "454 4.7.0 ");
    client.says("MAIL FROM:<friend@ext.example>", "250");
    client.says(
        "RCPT TO:<address@mydomain.com>",
        "451 4.3.0 <address@mydomain.com>: Temporary lookup failure",
    );
    client.says("RCPT TO:<x@ext.example>", "451 4.3.0 ");
    client.says("RCPT TO:<postmaster>", "250");
    std::fs::rename(&away, &there).unwrap();
    client.says("RCPT TO:<address@mydomain.com>", "250");
}

#[test]
fn rows_count_at_once() {
    let server = Setup::new().start();
    let mut client = server.greeted();
    client.says("MAIL FROM:<friend@ext.example>", "250");
    client.says("RCPT TO:<new@new.example>", "554");
    server.setup.sql("INSERT INTO domains VALUES ('new.example'); INSERT INTO users (email) VALUES ('new@new.example')");
    client.says("RCPT TO:<new@new.example>", "250");
    server
        .setup
        .sql("UPDATE users SET password = NULL WHERE email = 'address@mydomain.com'");
    client.says("RSET", "250");
    client.says(PLAIN, "535");
}

#[test]
fn a_port_without_certificate_offers_no_tls() {
    let server = Setup::new().start();
    let mut client = Client::connect(server.smtp());
    client.says("", "220");
    let extensions = client.says("EHLO client.example", "250-");
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
    server.wait_for_log("disconnect");
    server.greeted();
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
        "",
        "NOO",
        "AUTH LOGIN\r\n",
        "MAIL FROM:<a@b>\r\nRCPT TO:<postmaster>\r\nDATA\r\nhalf a"
    )]
    before: &str,
) {
    let server = Setup::new().main_cf("smtpd_timeout = 1s").start();
    let mut client = server.greeted();
    client.send(before);
    let farewell = "421 4.4.2 server.domain.com Error: timeout exceeded\r\n";
    let heard = client.rest();
    assert!(heard.ends_with(farewell), "{heard}");
}

#[test]
fn a_handshake_that_does_not_begin_is_given_up() {
    let setup = Setup::new().certificate();
    let server = setup.main_cf("smtpd_starttls_timeout = 1s").start();
    assert_eq!(Client::connect(server.smtps()).rest(), "");
    server.wait_for_log("SSL_accept error");
}

#[test]
fn sigterm_tells_idle_sessions_and_ends_well() {
    let mut server = Setup::new().start();
    let mut idle = server.greeted();
    server.signal("-TERM");
    assert!(idle.rest().starts_with("421 4.3.2 server.domain.com "));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn sighup_changes_new_sessions_only_and_a_mistake_changes_nothing() {
    let server = Setup::new().start();
    let mut old = server.greeted();
    let main = std::fs::read_to_string(server.setup.path().join("main.cf")).unwrap();
    server
        .setup
        .write("main.cf", &format!("{main}smtpd_banner = new\n"));
    server.signal("-HUP");
    server.wait_for_log("the new configuration is in force");
    old.says("NOOP", "250");
    Client::connect(server.smtp()).says("", "220 new");
    server.setup.write(
        "main.cf",
        &format!("{main}smtpd_banner = worse\nsmtpd_timeout = soon\n"),
    );
    server.signal("-HUP");
    server.wait_for_log("the old one stays in force");
    Client::connect(server.smtp()).says("", "220 new");
    old.says("QUIT", "221");
}

#[test]
fn too_few_open_files_for_the_sessions_that_are_allowed_are_warned_about_at_start() {
    for (files, session_limit, warned) in [(900, 1000, true), (900, 20, false)] {
        let setup = Setup::new().main_cf(&format!(
            "vmaild_session_limit = {session_limit}\ndefault_process_limit = 100"
        ));
        let mut server = setup.begin_with_files(files);
        server.wait_until_ready();
        let log = server.log();
        let expected = "900 open files are allowed (RLIMIT_NOFILE, hard), expected 1864 or more for \
                        vmaild_session_limit = 1000 and default_process_limit = 100";
        assert_eq!(log.contains(expected), warned, "{log}");
        assert_eq!(log.contains("RLIMIT_NOFILE"), warned, "{log}");
    }
}
