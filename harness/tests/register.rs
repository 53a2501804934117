//! The register: how its files are read, and how it and the scenarios are held against each other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rstest::rstest;
use vmailspec::register::Register;
use vmailspec::register::check::{Placed, mistakes};
use vmailspec::register::coverage::{Coverage, State};
use vmailspec::scenario::{Level, Scenario, parse};

const ROW: &str = "MUST   relay.x   wave 1   rfc5321#7.9\n  do      say\n  expect  hear\n";

fn register(text: &str) -> Result<Register, Vec<String>> {
    Register::parse([(PathBuf::from("register/relay.txt"), text)])
}

fn scenario(header: &str, clause: &str) -> Scenario {
    let text = format!("title   x\n{header}\n{clause}   rfc5321#7.9   a claim\nC: NOOP\nS: 250\n");
    parse("a.case", text).unwrap()
}

#[test]
fn each_verdict_of_the_ledger_is_turned_red_by_a_wrong_server() {
    let servers = std::fs::read_dir("../fixtures/wrong").unwrap();
    let texts: Vec<String> = servers
        .filter_map(|server| std::fs::read_to_string(server.unwrap().path()).ok())
        .collect();
    let red = |id: &str| {
        let mut lines = texts.iter().flat_map(|text| text.lines());
        lines.any(|line| line.starts_with("# red:") && line.split(' ').any(|word| word == id))
    };
    for id in ["lost", "doubled", "refused", "both", "changed", "crash"] {
        assert!(red(&format!("ledger.{id}")), "{id}");
    }
}

fn between(register: &Register, scenario: &Scenario, whole: bool) -> String {
    let below = Path::new("scenarios");
    mistakes(register, &[Placed { scenario, below }], whole).join("\n")
}

#[test]
fn a_row_says_level_wave_references_and_what_is_left() {
    let text = format!("needs  sink  # why\n\n{ROW}  wrong   open-relay\n  left    later\n");
    let register = register(&text).unwrap();
    let row = register.row("relay.x").unwrap();
    assert_eq!((row.level, row.wave), (Level::Must, 1));
    assert_eq!(row.references, ["rfc5321#7.9"]);
    assert_eq!((row.action.as_str(), row.expect.as_str()), ("say", "hear"));
    assert_eq!(row.wrong.as_deref(), Some("open-relay"));
    assert_eq!(row.left.as_deref(), Some("later"));
    assert_eq!(row.needs, ["sink"]);
    assert_eq!(row.place, "register/relay.txt:3");
}

#[rstest]
#[case::level("NEVER relay.x wave 1 rfc5321#7.9", "expected `needs` or a level")]
#[case::group(
    "MUST quota.x wave 1 rfc5321#7.9",
    "expected an id of this group, relay.NAME"
)]
#[case::wave("MUST relay.x rfc5321#7.9", "expected `wave 1`, `wave 2` or `wave 3`")]
#[case::reference("MUST relay.x wave 1 5321", "`5321` is no reference")]
#[case::no_reference("MUST relay.x wave 1", "expected a reference behind the wave")]
#[case::no_words(
    "MUST relay.x wave 1 rfc5321",
    "expected a line `expect` below relay.x"
)]
#[case::detail("MUST relay.x wave 1 rfc5321\n  expct hear", "did you mean `expect`?")]
#[case::empty(
    "MUST relay.x wave 1 rfc5321\n  do",
    "expected one line of text after `do`"
)]
#[case::twice(
    "MUST relay.x wave 1 rfc5321\n  do a\n  do b",
    "register/relay.txt:3: a second `do`"
)]
#[case::profile("MUST relay.x wave 1 rfc5321\n  profile x", "`x` is no profile")]
#[case::needs("needs sinks", "`sinks` is no capability")]
#[case::layout("  do a", "an indented line with no line above it")]
fn a_slip_in_a_row_is_told_with_its_place(#[case] text: &str, #[case] told: &str) {
    let mistakes = register(text).unwrap_err().join("\n");
    assert!(mistakes.contains(told), "{mistakes}");
    assert!(mistakes.contains("register/relay.txt:"), "{mistakes}");
}

#[test]
fn an_id_has_one_row() {
    let mistakes = register(&format!("{ROW}\n{ROW}")).unwrap_err();
    assert_eq!(
        mistakes,
        ["register/relay.txt:5: a second row `relay.x`, the first is register/relay.txt:1"]
    );
}

