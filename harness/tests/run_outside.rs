//! Servers that run already: a reference server that somebody else started, seen from the outside.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rstest::rstest;
use tempfile::TempDir;

const VMAILSPEC: &str = env!("CARGO_BIN_EXE_vmailspec");

/// The reference server on the tutorial's data.
struct Served {
    child: Child,
    smtp: String,
    smtps: String,
    maildirs: PathBuf,
}

impl Served {
    fn start() -> Self {
        let mut child = Command::new(VMAILSPEC)
            .arg("serve")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut word = |begin: &str| {
            let line = lines.find(|line| line.as_ref().unwrap().starts_with(begin));
            let line = line.unwrap().unwrap();
            line.split_whitespace().nth(1).unwrap().to_owned()
        };
        let (smtp, smtps, maildirs) = (word("SMTP "), word("SMTPS "), word("Maildirs "));
        Self {
            child,
            smtp,
            smtps,
            maildirs: maildirs.into(),
        }
    }

    /// Everything that is in the account's mailbox.
    fn mails(&self) -> usize {
        ["new", "cur"]
            .iter()
            .filter_map(|sub| {
                self.maildirs
                    .join("mydomain.com/address")
                    .join(sub)
                    .read_dir()
                    .ok()
            })
            .flatten()
            .count()
    }

    fn description(&self, folder: &Path, more: &str) -> PathBuf {
        let text = format!(
            "name = \"theirs\"\nstart = \"nothing\"\nprofiles = []\n{more}\n\
             [listen]\nsmtp = \"{}\"\nsmtps = \"{}\"\ncertificates = \"any\"\n\
             [accounts]\naddress = \"address@mydomain.com\"\npassword = {{ file = \"secret\" }}\n",
            self.smtp, self.smtps
        );
        std::fs::write(folder.join("secret"), "mypassword\n").unwrap();
        let file = folder.join("theirs.toml");
        std::fs::write(&file, text).unwrap();
        file
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let _ = self.child.wait();
    }
}

fn vmailspec(arguments: &[&str]) -> Output {
    Command::new(VMAILSPEC)
        .args(arguments)
        .env_remove("VMAILSPEC_PASSWORD")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(text).unwrap()
}

fn count(document: &serde_json::Value, verdict: &str) -> u64 {
    document["summary"][verdict].as_u64().unwrap()
}

#[test]
fn host_port_and_one_account_are_enough_for_a_run() {
    let served = Served::start();
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("run.json");
    let url = format!("smtp://address%40mydomain.com:mypassword@{}", served.smtp);
    let run = vmailspec(&[
        "run",
        &url,
        "--certificates",
        "any",
        "--intrusive",
        "--json",
        json.to_str().unwrap(),
    ]);
    let text = said(&run);
    assert_eq!(run.status.code(), Some(0), "{text}");
    let document: serde_json::Value =
        serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    // Session, TLS, AUTH, relay refusal: what a client can see.
    assert!(count(&document, "held") >= 180, "{text}");
    assert_eq!(
        count(&document, "broken") + count(&document, "blocked"),
        0,
        "{text}"
    );
    for group in [
        "auth.", "crlf.", "greet.", "relay.", "seq.", "size.", "tls.",
    ] {
        let clauses = document["cases"].as_array().unwrap().iter();
        let mut clauses = clauses.flat_map(|case| case["clauses"].as_array().unwrap());
        let held = clauses
            .any(|one| one["verdict"] == "held" && one["id"].as_str().unwrap().starts_with(group));
        assert!(held, "{group}: {text}");
    }
    assert!(text.contains("stay there"), "{text}");
    // What cannot be judged is summed by reason, not listed.
    let unsupported = count(&document, "unsupported");
    assert!(unsupported > 300, "{text}");
    let summed = |line: &&str| line.contains("needs database") && line.contains("for nothing else");
    assert_eq!(text.lines().filter(summed).count(), 1, "{text}");
    let listed = text.lines().filter(|line| line.contains("unsupported "));
    assert!(listed.count() < 20, "{text}");
}

