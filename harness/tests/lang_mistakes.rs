//! Every mistake that a scenario can contain, as its author reads it: one snapshot a kind. A kind
//! that is added to the language without a snapshot fails the last test of this file.

#![allow(clippy::expect_used, reason = "what a test takes for granted ends it")]

use std::collections::BTreeSet;
use std::path::Path;

use rstest::rstest;
use vmailspec::scenario::error::render;
use vmailspec::scenario::{Mistake, parse};

/// A scenario with these lines in its header.
fn header(lines: &str) -> String {
    format!("title   A case\n{lines}\n\nMUST    relay.x   rfc5321#7.9   a claim\nC: NOOP\nS: 250\n")
}

/// A scenario that goes on with these lines.
fn steps(lines: &str) -> String {
    format!("title   A case\n\nMUST    relay.x   rfc5321#7.9   a claim\nC: NOOP\nS: 250\n{lines}\n")
}

/// Name of the kind, the mistake's source.
#[expect(clippy::too_many_lines, reason = "one line a kind")]
fn table() -> Vec<(&'static str, Vec<u8>)> {
    let many: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    let many = format!("each    a {0}\neach    b {0}", many.join(", "));
    let deep = format!("C: {}x{}", "$base64(".repeat(10), ")".repeat(10));
    let texts = [
        ("ControlCharacter", steps("C: NOOP\there")),
        ("NothingAbove", format!("  slow\n{}", header(""))),
        ("Uneven", steps("message\n    line a\n  line b")),
        ("TakesNoLines", steps("tls\n  has 250")),
        ("UnknownWord", steps("mesage 2000 bytes")),
        (
            "UnknownLevel",
            steps("MUST NOT relay.y   rfc5321#7.9   a claim\nS= 250"),
        ),
        (
            "UnknownDetail",
            steps("maildir address@$domain 1 message\n  foldermod 0700"),
        ),
        ("NotOneOf", header("needs   quoat")),
        (
            "NoTitle",
            "MUST    relay.x   rfc5321#7.9   a claim\nC: NOOP\nS: 250\n".to_owned(),
        ),
        ("NoClause", "title   A case\nC: NOOP\nS: 250\n".to_owned()),
        ("HeaderAfterStep", steps("from    neighbour")),
        ("HeaderTwice", header("from    neighbour\nfrom    stranger")),
        ("Missing", steps("sql")),
        ("Unexpected", steps("close reset now")),
        ("BadNumber", steps("maildir address@$domain 0 messages")),
        ("BadTime", steps("C: NOOP\nS: 250 within 2 s")),
        ("NothingWithoutTime", steps("S: nothing")),
        ("TimeWithoutWaiting", steps("S= 250 within 2s")),
        (
            "BadPattern",
            steps("C: NOOP\nS: 25 | 299x | 250 5.7.1 | 690 | 55"),
        ),
        (
            "NoReplyYet",
            steps("C: NOOP\nMUST    relay.y   rfc5321#7.9   a claim\nS= 250"),
        ),
        ("NoConnection", header("start   nothing")),
        ("NoMailerYet", steps("mailer accepted")),
        (
            "BadId",
            steps("MUST    Relay_Y   rfc5321#7.9   a claim\nS= 250"),
        ),
        (
            "ClauseTwice",
            steps("MUST    relay.x   rfc5321#7.9   a claim\nS= 250"),
        ),
        (
            "BadReference",
            steps("MUST    relay.y   rfc5321§7.9 postfx:mynetworks   a claim\nS= 250"),
        ),
        ("NoReference", steps("MUST    relay.y   a claim\nS= 250")),
        ("NoClaim", steps("MUST    relay.y   rfc5321#7.9\nS= 250")),
        (
            "NothingExpected",
            steps("MUST    relay.y   rfc5321#7.9   a claim\nC: NOOP"),
        ),
        ("UnknownName", steps("C: RCPT TO:<a@$domian>")),
        ("NameNotHere", steps("C: RCPT TO:<a$n@$domain>")),
        (
            "LoneDollar",
            steps("sql     UPDATE users SET password = '$1$abc'"),
        ),
        (
            "OpenBracket",
            steps("C: AUTH PLAIN $plain(address@$domain mypassword"),
        ),
        ("TooDeep", steps(&deep)),
        (
            "PlainNeedsTwo",
            steps("C: AUTH PLAIN $plain(address@$domain)"),
        ),
        ("TimesNeedsTwo", steps("C: NOOP $times(x 12)")),
        ("BadEscape", steps("bytes NOOP\\q\\x1\\r\\n")),
        ("BlankAtEnd", steps("C: NOOP ")),
        ("BlankAtStart", steps("C:   NOOP")),
        ("BadAxis", header("each    Command NOOP, RSET")),
        ("AxisTaken", header("each    domain a, b")),
        ("EmptyValue", header("each    command NOOP,, RSET")),
        ("ValueTwice", header("each    command NOOP, RSET, NOOP")),
        (
            "RowWidth",
            header("cases   verb  code\n        NOOP  250\n        RSET 250"),
        ),
        ("TooManyCases", header(&many)),
        ("BadAddress", steps("maildir address empty")),
        (
            "DetailOfNothing",
            steps("sink $elsewhere empty\n  has Subject"),
        ),
        (
            "DetailTwice",
            steps("maildir address@$domain 1 message\n  mode 0600\n  mode 0640"),
        ),
        (
            "BadDetail",
            steps("maildir address@$domain 1 message\n  mode rw-------"),
        ),
        (
            "NotInRepeat",
            steps("repeat 3\n  MUST relay.y   rfc5321#7.9   a claim\n  C: NOOP\n  S: 250"),
        ),
        (
            "Unwritten",
            steps("MUST    relay.y   rfc5321#7.9   write this: a claim\nwrite this: what is done"),
        ),
        (
            "ParameterTwice",
            header("main.cf mynetworks = ::1\nmain.cf mynetworks = 127.0.0.2"),
        ),
    ];
    let mut table: Vec<(&str, Vec<u8>)> = texts
        .into_iter()
        .map(|(kind, text)| (kind, text.into_bytes()))
        .collect();
    table.push(("NotText", b"title   Caf\xe9\n".to_vec()));
    table
}

