//! The page that describes the language says what the parser does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeSet;
use std::process::Command;

use rstest::rstest;
use vmailspec::scenario::{parse, words};

const README: &str = include_str!("../../scenarios/README.md");

/// The fenced examples of the page.
fn examples() -> Vec<&'static str> {
    README.split("```\n").skip(1).step_by(2).collect()
}

#[test]
fn every_example_of_the_page_parses() {
    assert!(!examples().is_empty());
    for example in examples() {
        if let Err(mistakes) = parse("example.case", example) {
            panic!(
                "{}",
                vmailspec::scenario::error::render("README".as_ref(), example, &mistakes, false)
            );
        }
    }
}

/// What the examples say, as `WORD` of a line in the first column, `ABOVE WORD` of a line below
/// one, and `WORD MORE` for every further word of a line.
fn said() -> BTreeSet<String> {
    let mut said = BTreeSet::new();
    for example in examples() {
        let mut above: Vec<(usize, &str)> = Vec::new();
        for line in example.lines() {
            let indent = line.len() - line.trim_start().len();
            let Some(word) = line.split_whitespace().next() else {
                continue;
            };
            above.retain(|(outer, _)| *outer < indent);
            if let Some((_, outer)) = above.last() {
                said.insert(format!("{outer} {word}"));
            }
            above.push((indent, word));
            said.insert(word.to_owned());
            let more = line.split_whitespace().skip(1);
            said.extend(more.map(|more| format!("{word} {}", more.trim_end_matches(','))));
        }
        let names = words::NAMES.iter().map(|name| format!("${name}"));
        let functions = words::FUNCTIONS.iter().map(|name| format!("${name}("));
        said.extend(names.chain(functions).filter(|name| example.contains(name)));
    }
    said
}

#[rstest]
#[case("", words::HEADERS)]
#[case("", words::STEPS)]
#[case("", words::LEVELS)]
#[case("needs ", words::CAPABILITIES)]
#[case("profile ", words::PROFILES)]
#[case("start ", words::STARTS)]
#[case("from ", &["stranger", "neighbour"])]
#[case("each ", &["25", "25+starttls", "465"])]
#[case("connect ", &["from", "entry", "clear"])]
#[case("tls ", &["1.2", "1.3", "unnamed"])]
#[case("close ", &["at", "reset", "half"])]
#[case("form ", words::FORMS)]
#[case("log ", &["has", "lacks"])]
#[case("offers ", &["no"])]
#[case("sink ", words::VERBS)]
#[case("sink ", &["answers", "refuses", "accepts", "usual", "empty", "any", "closes", "hangs"])]
#[case("sink ", &["heard"])]
#[case("database ", &["stop", "start", "pause", "resume", "slow", "cut"])]
#[case("disk ", &["mailboxes", "queue", "full", "free"])]
#[case("target ", &["restart", "kill", "start"])]
#[case("mailer ", &["accepted", "refused"])]
#[case("S: ", &["closed", "nothing", "xyz", "4yz", "within", "alert", "order", "|"])]
#[case("queue ", &["empty", "message"])]
#[case("maildir ", &["empty", "any", "empty-out", "throw-out", "message"])]
#[case("maildir ", &["shut", "open", "put", "measured", "watched"])]
#[case("$", words::NAMES)]
#[case("$", words::FUNCTIONS)]
#[case("S: ", words::REPLY_DETAILS)]
#[case("message ", words::MESSAGE_DETAILS)]
#[case("mailer ", words::MAILER_DETAILS)]
#[case("maildir ", words::MAILDIR_DETAILS)]
#[case("sink ", words::SINK_DETAILS)]
fn every_word_of_the_language_has_an_example(#[case] before: &str, #[case] words: &[&str]) {
    let said = said();
    let missing: Vec<&&str> = words
        .iter()
        .filter(|word| {
            let plain = format!("{before}{word}");
            !said.contains(&plain) && !said.contains(&format!("{plain}("))
        })
        .collect();
    assert!(
        missing.is_empty(),
        "scenarios/README.md has no example of `{before}` and {missing:?}"
    );
}

#[test]
fn the_examples_hold_and_agree_with_the_register() {
    let folder = tempfile::tempdir().unwrap();
    for (number, example) in examples().iter().enumerate() {
        let file = folder.path().join(format!("example-{number}.case"));
        std::fs::write(file, example).unwrap();
    }
    let vmailspec = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_vmailspec"))
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), text + &told)
    };
    let path = folder.path().to_str().unwrap();
    let (code, text) = vmailspec(&["check", path]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = vmailspec(&["fmt", "--check", path]);
    assert_eq!(code, Some(0), "{text}");
    let run = [
        "run",
        "--verbose",
        "--database",
        "embedded",
        "--scenarios",
        path,
    ];
    let (code, text) = vmailspec(&run);
    assert_eq!(code, Some(0), "{text}");
    // Only what another server than this one claims to be may stay unjudged.
    let unjudged: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("unsupported") || line.starts_with("blocked"))
        .filter(|line| !line.starts_with("unsupported in "))
        .filter(|line| !line.ends_with("does not claim the profile postfix"))
        // What this database or this machine cannot.
        .filter(|line| !line.contains("SQLite is no server") && !line.ends_with("needs root"))
        .collect();
    assert!(unjudged.is_empty(), "{unjudged:?}");
}
