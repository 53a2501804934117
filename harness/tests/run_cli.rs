//! The command line: what is understood, what is said about the rest, and the exit codes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::process::{Command, Output};

use rstest::rstest;

fn vmailspec(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vmailspec"))
        .args(arguments)
        .env_remove("VMAILSPEC_DATABASE_IMAGE")
        .env("COLUMNS", "100")
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    format!(
        "exit code {}\n{}{}",
        output.status.code().unwrap(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A name for a snapshot's file.
fn slug(arguments: &[&str]) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!(
        "slip_{}",
        arguments.join(" ").chars().map(letter).collect::<String>()
    )
}

#[rstest]
#[case::no_command(&[])]
#[case::unknown_command(&["rnu"])]
#[case::unknown_option(&["run", "--databse", "embedded"])]
#[case::unknown_database(&["run", "--database", "oracle"])]
#[case::unknown_selection(&["run", "relay.nothing-like-it"])]
#[case::pattern_that_fits_nothing(&["run", "nothing.*"])]
#[case::no_such_folder(&["run", "--scenarios", "/nonexistent"])]
#[case::no_such_list(&["run", "--known", "/nonexistent.txt"])]
#[case::no_such_wrong_server(&["run", "--wrong", "/nonexistent.cf"])]
#[case::unknown_clause(&["explain", "relay.foreign-unaut"])]
#[case::resolver_without_config(&["serve", "--resolver", "127.0.0.1:53"])]
#[case::serve_without_files(&["serve", "--config", "/nonexistent"])]
fn a_slip_is_answered_with_what_was_expected(#[case] arguments: &[&str]) {
    let output = vmailspec(arguments);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(!output.stderr.is_empty());
    insta::assert_snapshot!(slug(arguments), said(&output));
}

#[test]
fn help_is_on_standard_output_and_good() {
    let output = vmailspec(&["run", "--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
    insta::assert_snapshot!(String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_folder_without_scenarios_runs_nothing_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let output = vmailspec(&["run", "--scenarios", folder.path().to_str().unwrap()]);
    let text = said(&output).replace(folder.path().to_str().unwrap(), "FOLDER");
    insta::assert_snapshot!("nothing_to_run", text);
}

#[test]
fn mistakes_in_a_scenario_are_all_told_with_their_lines() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.case");
    std::fs::write(&file, "title   x\n\nQ: HELO\nS: banana\n").unwrap();
    let output = vmailspec(&["check", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let text = said(&output);
    assert!(text.contains("Q:") && text.contains("banana"), "{text}");
}

#[test]
fn the_scenarios_of_the_binary_are_without_a_mistake() {
    let output = vmailspec(&["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn every_listed_case_is_selected_by_its_own_name() {
    let output = vmailspec(&["run", "--list"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let first = text.lines().next().unwrap();
    let output = vmailspec(&["run", "--list", first]);
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), first);
}

#[test]
fn a_scenario_begun_from_the_register_lacks_only_what_it_marks() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("scenarios");
    let new = |id: &str| vmailspec(&["new", id, "--scenarios", root.to_str().unwrap()]);
    for scenario in [
        "relay.foreign-unauth",
        "quota.over-bounced",
        "esc.code-5.1.1",
    ] {
        let output = new(scenario);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    let output = vmailspec(&["check", root.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let text = said(&output);
    assert!(text.contains("12 mistakes in 3 scenario files"), "{text}");
    assert_eq!(
        text.matches("`write this` still stands here").count(),
        12,
        "{text}"
    );

    let file = root.join("relay/foreign-unauth.case");
    let text = std::fs::read_to_string(&file).unwrap();
    insta::assert_snapshot!("begun_from_the_register", text);
    let written = text.lines().map(|line| {
        let (known, _) = line.split_once("write this").unwrap_or((line, ""));
        match known {
            "" if !line.is_empty() => "C: NOOP\nS: 250".to_owned(),
            _ if known.len() < line.len() => format!("{known}said"),
            _ => line.to_owned(),
        }
    });
    let written: Vec<String> = written.collect();
    std::fs::write(&file, written.join("\n") + "\n").unwrap();
    let output = vmailspec(&["check", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));

    let again = new("relay.foreign-unauth");
    assert_eq!(again.status.code(), Some(2), "{}", said(&again));
    assert!(said(&again).contains("exists"), "{}", said(&again));
    assert!(std::fs::read_to_string(&file).unwrap().contains("said"));
    let unknown = new("relay.foreign-unaut");
    assert!(said(&unknown).contains("relay.foreign-unauth"));
}

#[test]
fn a_row_is_explained_with_its_scenario_its_command_and_its_proof() {
    let output = vmailspec(&["explain", "relay.foreign-unauth"]);
    assert_eq!(output.status.code(), Some(0));
    let text = said(&output);
    for part in [
        "MUST",
        "RFC 5321, section 7.9",
        "vmailspec run relay.foreign-unauth",
        "fixtures/wrong/takes-relay.wire",
        "tutorial/relay.case",
        "scenarios/register/relay.txt:",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_ledgers_clauses_are_explained_too() {
    let output = vmailspec(&["explain", "ledger.lost"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(said(&output).contains("RFC 5321"));
}
