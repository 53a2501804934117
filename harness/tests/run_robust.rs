//! The runner against what can go wrong around it: each ends with its exit code, in words that say
//! what to do, and never hangs. (Garbage and endless replies: `run_driver.rs`; a database that goes
//! away: `databases.rs`.)

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rstest::rstest;

fn vmailspec(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmailspec"));
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    vmailspec(&["run", "--database", "embedded"])
        .args(arguments)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

const SESSION: &str = "title   x
start   connected

MUST    seq.answers   rfc5321#4.2   every command is answered
S: 220 within 5s
C: EHLO client.example
S: 250 within 5s
C: MAIL FROM:<a@$sender>
S: 250 within 5s
C: RCPT TO:<address@$domain>
S: 250 within 5s
C: DATA
S: 354 within 5s
message
S: 250 within 5s
C: QUIT
S: 221 within 5s
";

/// What anybody may ask of any server.
const STRANGER: &str = "title   x

MUST    seq.answers   rfc5321#4.2   every command is answered
C: MAIL FROM:<a@$sender>
S: 250 within 5s
C: RCPT TO:<someone@$elsewhere>
S: 554 within 5s
C: QUIT
S: 221 within 5s
S: closed within 5s
";

#[rstest]
#[case("greeting", "220")]
#[case("EHLO", "250")]
#[case("MAIL", "250")]
#[case("RCPT", "250")]
#[case("DATA", "354")]
#[case("CONTENT", "250")]
fn a_target_that_falls_silent_is_exit_1_and_its_last_words_are_shown(
    #[case] verb: &str,
    #[case] code: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let case = file(folder.path(), "session.case", SESSION);
    let wire = format!("after {verb} reply {code} => drop\nafter {verb} reply {code}- => drop\n");
    let wire = file(folder.path(), "silent.wire", &wire);
    let output = run(&["--scenarios", &case, "--wrong", &wire]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in [
        format!("expected {code}"),
        "there was nothing".into(),
        "or `--jobs 1` tells".into(),
        "vmailspec run".into(),
    ] {
        assert!(text.contains(&part), "{part}: {text}");
    }
}

#[test]
fn a_target_that_does_not_start_is_exit_3_and_its_own_words_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = file(folder.path(), "bad.cf", "smtpd_recipient_limit = many\n");
    let output = run(&["--wrong", &wrong, "tutorial/data"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(
        text.contains("did not start") && text.contains("smtpd_recipient_limit = \"many\""),
        "{text}"
    );
}

/// Reads one line and goes, as `head -1` does.
fn one_line(mut command: Command) -> (String, Option<i32>, String) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut reader = BufReader::with_capacity(1, child.stdout.take().unwrap());
    reader.read_line(&mut line).unwrap();
    drop(reader);
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (line, output.status.code(), told)
}

#[test]
fn output_that_nobody_reads_to_its_end_changes_no_verdict() {
    let held = vmailspec(&["run", "--database", "embedded", "tutorial/data"]);
    let (line, code, told) = one_line(held);
    assert!(line.starts_with("vmaild"), "{line}");
    assert_eq!((code, told.as_str()), (Some(0), ""));

    let folder = tempfile::tempdir().unwrap();
    let text = SESSION.replace("S: 221", "S: 421");
    let case = file(folder.path(), "session.case", &text);
    let broken = vmailspec(&["run", "--database", "embedded", "--scenarios", &case]);
    let (_, code, told) = one_line(broken);
    assert_eq!((code, told.as_str()), (Some(1), ""));
}

#[test]
fn fail_fast_ends_with_the_first_broken_case_and_begins_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let broken = SESSION.replace("S: 220", "S: 421");
    let broken = broken.replace("start ", "each    which a, b, c\nstart ");
    let case = file(folder.path(), "session.case", &broken);
    let output = run(&["--fail-fast", "--jobs", "1", "--scenarios", &case]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("1 of 3 cases"), "{text}");
    assert!(text.contains("(--fail-fast)"), "{text}");
}

#[rstest]
#[case(&["list"])]
#[case(&["coverage"])]
#[case(&["run", "--list"])]
#[case(&["explain", "relay.foreign-unauth"])]
fn a_list_that_is_not_read_to_its_end_is_no_defect(#[case] arguments: &[&str]) {
    let (line, code, told) = one_line(vmailspec(arguments));
    assert!(!line.is_empty());
    assert_eq!((code, told.as_str()), (Some(0), ""));
}

#[test]
fn a_report_that_cannot_be_written_is_exit_2_before_anything_runs() {
    let output = run(&["--json", "/nonexistent/report.json", "tutorial/data"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(output.stdout.is_empty());
    assert!(said(&output).contains("cannot write /nonexistent/report.json"));
}

#[test]
fn a_disk_without_room_for_a_report_is_exit_3_and_the_run_is_told_all_the_same() {
    for report in ["--json", "--junit", "--tap"] {
        let output = run(&[report, "/dev/full", "tutorial/data"]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(3), "{report}: {text}");
        for part in [
            "cases, ",
            "a report could not be written: ",
            "No space left",
        ] {
            assert!(text.contains(part), "{report}: {part}: {text}");
        }
    }
}

#[test]
fn a_full_disk_behind_standard_output_is_exit_3() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let output = vmailspec(&["run", "--database", "embedded", "tutorial/data"])
        .stdout(full.unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("No space left"), "{}", said(&output));
}

/// A server of a few lines that answers until the command `mute` comes, and then no more; `greeting`: nothing at
/// all; `closing`: QUIT, but the connection stays open.
fn falls_silent_at(mute: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut to = client.try_clone().unwrap();
                if mute != "greeting" {
                    let _ = to.write_all(b"220 mail.example ESMTP\r\n");
                }
                for line in BufReader::new(client).lines().map_while(Result::ok) {
                    let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
                    let answer: &[u8] = match verb.as_str() {
                        _ if mute == "greeting" || verb == mute => continue,
                        "EHLO" => b"250-mail.example\r\n250 AUTH PLAIN LOGIN\r\n",
                        "MAIL" | "RSET" | "NOOP" => b"250 2.0.0 Ok\r\n",
                        "RCPT" => b"554 5.7.1 No\r\n",
                        "AUTH" => b"235 2.7.0 Ok\r\n",
                        "QUIT" => b"221 2.0.0 Bye\r\n",
                        _ => b"500 5.5.2 What?\r\n",
                    };
                    let _ = to.write_all(answer);
                    if verb == "QUIT" && mute != "closing" {
                        return;
                    }
                }
            });
        }
    });
    address.to_string()
}

