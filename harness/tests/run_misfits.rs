//! Servers that are not as they are described: each is found before the first case, and named in one
//! line.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod outside_support;

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;

use outside_support::{Theirs, certificate, command, said, sqlite};
use rcgen::{CertificateParams, Issuer, KeyPair};
use tempfile::TempDir;
use vmailspec::environment::certs::Identity;
use vmailspec::environment::template::Tables;

/// The tutorial's account and its domain, by hand.
const ROWS: &str = "INSERT INTO domains (domain) VALUES ('mydomain.com');
INSERT INTO users (email, password) VALUES ('address@mydomain.com', 'abeTm2pJKypwA');";
/// It brings rows nowhere, and says that all is well.
const NOWHERE: &str = "[database]\nseed = [\"sh\", \"-c\", \"cat > /dev/null\"]";
const ACCOUNT: &str = "[accounts]\naddress = \"address@mydomain.com\"\npassword = \"mypassword\"";

fn tables(folder: &Path) -> Tables {
    let file = sqlite(folder, "mail.sqlite");
    let database = rusqlite::Connection::open(&file).unwrap();
    database.execute_batch(ROWS).unwrap();
    Tables::Sqlite(file)
}

/// A certificate whose time is over, and its authority.
fn expired() -> (Identity, String) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let own = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["server.domain.com".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let identity = Identity {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    };
    (identity, own.pem())
}

/// Greets as another protocol does.
fn imap() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // A client that has gone hears no more.
            let _ = stream.write_all(b"* OK IMAP4rev1 ready\r\n");
            let _ = stream.read(&mut [0; 64]);
        }
    });
    address
}

/// What is said of this description, with what differs from run to run taken out.
fn told(
    theirs: &Theirs,
    what: &str,
    change: &(&str, &str),
    capabilities: &str,
    rows: &str,
) -> String {
    let far = if change.0 == "command" { change.1 } else { "" };
    let text = theirs.description(capabilities, rows, far);
    if change.0 != "command" {
        assert!(text.contains(change.0), "{what}: {text}");
    }
    let text = match change.0 {
        "command" => text,
        from => text.replace(from, change.1),
    };
    // Several are told at once.
    let file = theirs.path(&format!("{}.toml", what.replace(' ', "-")));
    std::fs::write(&file, text).unwrap();
    let output = command(&[
        "run",
        "--target",
        file.to_str().unwrap(),
        "tutorial/session-order",
    ])
    .output()
    .unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{what}: {text}");
    let line = text.trim_end();
    assert_eq!(line.lines().count(), 1, "{what}: {text}");
    steady(theirs, line)
}

/// Without what differs from run to run.
fn steady(theirs: &Theirs, line: &str) -> String {
    let mut line = line
        .replace(&theirs.smtps.to_string(), "SMTPS")
        .replace(&theirs.smtp.to_string(), "SMTP")
        .replace(&theirs.name_server.to_string(), "NAME-SERVER")
        .replace(&format!(":{}", theirs.next_hop_port), ":PORT")
        .replace(theirs.path("").to_str().unwrap(), "FOLDER/");
    // Resolvers have words of their own.
    if let Some((known, _)) = line.split_once(" has no address: ") {
        line = format!("{known} has no address: …");
    }
    // The name of the run.
    while let Some(end) = line.find(".test") {
        let begin = line[..end].rfind('.').map_or(0, |dot| dot + 1);
        line.replace_range(begin..end + ".test".len(), "RUN");
    }
    let mut out = String::new();
    let mut digits = String::new();
    for c in line.chars().chain([' ']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let long = digits.len() > 5;
        out.push_str(if long { "N" } else { &digits });
        digits.clear();
        out.push(c);
    }
    out.trim_end().to_owned()
}

