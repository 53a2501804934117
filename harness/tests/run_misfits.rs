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

/// What is said of a row's description, with what differs from run to run taken out.
fn told(theirs: &Theirs, row: &[String]) -> String {
    let [what, from, to, capability, how] = row else {
        unreachable!("{row:?}");
    };
    let capabilities = match capability.as_str() {
        "" => String::new(),
        word => format!("\"{word}\""),
    };
    let text = theirs.description(&capabilities, rows(how), "");
    assert!(text.contains(from.as_str()), "{what}: {text}");
    let text = match from.as_str() {
        "" => text,
        from => text.replace(from, to),
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

/// What; what is changed in a description that fits, and into what; capabilities; how rows come there.
const MISFITS: &str = r#"
a port at which nobody listens       | "SMTP"  | "127.0.0.1:1"       |          | account
a host that there is not             | "SMTP"  | "nosuch.invalid:25" |          | account
a port of TLS as port 25             | "SMTP"  | "SMTPS"             |          | account
a port in clear as port 465          | "SMTPS" | "SMTP"              |          | account
another protocol                     | "SMTP"  | "IMAP"              |          | account
another authority                    | ca.pem  | other.pem           |          | account
public authorities                   | ca.pem  | public              |          | account
another name in the certificate      | server.domain.com | other.example |      | account
a wrong password                     | mypassword | yourpassword     |          | account
no such account                      | address@ | nobody@            |          | account
a database that refuses              |         |                     | database | refused
a seeding command that fails         |         |                     |          | failing
a seeding command that is not there  |         |                     |          | absent
a seed that the server does not see  |         |                     |          | nowhere
Maildirs of another server           | VMAIL   | ELSEWHERE           | maildir  | account
Maildirs that are not there          | VMAIL   | /no/such/folder     | maildir  | account
Maildirs that no command reaches     | owner = | command = ["/no/such/ssh"] # | maildir | account
another port of next hops            | port = HOPS | port = 20001    | sink     | account
a name server that is not asked      | NAMES   | 127.0.0.77:20053    | sink     | account
a name server of another machine     | NAMES   | 192.0.2.53:53       | sink     | account
a stranger as neighbour              | 127.0.0.2 | 127.0.0.4         |          | account
an address of another machine        | 127.0.0.3 | 192.0.2.3         |          | account
a log that is not there              | /log"   | /no-log"            |          | account
"#;

fn rows(word: &str) -> &'static str {
    match word {
        "account" => ACCOUNT,
        "nowhere" => NOWHERE,
        "refused" => "[database]\nurl = \"mysql://me:secret@127.0.0.1:1/mail\"",
        "failing" => {
            "[database]\nseed = [\"sh\", \"-c\", \"cat > /dev/null; echo no such host >&2; exit 3\"]"
        }
        "absent" => "[database]\nseed = [\"/no/such/program\"]",
        other => unreachable!("{other}"),
    }
}

#[test]
fn what_does_not_fit_is_named_in_one_line_before_the_first_case() {
    let theirs = Theirs::start(tables);
    let elsewhere = TempDir::new().unwrap();
    let elsewhere = elsewhere.path().display().to_string();
    let (imap, vmail) = (imap(), theirs.path("vmail").display().to_string());
    let (_, stranger) = certificate();
    std::fs::write(theirs.path("other.pem"), stranger).unwrap();
    let here = |text: &str| {
        text.replace("SMTPS", &theirs.smtps.to_string())
            .replace("SMTP", &theirs.smtp.to_string())
            .replace("IMAP", &imap)
            .replace("VMAIL", &vmail)
            .replace("ELSEWHERE", &elsewhere)
            .replace("HOPS", &theirs.next_hop_port.to_string())
            .replace("NAMES", &theirs.name_server.to_string())
    };
    let table: Vec<Vec<String>> = MISFITS
        .trim()
        .lines()
        .map(|line| line.split('|').map(|cell| here(cell.trim())).collect())
        .collect();
    let lines: Vec<String> = std::thread::scope(|scope| {
        let tell = |row: &Vec<String>| {
            let (theirs, row) = (&theirs, row.clone());
            scope.spawn(move || told(theirs, &row))
        };
        let all: Vec<_> = table.iter().map(tell).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let mut text = String::new();
    for (row, line) in table.iter().zip(&lines) {
        let _ = writeln!(text, "{}\n    {line}", row[0]);
    }
    let (identity, authority) = expired();
    let late = Theirs::with(tables, &identity);
    std::fs::write(late.path("ca.pem"), authority).unwrap();
    let row = ["a certificate whose time is over", "", "", "", "account"].map(str::to_owned);
    let _ = writeln!(text, "{}\n    {}", row[0], told(&late, &row));
    assert!(
        !text.contains("secret") && !text.contains("yourpassword"),
        "{text}"
    );
    let text = text.replace(&imap, "IMAP").replace(&elsewhere, "ELSEWHERE");
    insta::assert_snapshot!(text);
}
