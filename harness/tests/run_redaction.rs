//! Passwords that a user gives: nothing that vmailspec writes shows them, in whatever form.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod outside_support;

use std::path::Path;
use std::process::Output;

use base64ct::{Base64, Encoding as _};
use outside_support::fake::{Fake, Kind};
use outside_support::{command, said};
use rstest::rstest;
use tempfile::TempDir;

const USER: &str = "me@mail.example";
/// Nobody says such a word by chance, and a URL has to escape it.
const PASSWORD: &str = "hunt/er2@quine";
const WRITTEN: &str = "hunt%2Fer2%40quine";
/// Logins by both methods; the server refuses them and says back what it heard.
const CASES: &str = "title   Logins
cases   how    first                                             second
        plain  AUTH PLAIN $plain(address@$domain mypassword)     NOOP
        later  AUTH PLAIN                                        $plain(address@$domain mypassword)

MUST    auth.plain-ir-ok   rfc4954#4   a login works
C: $first
S: 235 | 334
C: $second
S: 235
";
const LOGIN: &str = "title   A login by two questions

MUST    auth.login-ok   rfc4954#4   a login works
C: AUTH LOGIN
S: 334
C: $base64(address@$domain)
S: 334
C: $base64(mypassword)
S: 235
";

/// Every form in which somebody might read it.
fn forms() -> Vec<String> {
    let base64 = |text: String| Base64::encode_string(text.as_bytes());
    vec![
        PASSWORD.to_owned(),
        WRITTEN.to_owned(),
        base64(PASSWORD.to_owned()),
        base64(format!("\0{USER}\0{PASSWORD}")),
        base64(format!("{USER}\0{USER}\0{PASSWORD}")),
    ]
}

fn is_hidden(what: &str, text: &str) {
    for form in forms() {
        assert!(!text.contains(&form), "{what} shows {form}:\n{text}");
    }
}

/// Where a user may write a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    Url,
    File,
    Variable,
    Description,
    DescribedVariable,
}

/// A run on the server, with every report; the reports' texts.
fn run(fake: &Fake, given: Given, folder: &Path) -> (Output, Vec<(&'static str, String)>) {
    let at = |name: &str| folder.join(name).display().to_string();
    std::fs::create_dir(folder.join("cases")).unwrap();
    std::fs::write(folder.join("cases/logins.case"), CASES).unwrap();
    std::fs::write(folder.join("cases/login.case"), LOGIN).unwrap();
    std::fs::write(folder.join("secret"), format!("{PASSWORD}\n")).unwrap();
    let url = |login: &str| format!("smtp://{login}@{}", fake.address);
    let mut words = vec!["run".to_owned()];
    match given {
        Given::Url => words.push(url(&format!("me%40mail.example:{WRITTEN}"))),
        Given::File => words.extend([
            url("me%40mail.example"),
            "--password-file".to_owned(),
            at("secret"),
        ]),
        Given::Variable => words.push(url("me%40mail.example")),
        Given::Description | Given::DescribedVariable => {
            let word = match given {
                Given::Description => "{ file = \"secret\" }",
                _ => "{ env = \"VMAILSPEC_PASSWORD\" }",
            };
            let text = format!(
                "name = \"theirs\"\nstart = \"nothing\"\ncapabilities = [\"log\"]\nprofiles = []\nlog = \"{}\"\n\
                 [listen]\nsmtp = \"{}\"\n[accounts]\naddress = \"{USER}\"\npassword = {word}\n",
                at("log"),
                fake.address
            );
            std::fs::write(folder.join("theirs.toml"), text).unwrap();
            words.extend(["--target".to_owned(), at("theirs.toml")]);
        }
    }
    let reports = ["json", "junit", "tap"];
    for report in reports {
        words.extend([format!("--{report}"), at(report)]);
    }
    words.extend(["--scenarios".to_owned(), at("cases")]);
    words.extend(["--intrusive".to_owned(), "--verbose".to_owned()]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut command = command(&words);
    if matches!(given, Given::Variable | Given::DescribedVariable) {
        command.env("VMAILSPEC_PASSWORD", PASSWORD);
    }
    let output = command.output().unwrap();
    let texts = reports.map(|report| {
        let text = std::fs::read_to_string(folder.join(report)).unwrap_or_default();
        (report, text)
    });
    (output, texts.into())
}

#[rstest]
#[case(Given::Url)]
#[case(Given::File)]
#[case(Given::Variable)]
#[case(Given::Description)]
#[case(Given::DescribedVariable)]
fn a_server_that_says_the_password_back_does_not_bring_it_into_a_report(#[case] given: Given) {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log");
    std::fs::write(&log, "").unwrap();
    // The first is that of the checks.
    let fake = Fake::logging(Kind::SaysBack { logins: 1 }, Some(log.clone()));
    let (output, reports) = run(&fake, given, folder.path());
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    // It was said, and would be seen.
    let heard = std::fs::read_to_string(&log).unwrap();
    assert!(heard.contains(PASSWORD), "{heard}");
    assert_eq!(text.matches("BROKEN MUST").count(), 3, "{text}");
    is_hidden("the terminal", &text);
    for (report, text) in &reports {
        // TAP has a line a clause, and no more.
        let tells = *report == "tap" || text.contains("refused, for it said");
        assert!(tells, "{report}: {text}");
        is_hidden(report, text);
    }
    if given == Given::Description {
        assert!(text.contains("The server's log"), "{text}");
    }
}

#[test]
fn a_login_that_is_refused_by_the_checks_is_told_without_the_password() {
    let folder = TempDir::new().unwrap();
    let fake = Fake::start(Kind::SaysBack { logins: 0 });
    let (output, _) = run(&fake, Given::Url, folder.path());
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("cannot log in"), "{text}");
    is_hidden("the terminal", &text);

    let url = format!("smtp://me%40mail.example:{WRITTEN}@{}", fake.address);
    let doctor = command(&["doctor", &url]).output().unwrap();
    let text = said(&doctor);
    assert!(text.contains("WRONG  accounts"), "{text}");
    is_hidden("doctor", &text);
}

/// Slips of the pen.
#[rstest]
#[case::no_scheme("me%40mail.example:PASSWORD@127.0.0.1:25", 2)]
#[case::half_a_scheme("smtp//me%40mail.example:PASSWORD@127.0.0.1:25", 2)]
#[case::another_scheme("imap://me%40mail.example:PASSWORD@127.0.0.1:25", 2)]
#[case::no_host("smtp://me%40mail.example:PASSWORD@", 2)]
#[case::no_address("smtp://me:PASSWORD@127.0.0.1:25", 2)]
#[case::nobody_listens("smtp://me%40mail.example:PASSWORD@127.0.0.1:1", 3)]
#[case::database("--database=mysql://me:PASSWORD@127.0.0.1:1/mail", 3)]
#[case::no_database("--database=mysql://me:PASSWORD@127.0.0.1:1", 2)]
#[case::another_database("--database=pgsql://me:PASSWORD@127.0.0.1:1/mail", 2)]
fn an_error_is_told_without_the_password(#[case] word: &str, #[case] code: i32) {
    let word = word.replace("PASSWORD", WRITTEN);
    let output = command(&["run", &word, "tutorial/data"]).output().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    is_hidden(&word, &text);
}
