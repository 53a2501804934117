//! The templates for the pipelines of others (`ci/templates`): their shell parts, run as a CI system
//! runs them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A handful of cases, some of which `fixtures/wrong/rset-unknown.wire` breaks.
const SELECT: &str = "tutorial/session-*";

fn templates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/templates")
}

/// A repository that has copied the templates to where their heads say.
fn repository() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let ci = folder.path().join("ci");
    std::fs::create_dir(&ci).unwrap();
    std::fs::copy(templates().join("gate"), ci.join("gate")).unwrap();
    std::fs::write(ci.join("mail.known"), "# nothing is\n").unwrap();
    folder
}

/// Runs `script` in `repository` with these variables, vmailspec in PATH.
fn bash(repository: &Path, script: &str, variables: &[(&str, &str)]) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_vmailspec"));
    let path = format!(
        "{}:{}",
        program.parent().unwrap().display(),
        std::env::var("PATH").unwrap_or_default()
    );
    Command::new("bash")
        .args(["-e", "-o", "pipefail", "-c", script])
        .current_dir(repository)
        .env("PATH", path)
        .env("SELECT", SELECT)
        .env("OPTIONS", "--database embedded")
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

#[track_caller]
fn ends_with(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stdout);
    let said = format!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

/// The shell parts of a YAML file: what is indented below a line that ends with `|`.
fn scripts(file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(templates().join(file)).unwrap();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let lines: Vec<&str> = text.lines().collect();
    let begins = |line: &str| line.ends_with("run: |") || line.trim() == "- |";
    let mut scripts = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| begins(line)) {
        let below = lines[at + 1..].iter();
        let script = below.take_while(|below| below.is_empty() || indent(below) > indent(line));
        let script: Vec<&str> = script.map(|line| line.trim_start()).collect();
        scripts.push(script.join("\n"));
    }
    scripts
}

#[test]
fn the_gate_judges_a_server_in_parts_and_then_as_a_whole() {
    let repository = repository();
    let gate = |word: &str, variables: &[(&str, &str)]| {
        bash(
            repository.path(),
            &format!("bash ci/gate {word}"),
            variables,
        )
    };
    ends_with(&gate("run", &[("SHARD", "1/2")]), 0);
    let said = ends_with(&gate("merge", &[]), 3);
    assert!(
        said.contains("1 parts in vmailspec-reports, expected 2"),
        "{said}"
    );
    ends_with(&gate("run", &[("SHARD", "2/2")]), 0);
    ends_with(&gate("merge", &[("KNOWN", "ci/mail.known")]), 0);
    for report in ["junit-1-of-2.xml", "junit-2-of-2.xml", "run.json"] {
        let file = repository.path().join("vmailspec-reports").join(report);
        assert!(file.metadata().unwrap().len() > 0, "{report}");
    }
}

#[test]
fn the_gate_is_shut_by_a_broken_clause_and_by_a_list_that_says_too_much() {
    let repository = repository();
    let wrong = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/wrong/rset-unknown.wire");
    let wrong = format!("--database embedded --wrong {}", wrong.display());
    let run = |variables: &[(&str, &str)]| bash(repository.path(), "bash ci/gate run", variables);
    ends_with(&run(&[("OPTIONS", &wrong)]), 1);
    std::fs::write(
        repository.path().join("stale"),
        "*  they do hold  2024-05-01\n",
    )
    .unwrap();
    ends_with(&run(&[("KNOWN", "stale")]), 4);
    ends_with(&run(&[("TARGET", "ci/missing.toml")]), 2);
    ends_with(&bash(repository.path(), "bash ci/gate merge", &[]), 2);
}

#[test]
fn the_steps_for_github_run() {
    let repository = repository();
    let scripts = scripts("github/action.yml");
    assert_eq!(scripts.len(), 2, "install, and the gate");
    // Already installed: nothing is fetched.
    let source = [("SOURCE", "--git https://example.invalid/")];
    ends_with(&bash(repository.path(), &scripts[0], &source), 0);
    let step = |command: &str, shard: &str| {
        let variables = [
            ("GATE", "ci/gate"),
            ("COMMAND", command),
            ("TARGET", ""),
            ("KNOWN", ""),
            ("SHARD", shard),
            ("REPORTS", "vmailspec-reports"),
        ];
        ends_with(&bash(repository.path(), &scripts[1], &variables), 0);
    };
    for shard in ["1/3", "2/3", "3/3"] {
        step("run", shard);
    }
    step("merge", "");
}

#[test]
fn the_jobs_for_gitlab_run() {
    let repository = repository();
    let scripts = scripts("gitlab.yml");
    assert_eq!(scripts.len(), 2, "the parts, and the verdict");
    for part in ["1", "2", "3"] {
        let variables = [("CI_NODE_INDEX", part), ("CI_NODE_TOTAL", "3")];
        let said = ends_with(&bash(repository.path(), &scripts[0], &variables), 0);
        assert!(!said.contains("exit code"), "{said}");
    }
    let known = [("KNOWN", "ci/mail.known")];
    ends_with(&bash(repository.path(), &scripts[1], &known), 0);
}
