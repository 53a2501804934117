//! The suite as a user runs it, on the reference server with the embedded database.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

fn vmailspec() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmailspec"));
    command.args(["run", "--database", "embedded"]);
    command
}

#[test]
fn a_case_alone_holds_and_is_written_to_every_report() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let output = vmailspec()
        .arg("tutorial/mailer")
        .arg("--junit")
        .arg(path("junit.xml"))
        .arg("--json")
        .arg(path("report.json"))
        .arg("--tap")
        .arg(path("report.tap"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let json = std::fs::read_to_string(path("report.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["cases"][0]["name"], "tutorial/mailer");
    assert!(
        std::fs::read_to_string(path("junit.xml"))
            .unwrap()
            .contains("tut.mailer-465")
    );
    assert!(
        std::fs::read_to_string(path("report.tap"))
            .unwrap()
            .starts_with("TAP version 14")
    );
}

/// A scenario that fails, and one that asks for what no target has.
fn bad_scenarios() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "broken.case",
        "title   x\n\nMUST    seq.wrong   rfc5321#4.1.1.9   NOOP is refused\nC: NOOP\nS: 5yz\n",
    );
    write(
        "blocked.case",
        "title   x\n\nC: NOOP\nS: 5yz\nMUST    seq.blocked   rfc5321#4.1.1.9   x\nC: NOOP\nS: 250\n",
    );
    folder
}

#[test]
fn a_broken_clause_is_exit_1_and_a_blocked_one_exit_3() {
    let folder = bad_scenarios();
    for (case, code) in [("broken", 1), ("blocked", 3)] {
        let output = vmailspec()
            .arg("--scenarios")
            .arg(folder.path())
            .arg(case)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{text}");
    }
}

#[test]
fn a_known_failure_is_no_news_and_one_that_holds_is_stale() {
    let folder = bad_scenarios();
    let list = folder.path().join("known.txt");
    let run = |entry: &str, case: &str| {
        std::fs::write(&list, format!("{entry}  a reason  2024-05-01\n")).unwrap();
        let output = vmailspec()
            .arg("--known")
            .arg(&list)
            .args([
                "--scenarios".as_ref(),
                folder.path().as_os_str(),
                case.as_ref(),
            ])
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert_eq!(run("seq.wrong", "broken").0, Some(0));
    std::fs::write(
        folder.path().join("held.case"),
        "title   x\n\nMUST    seq.held   rfc5321#4.1.1.9   x\nC: NOOP\nS: 250\n",
    )
    .unwrap();
    let (code, said) = run("seq.held", "held");
    assert_eq!(code, Some(4));
    assert!(said.contains("`seq.held` holds now"), "{said}");
}

#[test]
fn a_target_that_dies_is_a_broken_clause_and_not_a_hang() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("dead.case"),
        "title   x\nneeds   own-target\n\nROBUST  seq.dead   rfc5321#6.1   x\ntarget kill\nC: NOOP\nS: 250\n",
    )
    .unwrap();
    let output = vmailspec()
        .arg("--scenarios")
        .arg(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("there was closed"), "{text}");
}

#[test]
fn interrupted_it_ends_in_order_and_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = vmailspec()
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The first case that ended: the run is under way.
    assert!(lines.any(|line| line.unwrap().contains(" ms")));
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(rest.last().unwrap().ends_with("interrupted"), "{rest:#?}");
    let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}
