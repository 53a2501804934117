//! Wrong servers: a check that has never failed is not evidence. Each file of `fixtures/wrong`
//! says which clauses it must turn red; the suite turns exactly these red.
//!
//! ```text
//! # What is wrong with this server.
//! # only: PATTERN …      (where it breaks almost everything: the cases that are run)
//! # red: CLAUSE …        (may be repeated)
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use vmailspec::{ledger, plan, scenario};

struct Server {
    path: PathBuf,
    only: Vec<String>,
    red: BTreeSet<String>,
}

fn servers() -> Vec<Server> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/wrong");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|end| end == "cf" || end == "wire")
    });
    paths.into_iter().map(read).collect()
}

fn read(path: PathBuf) -> Server {
    let text = std::fs::read_to_string(&path).unwrap();
    let words = |begin: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(begin));
        lines
            .flat_map(str::split_whitespace)
            .map(str::to_owned)
            .collect()
    };
    let red = words("# red:").into_iter().collect();
    Server {
        only: words("# only:"),
        red,
        path,
    }
}

#[test]
fn every_wrong_server_says_what_is_wrong_and_names_clauses_that_exist() {
    let mut ids: BTreeSet<String> = ledger::CLAUSES.iter().map(|one| one.0.to_owned()).collect();
    for scenario in scenario::builtin().unwrap() {
        ids.extend(plan::clauses(&scenario).map(|clause| clause.id.clone()));
    }
    let servers = servers();
    assert!(servers.len() >= 10);
    for server in servers {
        let text = std::fs::read_to_string(&server.path).unwrap();
        let first = text.lines().next().unwrap();
        assert!(
            first.starts_with("# ") && !first.starts_with("# red:"),
            "{:?}",
            server.path
        );
        assert!(
            !server.red.is_empty(),
            "{:?} turns nothing red",
            server.path
        );
        let unknown: Vec<_> = server.red.difference(&ids).collect();
        assert!(unknown.is_empty(), "{:?} names {unknown:?}", server.path);
        if server.path.extension().is_some_and(|end| end == "wire") {
            assert!(
                !vmailspec::wrong::Wrong::read(&server.path)
                    .unwrap()
                    .is_empty()
            );
        }
    }
}

#[test]
#[ignore = "some minutes: the whole suite for each wrong server; ci/proof runs it"]
fn every_wrong_server_turns_exactly_its_clauses_red() {
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for server in servers() {
        let json = folder.path().join("report.json");
        let output = Command::new(env!("CARGO_BIN_EXE_vmailspec"))
            .args(["run", "--database", "embedded", "--wrong"])
            .arg(&server.path)
            .arg("--json")
            .arg(&json)
            .args(&server.only)
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(1),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let report: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
        let clauses = report["cases"].as_array().unwrap().iter();
        let broken: BTreeSet<String> = clauses
            .flat_map(|case| case["clauses"].as_array().unwrap())
            .filter(|clause| clause["verdict"] == "broken")
            .map(|clause| clause["id"].as_str().unwrap().to_owned())
            .collect();
        for id in server.red.difference(&broken) {
            wrong.push(format!("{}: {id} was not red", server.path.display()));
        }
        for id in broken.difference(&server.red) {
            wrong.push(format!("{}: {id} was red too", server.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
