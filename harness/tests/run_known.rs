//! The list of known failures.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::sync::Arc;
use std::time::Duration;

use rstest::rstest;
use vmailspec::event::{CaseResult, ClauseResult, Verdict};
use vmailspec::known::Known;
use vmailspec::scenario::Level;

fn case(name: &str, clauses: &[(&str, Verdict)]) -> CaseResult {
    let clauses = clauses
        .iter()
        .map(|&(id, verdict)| ClauseResult {
            id: id.into(),
            level: Level::Must,
            references: Vec::new(),
            claim: String::new(),
            verdict,
            failure: None,
            known: None,
        })
        .collect();
    CaseResult {
        name: name.into(),
        path: String::new(),
        source: Arc::from(""),
        title: String::new(),
        clauses,
        blocked: None,
        transcript: Vec::new(),
        log: Vec::new(),
        took: Duration::ZERO,
    }
}

#[test]
fn an_entry_says_pattern_reason_date_and_perhaps_a_link() {
    let list = "# comment\n\nauth.db-down  says 535   2024-05-01  https://example.org/1\n";
    let known = Known::parse(list).unwrap();
    assert_eq!(known.entries.len(), 1);
    assert_eq!(
        known.reason("any", "auth.db-down").as_deref(),
        Some("says 535 (since 2024-05-01, https://example.org/1)")
    );
    assert_eq!(known.reason("any", "auth.other"), None);
    let known = Known::parse("wavers a.x  a race of its own  2024-05-01\n").unwrap();
    let reason = known.reason("any", "a.x");
    assert_eq!(
        reason.as_deref(),
        Some("a race of its own (since 2024-05-01)")
    );
}

#[rstest]
#[case(
    "auth.x  2024-05-01\n",
    1,
    "expected `[wavers] PATTERN  REASON  DATE  [LINK]`"
)]
#[case("\n# x\nauth.x  why  soon\n", 3, "`soon`: expected a date")]
fn a_line_that_is_no_entry_is_an_error_with_its_number(
    #[case] text: &str,
    #[case] line: usize,
    #[case] why: &str,
) {
    let (at, text) = Known::parse(text).unwrap_err();
    assert_eq!(at, line);
    assert!(text.contains(why), "{text}");
}

#[rstest]
#[case::broken_as_listed("a.x", Verdict::Broken, None)]
#[case::holds_now("a.*", Verdict::Held, Some("holds now"))]
#[case::one_case_only("t/one:a.x", Verdict::Held, Some("holds now"))]
#[case::not_seen("a.x", Verdict::Blocked, None)]
#[case::matches_nothing("b.x", Verdict::Broken, Some("matches no clause"))]
#[case::may_hold("wavers a.x", Verdict::Held, None)]
#[case::may_hold_and_matches_nothing("wavers b.x", Verdict::Held, Some("matches no clause"))]
fn an_entry_never_says_more_than_the_truth(
    #[case] pattern: &str,
    #[case] verdict: Verdict,
    #[case] stale: Option<&str>,
) {
    let known = Known::parse(&format!("{pattern}  reason  2024-05-01\n")).unwrap();
    let results = [case("t/one", &[("a.x", verdict)])];
    let said = known.stale(&results, true);
    match stale {
        None => assert!(said.is_empty(), "{said:?}"),
        Some(why) => assert!(said[0].contains(why), "{said:?}"),
    }
}

#[test]
fn an_entry_of_the_ledger_is_not_stale_where_no_mail_could_be_followed() {
    let known = Known::parse("t/one:ledger.refused  arrives  2024-05-01\n").unwrap();
    let mut results = [case("t/one", &[("a.x", Verdict::Held)])];
    assert_eq!(known.stale(&results, true), [""; 0]);
    results[0] = case("t/one", &[("ledger.lost", Verdict::Held)]);
    assert_eq!(known.stale(&results, true).len(), 1);
    results[0] = case("t/two", &[("a.x", Verdict::Held)]);
    assert_eq!(known.stale(&results, true).len(), 1);
}

#[test]
fn in_a_part_of_the_suite_an_entry_may_match_nothing() {
    let known = Known::parse("b.x  reason  2024-05-01\n").unwrap();
    assert!(
        known
            .stale(&[case("t/one", &[("a.x", Verdict::Held)])], false)
            .is_empty()
    );
}

#[test]
fn a_list_may_take_in_another_and_says_where_an_entry_stands() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("own.known");
    std::fs::write(&path, "include all.known\nb.x  reason  2024-05-01\n").unwrap();
    std::fs::write(
        folder.path().join("all.known"),
        "\na.x  reason  2024-05-01\n",
    )
    .unwrap();
    let known = Known::read(&path).unwrap();
    let places: Vec<_> = known.entries.iter().map(|entry| &entry.place).collect();
    assert_eq!(places, ["all.known line 2", "line 2"]);
    assert_eq!(
        known.stale(&[], true),
        [
            "all.known line 2: `a.x` matches no clause of this run: take it out",
            "line 2: `b.x` matches no clause of this run: take it out"
        ]
    );
}

#[test]
fn lists_in_a_circle_are_a_mistake_with_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("round.known");
    std::fs::write(&path, "include round.known\n").unwrap();
    let why = Known::read(&path).unwrap_err();
    assert!(
        why.contains("round.known:1:") && why.ends_with("in a circle"),
        "{why}"
    );
}
