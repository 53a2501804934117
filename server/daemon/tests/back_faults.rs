//! What the server depends on fails and comes back: databases, the queue's disk; and what an
//! administrator can do with the queue.

mod database;
mod front;

use std::fs;

use database::{Database, Mood};
use front::{Client, Server, Setup};
use rstest::rstest;

/// Sends a message to address@mydomain.com, and says what came at its end.
fn send(server: &Server) -> String {
    let mut client = server.greeted();
    client.says("MAIL FROM:<friend@ext.example>", "250");
    client.says("RCPT TO:<address@mydomain.com>", "250");
    client.says("DATA", "354");
    client.send("Subject: probe\r\n\r\nhello\r\n.\r\n");
    client.reply()
}

/// oracle F10: not even MAIL is taken.
#[test]
fn below_queue_minfree_no_mail_is_taken() {
    let server = Setup::new()
        .main_cf("queue_minfree = 1000000000000000")
        .start();
    let mut client = server.greeted();
    for mail in ["", " SIZE=1000"] {
        let mail = format!("MAIL FROM:<probe@ext.example>{mail}");
        client.says(&mail, "452 4.3.1 Insufficient system storage");
    }
    client.says("RCPT TO:<address@mydomain.com>", "503 5.5.1");
}

#[test]
fn a_queue_that_cannot_be_written_says_452_until_it_can() {
    let server = Setup::new().start();
    let queue = server.setup.path().join("queue");
    fs::rename(queue.join("active"), queue.join("away")).unwrap();
    assert!(send(&server).starts_with("452 4.3.1 "));
    fs::rename(queue.join("away"), queue.join("active")).unwrap();
    assert!(send(&server).starts_with("250 2.0.0 "));
    server.wait_for_log("status=sent (delivered to maildir)");
    assert_eq!(server.files("vmail/mydomain.com/address/new").len(), 1);
}

/// oracle F05: only what depends on the table is put off.
#[rstest]
#[case::domains("domains", ["451", "451", "451", "451", "250"])]
#[case::forwardings("forwardings", ["451", "451", "451", "554", "250"])]
#[case::email2email("email2email", ["451", "451", "250", "554", "250"])]
#[case::mailboxes("mailboxes", ["250", "451", "250", "554", "250"])]
// Postfix puts off whatever it is; here what other tables refuse is refused.
#[case::transports("transports", ["451", "550", "451", "554", "250"])]
#[case::limits("limits", ["250", "550", "250", "554", "250"])]
fn one_table_that_fails_puts_off_what_depends_on_it(
    #[case] table: &str,
    #[case] replies: [&str; 5],
) {
    let setup = Setup::new();
    let file = setup.path().join(format!("{table}.cf"));
    let text = fs::read_to_string(file).unwrap();
    setup.write(&format!("{table}.cf"), &text.replace("mail.db", "gone.db"));
    let server = setup.start();
    let mut client = server.greeted();
    client.says("MAIL FROM:<probe@ext.example>", "250");
    for (recipient, reply) in [
        "address@mydomain.com",
        "nobody@mydomain.com",
        "myforward@mydomain.com",
        "x@ext.example",
        "postmaster",
    ]
    .into_iter()
    .zip(replies)
    {
        let reply = client.says(&format!("RCPT TO:<{recipient}>"), reply);
        let temporary = !reply.starts_with("451") || reply.contains("Temporary lookup failure");
        assert!(temporary, "{reply}");
    }
}

#[test]
fn mail_put_off_by_a_table_is_delivered_seconds_after_its_return() {
    let setup = Setup::new().main_cf("minimal_backoff_time = 1h\nmaximal_backoff_time = 1h");
    let text = fs::read_to_string(setup.path().join("limits.cf")).unwrap();
    setup.write("limits.cf", &text.replace("mail.db", "gone.db"));
    let server = setup.start();
    assert!(send(&server).starts_with("250"));
    server.wait_for_log("dsn=4.3.5, status=deferred (mail system configuration error)");
    let at = server.setup.path();
    fs::copy(at.join("mail.db"), at.join("part.db")).unwrap();
    fs::rename(at.join("part.db"), at.join("gone.db")).unwrap();
    server.wait_for_log("status=sent (delivered to maildir)");
}

#[test]
fn a_reload_in_the_middle_of_a_message_counts_for_its_delivery() {
    let setup = Setup::new().main_cf("minimal_backoff_time = 1h\nqueue_run_delay = 1h");
    let main = fs::read_to_string(setup.path().join("main.cf")).unwrap();
    let server = setup.main_cf("transport_maps = static:nosuch:x").start();
    let mut client = server.greeted();
    client.says("MAIL FROM:<friend@ext.example>", "250");
    client.says("RCPT TO:<address@mydomain.com>", "250");
    client.says("DATA", "354");
    client.send("Subject: probe\r\n\r\nhello\r\n");
    server.setup.write("main.cf", &main);
    server.signal("-HUP");
    server.wait_for_log("the new configuration is in force");
    client.says("..\r\n.", "250 2.0.0 Ok");
    server.wait_for_log("status=sent (delivered to maildir)");
    client.says("QUIT", "221");
}