#[test]
fn init_asks_for_what_the_flags_leave_out_where_somebody_sits_at_the_terminal() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("mine.toml");
    let command = format!("{VMAILSPEC} init --name mine {}", file.display());
    let mut asked = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let answers = [
        ("Port 25", "127.0.0.1:2525"),
        ("Port 465", ""),
        ("certificate", "any"),
        ("database", ""),
        ("command that brings rows", ""),
        ("account", "me@mail.example"),
        ("Maildirs", "/home/vmail"),
        ("runs a program where that is", "ssh mail"),
        ("may relay", "192.0.2.2"),
    ];
    let mut stdin = asked.stdin.take().unwrap();
    for (_, answer) in answers {
        writeln!(stdin, "{answer}").unwrap();
    }
    let output = asked.wait_with_output().unwrap();
    drop(stdin);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for (question, _) in answers {
        assert!(text.contains(question), "{question}: {text}");
    }
    let text = std::fs::read_to_string(&file).unwrap();
    for line in [
        "smtp = \"127.0.0.1:2525\"",
        "certificates = \"any\"",
        "address = \"me@mail.example\"",
        "command = [\"ssh\", \"mail\"]",
        "neighbour = \"192.0.2.2\"",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[rstest]
#[case::by_path("")]
#[case::by_a_command("command = [\"env\"]\n")]
fn a_mailbox_in_which_somebody_lives_is_left_as_it_was(#[case] command: &str) {
    let served = Served::start();
    let folder = TempDir::new().unwrap();
    let file = served.description(folder.path(), "capabilities = [\"maildir\"]");
    let text = std::fs::read_to_string(&file).unwrap();
    let path = served.maildirs.display();
    let text = format!("{text}[maildirs]\npath = \"{path}\"\n{command}");
    std::fs::write(&file, text).unwrap();
    let target = file.to_str().unwrap();

    let doctor = vmailspec(&["doctor", "--target", target]);
    assert_eq!(doctor.status.code(), Some(0), "{}", said(&doctor));
    assert!(said(&doctor).contains("a message came to mydomain.com/address/new"));

    let run = vmailspec(&["run", "--target", target, "tutorial/tls-delivery"]);
    let text = said(&run);
    assert_eq!(run.status.code(), Some(0), "{text}");
    assert!(
        text.contains("held") && !text.contains("unsupported"),
        "{text}"
    );
    assert_eq!(served.mails(), 0);
}

#[test]
fn the_parts_of_a_run_are_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let part = |k: usize| {
        folder
            .path()
            .join(format!("{k}.json"))
            .display()
            .to_string()
    };
    for k in [1, 2] {
        let shard = format!("{k}/2");
        let run = vmailspec(&[
            "run",
            "--database",
            "embedded",
            "tutorial/session-*",
            "--shard",
            &shard,
            "--json",
            &part(k),
        ]);
        assert_eq!(run.status.code(), Some(0), "{}", said(&run));
    }
    let whole = folder.path().join("whole.json").display().to_string();
    let merged = vmailspec(&["merge", &part(1), &part(2), "--json", &whole]);
    assert_eq!(merged.status.code(), Some(0), "{}", said(&merged));
    let document: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&whole).unwrap()).unwrap();
    let list = vmailspec(&["run", "--list", "tutorial/session-*"]);
    let names: Vec<&str> = std::str::from_utf8(&list.stdout)
        .unwrap()
        .lines()
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(document["cases"].as_array().unwrap().len(), names.len());

    let twice = vmailspec(&["merge", &part(1), &part(1)]);
    assert_eq!(twice.status.code(), Some(2), "{}", said(&twice));
    assert!(said(&twice).contains("expected each case once"));

    let matrix = vmailspec(&["matrix", &whole, &part(1)]);
    let text = said(&matrix);
    assert!(
        text.contains("## Groups of clauses") && text.contains("not run"),
        "{text}"
    );

    let mut other = document;
    let clause = &mut other["cases"][0]["clauses"][0];
    let id = clause["id"].as_str().unwrap().to_owned();
    clause["verdict"] = "broken".into();
    clause["known"] = "a reason (since 2024-05-01)".into();
    other["target"] = "another".into();
    let file = folder.path().join("other.json").display().to_string();
    std::fs::write(&file, other.to_string()).unwrap();
    let text = said(&vmailspec(&["matrix", &whole, &file]));
    let reason = format!("| another | {id} | a reason (since 2024-05-01) |");
    assert!(
        text.contains(&reason) && text.contains("1 broken as known"),
        "{text}"
    );
}