#[test]
fn what_does_not_fit_is_named_in_one_line_before_the_first_case() {
    let theirs = Theirs::start(tables);
    let elsewhere = TempDir::new().unwrap();
    let elsewhere = elsewhere.path().display().to_string();
    let smtp = format!("smtp = \"{}\"", theirs.smtp);
    let (at_smtp, at_smtps) = (theirs.smtp.to_string(), theirs.smtps.to_string());
    let imap = imap();
    let imap_line = format!("smtp = \"{imap}\"");
    let vmail = theirs.path("vmail").display().to_string();
    let hops = format!("port = {}", theirs.next_hop_port);
    let name_server = format!("name_server = \"{}\"", theirs.name_server);
    let (_, stranger) = certificate();
    std::fs::write(theirs.path("other.pem"), stranger).unwrap();
    let refused = "[database]\nurl = \"mysql://me:secret@127.0.0.1:1/mail\"";
    let failing =
        "[database]\nseed = [\"sh\", \"-c\", \"cat > /dev/null; echo no such host >&2; exit 3\"]";
    let absent = "[database]\nseed = [\"/no/such/program\"]";
    let sees = "\"maildir\"";
    let hands = "\"sink\"";
    let seed = "name = \"server.domain.com\"";
    // What, what is changed in a description that fits, capabilities, and how rows come there.
    let table: Vec<(&str, (&str, &str), &str, &str)> = vec![
        (
            "a port at which nobody listens",
            (&smtp, "smtp = \"127.0.0.1:1\""),
            "",
            ACCOUNT,
        ),
        (
            "a host that there is not",
            (&smtp, "smtp = \"nosuch.invalid:25\""),
            "",
            ACCOUNT,
        ),
        (
            "a port of TLS as port 25",
            (&at_smtp, &at_smtps),
            "",
            ACCOUNT,
        ),
        (
            "a port in clear as port 465",
            (&at_smtps, &at_smtp),
            "",
            ACCOUNT,
        ),
        ("another protocol", (&smtp, &imap_line), "", ACCOUNT),
        (
            "another authority",
            ("\"ca.pem\"", "\"other.pem\""),
            "",
            ACCOUNT,
        ),
        (
            "public authorities",
            ("\"ca.pem\"", "\"public\""),
            "",
            ACCOUNT,
        ),
        (
            "another name in the certificate",
            (seed, "name = \"other.example\""),
            "",
            ACCOUNT,
        ),
        (
            "a wrong password",
            ("\"mypassword\"", "\"yourpassword\""),
            "",
            ACCOUNT,
        ),
        (
            "no such account",
            ("\"address@mydomain.com\"", "\"nobody@mydomain.com\""),
            "",
            ACCOUNT,
        ),
        (
            "a database that refuses",
            (seed, seed),
            "\"database\"",
            refused,
        ),
        ("a seeding command that fails", (seed, seed), "", failing),
        (
            "a seeding command that is not there",
            (seed, seed),
            "",
            absent,
        ),
        (
            "a seed that the server does not see",
            (seed, seed),
            "",
            NOWHERE,
        ),
        (
            "Maildirs of another server",
            (&vmail, &elsewhere),
            sees,
            ACCOUNT,
        ),
        (
            "Maildirs that are not there",
            (&vmail, "/no/such/folder"),
            sees,
            ACCOUNT,
        ),
        (
            "Maildirs that no command reaches",
            ("command", "command = [\"/no/such/ssh\"]"),
            sees,
            ACCOUNT,
        ),
        (
            "another port of next hops",
            (&hops, "port = 20001"),
            hands,
            ACCOUNT,
        ),
        (
            "a name server that is not asked",
            (&name_server, "name_server = \"127.0.0.77:20053\""),
            hands,
            ACCOUNT,
        ),
        (
            "a name server of another machine",
            (&name_server, "name_server = \"192.0.2.53:53\""),
            hands,
            ACCOUNT,
        ),
        (
            "a stranger as neighbour",
            ("\"127.0.0.2\"", "\"127.0.0.4\""),
            "",
            ACCOUNT,
        ),
        (
            "an address of another machine",
            ("\"127.0.0.3\"", "\"192.0.2.3\""),
            "",
            ACCOUNT,
        ),
        (
            "a log that is not there",
            ("/log\"", "/no-log\""),
            "",
            ACCOUNT,
        ),
    ];
    let lines: Vec<String> = std::thread::scope(|scope| {
        let tell = |(what, change, capabilities, rows)| {
            let theirs = &theirs;
            scope.spawn(move || told(theirs, what, &change, capabilities, rows))
        };
        let all: Vec<_> = table.iter().copied().map(tell).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let mut text = String::new();
    for ((what, ..), line) in table.iter().zip(&lines) {
        let _ = writeln!(text, "{what}\n    {line}");
    }
    let (identity, authority) = expired();
    let late = Theirs::with(tables, &identity);
    std::fs::write(late.path("ca.pem"), authority).unwrap();
    let what = "a certificate whose time is over";
    let line = told(&late, what, &(seed, seed), "", ACCOUNT);
    let _ = writeln!(text, "{what}\n    {line}");
    assert!(
        !text.contains("secret") && !text.contains("yourpassword"),
        "{text}"
    );
    let text = text.replace(&imap, "IMAP").replace(&elsewhere, "ELSEWHERE");
    insta::assert_snapshot!(text);
}
