//! Which cases a scenario becomes, what they are called, and which of them a word selects.

#![allow(clippy::expect_used, reason = "what a test takes for granted ends it")]

use std::collections::BTreeMap;

use rstest::rstest;
use vmailspec::plan::selection::matches;
use vmailspec::plan::{Case, Plan, PlanError};
use vmailspec::scenario::{Entry, Scenario, Vantage, expand, parse};

fn scenario(path: &str, header: &str, clauses: &[&str]) -> Scenario {
    let mut source = format!("title   A case\n{header}\n");
    for clause in clauses {
        source += "MUST    ";
        source += clause;
        source += "   rfc5321#7.9   a claim\nC: NOOP\nS: 250\n";
    }
    parse(path, &source).expect("a right scenario")
}

fn all() -> Vec<Scenario> {
    vec![
        scenario(
            "auth/plain.case",
            "each    entry 25, 465",
            &["auth.plain", "auth.caps"],
        ),
        scenario("relay/open.case", "", &["relay.foreign-unauth"]),
        scenario(
            "relay/null.case",
            "from    neighbour",
            &["relay.null-sender"],
        ),
    ]
}

fn names(cases: &[Case]) -> Vec<&str> {
    cases.iter().map(|case| case.name.as_str()).collect()
}

fn plan(header: &str) -> Vec<Case> {
    let none: [&str; 0] = [];
    Plan::new([scenario("a/b.case", header, &["a.b"])], &none).expect("cases")
}

#[test]
fn a_scenario_without_axes_is_one_case() {
    let cases = plan("");
    assert_eq!(names(&cases), ["a/b"]);
    assert!(cases[0].bindings.is_empty());
}

#[test]
fn axes_multiply_with_each_other_and_with_the_table() {
    let cases = plan(
        "each    entry 25, 465\neach    from stranger, neighbour\ncases   x  y\n        1  2\n        3  4",
    );
    assert_eq!(cases.len(), 8);
    assert_eq!(cases[0].name, "a/b[entry=25,from=stranger,x=1]");
    assert_eq!(cases[7].name, "a/b[entry=465,from=neighbour,x=3]");
    assert_eq!(
        (cases[7].entry, cases[7].from),
        (Entry::Smtps, Vantage::Neighbour)
    );
    assert_eq!(cases[7].bindings.get("y").map(String::as_str), Some("4"));
    let numbers: Vec<usize> = cases.iter().map(|case| case.number).collect();
    assert_eq!(numbers, (0..8).collect::<Vec<_>>());
}

#[test]
fn a_name_shows_as_many_columns_as_tell_the_rows_apart() {
    let cases = plan("cases   x  y  z\n        1  2  9\n        1  3  9");
    assert_eq!(names(&cases), ["a/b[x=1,y=2]", "a/b[x=1,y=3]"]);
}

#[test]
fn the_way_in_and_the_place_of_the_client_come_from_the_header() {
    let cases = plan("entry   25+starttls\nfrom    neighbour\nnames   tutorial");
    assert_eq!(
        (cases[0].entry, cases[0].from),
        (Entry::StartTls, Vantage::Neighbour)
    );
    assert!(cases[0].literal_names);
}

#[rstest]
#[case("", false)]
#[case("needs   quota sink", false)]
#[case("needs   own-target", true)]
#[case("main.cf mynetworks = ::1", true)]
#[case("master.cf smtps mynetworks = ::1", true)]
#[case("slow\ndatabase stop", true)]
#[case("target restart", true)]
#[case("repeat 2\n  database pause\n  database resume", true)]
#[case("sink refuses", false)]
fn a_case_that_changes_what_others_rely_on_has_its_own_target(
    #[case] lines: &str,
    #[case] own: bool,
) {
    assert_eq!(plan(lines)[0].own_target, own);
}

#[rstest]
#[case(&["auth.plain"], &["auth/plain[entry=25]", "auth/plain[entry=465]"])]
#[case(&["auth/plain[entry=465]"], &["auth/plain[entry=465]"])]
#[case(&["relay/open"], &["relay/open"])]
#[case(&["relay/open.case"], &["relay/open"])]
#[case(&["relay.*"], &["relay/open", "relay/null"])]
#[case(&["relay/*", "auth.caps"], &["auth/plain[entry=25]", "auth/plain[entry=465]", "relay/open", "relay/null"])]
#[case(&["*[entry=465]"], &["auth/plain[entry=465]"])]
#[case(&["relay.null-sende?"], &["relay/null"])]
fn a_word_selects(#[case] words: &[&str], #[case] expected: &[&str]) {
    assert_eq!(names(&Plan::new(all(), words).expect("cases")), expected);
}

#[test]
fn no_words_select_everything() {
    let none: [String; 0] = [];
    assert_eq!(Plan::new(all(), &none).expect("cases").len(), 4);
}

#[test]
fn words_that_select_nothing_are_an_error_with_the_nearest_names() {
    let error = Plan::new(all(), &["auth.plian", "relay", "frobnicate", "auth.caps"]).unwrap_err();
    insta::assert_snapshot!(error.to_string(), @r"
    `auth.plian` selects no case: did you mean `auth.plain` or `auth/plain`?
    `relay` selects no case: did you mean `relay.*`, `relay.foreign-unauth` or `relay.null-sender`?
    `frobnicate` selects no case: the ids and names are those that `vmailspec list` shows
    ");
}

#[test]
fn nothing_to_run_is_an_error() {
    let (no_scenarios, no_words): ([Scenario; 0], [&str; 0]) = ([], []);
    assert_eq!(
        Plan::new(no_scenarios, &no_words).unwrap_err(),
        PlanError::Nothing
    );
}

#[test]
fn a_cell_may_name_what_the_case_owns() {
    let scenario = scenario("a/b.case", "each    to a@$elsewhere, b@$domain", &["a.b"]);
    let none: [&str; 0] = [];
    let cases = Plan::new([scenario], &none).expect("cases");
    let world = BTreeMap::from([("elsewhere".to_owned(), "e.test".to_owned())]);
    let text = vmailspec::scenario::Text {
        raw: "RCPT TO:<$to>".to_owned(),
        span: vmailspec::scenario::Span::default(),
    };
    assert_eq!(expand(&text, &cases[0].names(&world)), "RCPT TO:<a@e.test>");
}

#[rstest]
#[case("*", "", true)]
#[case("a*c", "abbc", true)]
#[case("a*c", "abcd", false)]
#[case("*b*b*", "abab", true)]
#[case("?", "é", true)]
#[case("?", "", false)]
#[case("[a]", "a", false)]
#[case("a[x=1]", "a[x=1]", true)]
fn a_pattern_matches(#[case] pattern: &str, #[case] text: &str, #[case] expected: bool) {
    assert_eq!(matches(pattern, text), expected);
}
