//! The reports on events that a test makes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::sync::Arc;
use std::time::Duration;

use vmailspec::event::{CaseResult, ClauseResult, Event, Failure, Verdict};
use vmailspec::report::Report;
use vmailspec::report::json::Json;
use vmailspec::report::junit::Junit;
use vmailspec::report::tap::Tap;
use vmailspec::report::terminal::{Look, Terminal};
use vmailspec::scenario::Level;

const SOURCE: &str = "title   A stranger is refused relay

C: MAIL FROM:<stranger@$sender>
S: 250

MUST    relay.foreign-unauth   rfc5321#7.9   mail for others is not taken from strangers
C: RCPT TO:<someone@$elsewhere>
S: 4yz | 5yz
sink $elsewhere empty
";

fn clause(id: &str, level: Level, verdict: Verdict, failure: Option<Failure>) -> ClauseResult {
    ClauseResult {
        id: id.into(),
        level,
        references: vec!["rfc5321#7.9".into(), "tutorial:domains".into()],
        claim: "mail for others is not taken from strangers".into(),
        verdict,
        failure,
        known: None,
    }
}

fn case(name: &str, clauses: Vec<ClauseResult>) -> CaseResult {
    CaseResult {
        name: name.into(),
        path: "relay/stranger.case".into(),
        source: Arc::from(SOURCE),
        title: "A stranger is refused relay".into(),
        clauses,
        blocked: None,
        transcript: vec![
            (
                Duration::from_millis(1),
                "C: RCPT TO:<someone@e.test>".into(),
            ),
            (
                Duration::from_millis(3),
                "S: 250 2.1.5 Ok & \"fine\" <yes>".into(),
            ),
        ],
        log: vec!["vmaild[1]: connect from unknown[127.0.0.3]".into()],
        took: Duration::from_millis(12),
    }
}

fn failure() -> Failure {
    let line = "S: 4yz | 5yz";
    Failure {
        place: (SOURCE.find(line).unwrap(), line.len()),
        expected: "4yz or 5yz".into(),
        seen: "250 2.1.5 Ok".into(),
    }
}

fn events() -> Vec<Event> {
    let broken = case(
        "relay/stranger[entry=25]",
        vec![
            clause(
                "relay.foreign-unauth",
                Level::Must,
                Verdict::Broken,
                Some(failure()),
            ),
            clause("relay.code", Level::Should, Verdict::Unreached, None),
        ],
    );
    let mut known = case(
        "relay/known",
        vec![clause(
            "relay.percent-hack",
            Level::Must,
            Verdict::Broken,
            Some(failure()),
        )],
    );
    known.clauses[0].known = Some("is as it is (since 2024-05-01)".into());
    let mut blocked = case(
        "relay/blocked",
        vec![clause("relay.bang", Level::Must, Verdict::Blocked, None)],
    );
    blocked.blocked = Some("the start state could not be reached: EHLO was answered 500".into());
    let mut unsupported = case(
        "quota/full",
        vec![clause(
            "quota.bounced",
            Level::Must,
            Verdict::Unsupported,
            None,
        )],
    );
    unsupported.blocked = Some("the target does not offer quota".into());
    let held = case(
        "relay/held",
        vec![
            clause("relay.local-unauth", Level::Must, Verdict::Held, None),
            clause("relay.vrfy", Level::May, Verdict::Taken, None),
            clause(
                "relay.text",
                Level::Should,
                Verdict::Declined,
                Some(failure()),
            ),
            clause("relay.odd", Level::Robust, Verdict::Noted, Some(failure())),
        ],
    );
    let mut events = vec![Event::Started {
        target: "vmaild 0.1.0 (reference server)".into(),
        database: "SQLite embedded".into(),
        cases: 5,
        notes: vec!["docker: no engine answers".into()],
    }];
    for case in [broken, known, blocked, unsupported, held] {
        events.push(Event::Finished(Box::new(case)));
    }
    events.push(Event::Ended {
        took: Duration::from_millis(1234),
        interrupted: false,
    });
    events
}

fn told(mut report: impl Report) {
    for event in events() {
        report.hear(&event).unwrap();
    }
}

fn written(make: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut octets = Vec::new();
    make(&mut octets);
    String::from_utf8(octets).unwrap()
}

#[test]
fn the_terminal_says_what_was_expected_what_there_was_and_how_to_see_it_again() {
    let look = Look {
        verbose: true,
        ..Look::default()
    };
    insta::assert_snapshot!(written(|to| told(Terminal::new(to, look))));
}

#[test]
fn junit_has_a_suite_a_file_and_a_test_case_a_clause() {
    insta::assert_snapshot!(written(|to| told(Junit::new(to))));
}

#[test]
fn json_is_one_versioned_document() {
    let text = written(|to| told(Json::new(to, false)));
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed["version"], 1);
    assert_eq!(parsed["summary"]["broken"], 2);
    insta::assert_snapshot!(text);
}

#[test]
fn tap_has_a_line_a_clause_and_a_plan() {
    insta::assert_snapshot!(written(|to| told(Tap::new(to))));
}