#[rstest]
#[case::agreed("", "MUST relay.x", ROW, "")]
#[case::unknown(
    "",
    "MUST relay.y",
    ROW,
    "scenarios/a.case:3: the register has no row `relay.y`: did you mean `relay.x`?"
)]
#[case::level(
    "",
    "SHOULD relay.x",
    ROW,
    "relay.x is SHOULD here and MUST in register/relay.txt:1"
)]
#[case::profile(
    "",
    "MUST relay.x",
    "MUST relay.x wave 1 rfc5321\n  do a\n  profile tutorial\n  expect b",
    "write `profile tutorial`"
)]
#[case::profile_said(
    "profile tutorial\n",
    "MUST relay.x",
    "MUST relay.x wave 1 rfc5321\n  do a\n  profile tutorial\n  expect b",
    ""
)]
#[case::left(
    "",
    "MUST relay.x",
    "MUST relay.x wave 1 rfc5321\n  do a\n  expect b\n  left c",
    "take the line `left` away"
)]
#[case::missing(
    "",
    "MUST relay.x",
    "MUST relay.x wave 1 rfc5321\n  do a\n  expect b\nMUST relay.y wave 1 rfc5321\n  do a\n  expect b",
    "register/relay.txt:4: no scenario holds relay.y"
)]
fn scenarios_and_register_must_agree(
    #[case] header: &str,
    #[case] clause: &str,
    #[case] rows: &str,
    #[case] told: &str,
) {
    let header = if header.is_empty() { "\n" } else { header };
    let mistakes = between(
        &register(rows).unwrap(),
        &scenario(header.trim_end(), clause),
        true,
    );
    if told.is_empty() {
        assert_eq!(mistakes, "");
    } else {
        assert!(mistakes.contains(told), "{mistakes}");
    }
}

#[test]
fn a_part_of_the_scenarios_is_not_blamed_for_the_rest() {
    let rows = format!("{ROW}\n{}", ROW.replace("relay.x", "relay.y"));
    let scenario = scenario("", "MUST relay.x");
    assert_eq!(between(&register(&rows).unwrap(), &scenario, false), "");
}

#[test]
fn coverage_tells_proven_unproven_and_left_apart() {
    let register = Register::builtin().unwrap();
    let scenarios = vmailspec::scenario::builtin().unwrap();
    let none = Coverage::new(&register, []);
    let all = Coverage::new(&register, scenarios.iter().map(AsRef::as_ref));
    let state = |coverage: &Coverage<'_>, id: &str| {
        coverage
            .rows
            .iter()
            .find(|line| line.id == id)
            .unwrap()
            .state
    };
    assert_eq!(state(&none, "relay.foreign-unauth"), State::Left);
    assert_eq!(state(&all, "relay.foreign-unauth"), State::Proven);
    let text = all.text();
    assert!(text.contains("| RFC 5321, section 7.9 "), "{text}");
    assert!(text.contains("| relay "), "{text}");
}

#[test]
fn every_clause_that_a_scenario_holds_is_turned_red_by_a_wrong_server() {
    let register = Register::builtin().unwrap();
    let scenarios = vmailspec::scenario::builtin().unwrap();
    let coverage = Coverage::new(&register, scenarios.iter().map(AsRef::as_ref));
    let unproven: Vec<&str> = coverage
        .rows
        .iter()
        .filter(|line| line.state == State::Unproven)
        .map(|line| line.id)
        .collect();
    assert!(
        unproven.is_empty(),
        "no wrong server of fixtures/wrong turns these red: write one (CONTRIBUTING.md): {unproven:?}"
    );
}

proptest! {
    /// Lines of the register's own words in any order, cut anywhere: rows or mistakes with places.
    #[test]
    fn whatever_the_text_there_are_rows_or_mistakes_with_their_places(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "MUST", "MAY", "needs", "relay.x", "relay.y", "wave", "1", "9", "rfc5321#7.9",
                "\n", "\n  ", "\n\t", "do", "expect", "left", "profile", "tutorial", "#", "\u{e9}", "",
            ]),
            0..60,
        ),
        cut in 0_usize..400,
    ) {
        let mut text = words.join(" ");
        while !text.is_char_boundary(cut.min(text.len())) {
            text.pop();
        }
        text.truncate(cut);
        match register(&text) {
            Ok(register) => prop_assert!(register.rows.iter().all(|row| !row.references.is_empty())),
            Err(mistakes) => prop_assert!(
                mistakes.iter().all(|mistake| mistake.starts_with("register/relay.txt:"))
            ),
        }
    }
}