/// What is said of a server that runs already, with its place left out.
fn judged(address: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let case = file(folder.path(), "session.case", STRANGER);
    let url = format!("smtp://user%40mail.example:secret@{address}");
    let output = vmailspec(&["run", "--scenarios", &case, &url])
        .output()
        .unwrap();
    let text = said(&output).replace(address, "ADDRESS");
    assert!(!text.contains("secret"), "{text}");
    (output.status.code(), text)
}

#[rstest]
#[case("greeting", 3, "ADDRESS does not greet")]
#[case("EHLO", 3, "EHLO was answered nothing")]
#[case("AUTH", 3, "AUTH was answered nothing")]
#[case("MAIL", 1, "expected 250")]
#[case("RCPT", 1, "expected 554")]
#[case("QUIT", 1, "expected 221")]
#[case("closing", 1, "expected the connection to be closed")]
fn a_server_of_somebody_elses_that_falls_silent_is_told_by_its_verb(
    #[case] mute: &'static str,
    #[case] code: i32,
    #[case] part: &str,
) {
    let (exit, text) = judged(&falls_silent_at(mute));
    assert_eq!(exit, Some(code), "{text}");
    assert!(text.contains(part), "{part}: {text}");
}

#[test]
fn a_server_that_is_not_there_is_exit_3_before_anything_runs() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let (exit, text) = judged(&address);
    assert_eq!(exit, Some(3), "{text}");
    let said = text.contains("ADDRESS") && text.contains("Connection refused");
    assert!(said && !text.contains("1 case"), "{text}");
}

#[test]
fn two_runs_at_once_on_one_machine_do_not_meet() {
    // With the tutorial's literal names, the strangers' addresses and targets of their own.
    let cases = [
        "tutorial/literal*",
        "tutorial/relay",
        "tutorial/next-hop-later",
    ];
    let start = || {
        vmailspec(&["run", "--database", "embedded"])
            .args(cases)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    for child in [start(), start()] {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
}
