//! The matrix of ways in, clients and recipients (`scenarios/relay/matrix-*`): no cell is missing, and none
//! is judged by the replies alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use vmailspec::plan::{Case, Plan, clauses};
use vmailspec::scenario::{Entry, Start, Vantage, load};

/// Forms of an address that must open no way to others.
const TRICKS: usize = 16;
const RECIPIENTS: [(&str, &str); 5] = [
    ("address@$domain", "local"),
    ("nobody@$domain", "unknown"),
    ("myforward@$domain", "forwarding"),
    ("user@$transport", "transport domain"),
    ("someone@$elsewhere", "foreign"),
];

fn cases() -> Vec<Case> {
    let scenarios = load(Path::new("../scenarios")).unwrap();
    Plan::new(scenarios, &["relay/matrix-*"]).unwrap()
}

/// The text of its steps, with what the case binds in it.
fn text(case: &Case) -> String {
    let mut text = case.scenario.source.to_string();
    for (name, value) in &case.bindings {
        text = text.replace(&format!("${name}"), value);
    }
    text
}

fn who(case: &Case, text: &str) -> &'static str {
    if matches!(case.scenario.header.start, Start::Authenticated(_)) {
        "authenticated"
    } else if text.contains("\nC: AUTH PLAIN $plain(address@$domain wrong)") {
        "wrong password"
    } else if case.from == Vantage::Neighbour {
        "neighbour"
    } else {
        "stranger"
    }
}

fn entry(case: &Case) -> &'static str {
    match case.entry {
        Entry::Plain => "25",
        Entry::StartTls => "25+starttls",
        Entry::Smtps => "465",
    }
}

#[test]
fn each_way_in_meets_each_client_and_each_client_each_recipient() {
    let mut seen: BTreeMap<(&str, &str), BTreeSet<String>> = BTreeMap::new();
    for case in cases() {
        let text = text(&case);
        let recipients = seen.entry((entry(&case), who(&case, &text))).or_default();
        for line in text.lines() {
            if let Some(path) = line.strip_prefix("C: RCPT TO:<") {
                recipients.insert(path.trim_end_matches('>').to_owned());
            }
        }
    }
    for way in ["25", "25+starttls", "465"] {
        for who in ["stranger", "neighbour", "authenticated", "wrong password"] {
            let recipients = seen.get(&(way, who)).cloned().unwrap_or_default();
            let plain: BTreeSet<&str> = RECIPIENTS.iter().map(|(address, _)| *address).collect();
            for (address, name) in RECIPIENTS {
                let said = recipients.contains(address);
                assert!(said, "no case: port {way}, {who}, {name}");
            }
            let tricks = recipients
                .iter()
                .filter(|one| !plain.contains(one.as_str()));
            let tricks = tricks.count();
            assert!(tricks >= TRICKS, "port {way}, {who}: {tricks} tricks");
        }
    }
}

#[test]
fn each_case_of_the_matrix_is_judged_where_its_mail_would_be() {
    for case in cases() {
        let text = text(&case);
        let (_, judged) = text.split_once("tut.matrix-").unwrap();
        let at = |probe: &str| judged.lines().any(|line| line.starts_with(probe));
        let rcpt = |domain: &str| {
            let mut lines = text.lines().filter(|line| line.starts_with("C: RCPT "));
            lines.any(|line| line.ends_with(&format!("@{domain}>")))
        };
        assert!(clauses(&case.scenario).count() == 1, "{}", case.name);
        assert!(at("sink $") || at("maildir "), "{}", case.name);
        assert!(!rcpt("$domain") || at("maildir "), "{}", case.name);
        assert!(
            !rcpt("$elsewhere") || at("sink $elsewhere "),
            "{}",
            case.name
        );
        assert!(
            !rcpt("$transport") || at("sink $transport "),
            "{}",
            case.name
        );
    }
}