/// The name of a mistake's kind.
fn kind(mistake: &Mistake) -> String {
    let debug = format!("{:?}", mistake.what);
    debug
        .split([' ', '(', '{'])
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn rendered(source: &[u8]) -> (BTreeSet<String>, String) {
    let mistakes = parse("group/name.case", source).expect_err("a mistake");
    let text = String::from_utf8_lossy(source);
    let kinds = mistakes.iter().map(kind).collect();
    (
        kinds,
        render(Path::new("group/name.case"), &text, &mistakes, false),
    )
}

#[test]
fn every_mistake_is_reported_with_its_place_and_a_way_out() {
    for (kind, source) in table() {
        let (kinds, report) = rendered(&source);
        assert!(
            kinds.contains(kind),
            "{kind} was meant, {kinds:?} reported:\n{report}"
        );
        assert_eq!(
            kinds.len(),
            1,
            "{kind} brings others with it: {kinds:?}\n{report}"
        );
        insta::with_settings!({description => String::from_utf8_lossy(&source), omit_expression => true}, {
            insta::assert_snapshot!(kind, report);
        });
    }
}

#[test]
fn every_kind_of_mistake_has_a_snapshot() {
    let source = include_str!("../src/scenario/error.rs");
    let body = source.split("pub enum What {\n").nth(1).expect("the enum");
    let body = body.split("\n}\n").next().expect("its end");
    let kinds: BTreeSet<&str> = body
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .filter_map(|line| line.split([' ', '(', '{', ',']).next())
        .collect();
    let told: BTreeSet<&str> = table().into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, told);
}

#[test]
fn all_mistakes_of_a_file_are_reported_at_once() {
    let source = "\
titel   Everything wrong at once
each    entry 25, 24+starttls
needs   quota qeue

C: MAIL FROM:<a@$sendr>
S: 25
MUST    relay.x   rfc5321#   it is refused
C: RCPT TO:<b@$elsewhere>
S: 4yz | 5yz
  hass denied
maildir address@$domain 2 mesages
sink anwers RCPT 550
";
    let (_, report) = rendered(source.as_bytes());
    insta::with_settings!({omit_expression => true}, {
        insta::assert_snapshot!("all_at_once", report);
    });
}

#[rstest]
#[case::capability("needs   quotas", "quota")]
#[case::entry("entry   25+startls", "25+starttls")]
#[case::vantage("from    strangr", "stranger")]
#[case::start("start   authenticate", "authenticated")]
#[case::profile("profile tutorail", "tutorial")]
#[case::names("names   tutoral", "tutorial")]
#[case::word("strat   greeted", "start")]
fn a_slip_in_the_header_is_answered_with_the_word_that_was_meant(
    #[case] line: &str,
    #[case] meant: &str,
) {
    let (_, report) = rendered(header(line).as_bytes());
    assert!(
        report.contains(&format!("did you mean `{meant}`?")),
        "{report}"
    );
}

#[rstest]
#[case("databse stop", "`database`")]
#[case("database stopp", "`stop`")]
#[case("target restrat", "`restart`")]
#[case("sink answer RCPT 550 no", "`answers`")]
#[case("sink answers RCTP 550 no", "`RCPT`")]
#[case("connect form neighbour", "`from`")]
#[case("maildir a@$domain emty", "`empty`")]
#[case("must    relay.y   rfc5321#7.9   a claim\nS= 250", "`MUST`")]
#[case("SHOULDNOT relay.y   rfc5321#7.9   a claim\nS= 250", "`SHOULD-NOT`")]
#[case("C: RCPT TO:<a@$elswhere>", "`$elsewhere`")]
#[case("C: AUTH PLAIN $bas64(x)", "`$base64(TEXT)`")]
#[case("mailer 456\n  from <a@$sender>\n  to <b@$domain>", "`465`")]
fn a_slip_in_a_step_is_answered_with_the_word_that_was_meant(
    #[case] lines: &str,
    #[case] meant: &str,
) {
    let (_, report) = rendered(steps(lines).as_bytes());
    assert!(
        report.contains(&format!("did you mean {meant}?")),
        "{report}"
    );
}