#[test]
fn an_administrator_sees_the_queue_and_changes_it() {
    let setup = Setup::new().main_cf("minimal_backoff_time = 1h\nmaximal_backoff_time = 1h");
    setup.sql("INSERT INTO transport VALUES ('address@mydomain.com', 'nosuch:x')");
    let mut server = setup.start();
    let queue = |server: &Server, words: &[&str]| {
        let output = server.setup.command().arg("queue").args(words).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let [one, two, three] = [(); 3].map(|()| {
        let reply = send(&server);
        reply.rsplit(' ').next().unwrap().to_owned()
    });
    server.wait_for_log(&format!("{three}: to=<address@mydomain.com>"));
    let list = queue(&server, &["list"]);
    assert!(
        list.contains(&one) && list.contains("(mail transport unavailable)"),
        "{list}"
    );
    assert!(queue(&server, &["show", &one]).contains("\nhello\n"));
    queue(&server, &["delete", &one]);
    queue(&server, &["hold", &two]);
    server.setup.sql("DELETE FROM transport");
    queue(&server, &["flush"]);
    server.wait_for_log("flush: everything is tried again");
    server.wait_for_log(&format!("{three}: removed"));
    // What is on hold waits, whoever starts.
    server.crash();
    server.wait_until_ready();
    let list = queue(&server, &["list"]);
    assert!(list.starts_with(&format!("{two}! ")), "{list}");
    assert_eq!(list.lines().count(), 1, "{list}");
    queue(&server, &["release", &two]);
    server.wait_for_log(&format!("{two}: removed"));
    assert_eq!(queue(&server, &["list"]), "Mail queue is empty\n");
    assert_eq!(server.files("vmail/mydomain.com/address/new").len(), 2);
    for (id, why) in [
        (one.as_str(), "no such message in the queue"),
        ("../active/1", "is no queue id"),
        ("..", "is no queue id"),
        ("", "is no queue id"),
    ] {
        let output = server
            .setup
            .command()
            .args(["queue", "delete", id])
            .output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(why), "{said}");
    }
}

use Mood::{Answers, Hangs, HangsUp, RefusesLogins};

/// How both databases are, and what a recipient hears.
type Step = ([Mood; 2], &'static str);

#[rstest]
#[case::one_of_two_is_down(&[([HangsUp, Answers], "250"), ([Answers, HangsUp], "250"), ([HangsUp, Answers], "250")])]
#[case::one_of_two_hangs(&[([Hangs, Answers], "250"), ([Hangs, Answers], "250"), ([Answers, Answers], "250")])]
#[case::one_of_two_knows_no_password(&[([RefusesLogins, Answers], "250"), ([Answers, HangsUp], "250")])]
#[case::flapping(&[
    ([HangsUp, HangsUp], "451"), ([Answers, Answers], "250"), ([HangsUp, HangsUp], "451"),
    ([Answers, HangsUp], "250"), ([HangsUp, HangsUp], "451"), ([HangsUp, Answers], "250"),
])]
#[case::both_hang(&[([Answers, Answers], "250"), ([Hangs, Hangs], "451"), ([Answers, Answers], "250")])]
#[case::a_password_that_is_wrong_for_a_while(&[([RefusesLogins, RefusesLogins], "451"), ([Answers, Answers], "250")])]
fn a_database_is_used_whenever_it_can_be(#[case] steps: &[Step]) {
    let databases = [Database::start(), Database::start()];
    let setup = Setup::new().main_cf("vmaild_lookup_time_limit = 8s");
    let main = fs::read_to_string(setup.path().join("main.cf")).unwrap();
    let at = setup.path().display();
    let from = format!("sqlite:{at}/domains.cf");
    let main = main.replace(&from, &format!("mysql:{at}/mysql.cf"));
    setup.write("main.cf", &main);
    let [one, two] = [&databases[0].address, &databases[1].address];
    let table = format!(
        "hosts = {one} {two}\nuser = mail\npassword = x\ndbname = mail\n\
         table = domains\nselect_field = 'virtual'\nwhere_field = domain\n"
    );
    setup.write("mysql.cf", &table);
    databases[0].is_now(steps[0].0[0]);
    databases[1].is_now(steps[0].0[1]);
    let server = setup.start();
    let mut client = server.greeted();
    client.says("MAIL FROM:<friend@ext.example>", "250");
    for (moods, reply) in steps {
        for (database, mood) in databases.iter().zip(moods) {
            database.is_now(*mood);
        }
        client.says("RCPT TO:<address@mydomain.com>", reply);
        Client::connect(server.smtp()).says("", "220");
    }
}
