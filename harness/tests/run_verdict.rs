//! What levels make of what was seen, and which exit code follows.

use rstest::rstest;
use vmailspec::event::Verdict;
use vmailspec::exit_code::ExitCode;
use vmailspec::report::summary::Summary;
use vmailspec::scenario::Level;
use vmailspec::verdict::{Harm, Seen, verdict};

#[rstest]
#[case(Level::Must, Seen::AsSaid, Verdict::Held, Verdict::Held)]
#[case(Level::MustNot, Seen::AsSaid, Verdict::Held, Verdict::Held)]
#[case(Level::Should, Seen::AsSaid, Verdict::Held, Verdict::Held)]
#[case(Level::ShouldNot, Seen::AsSaid, Verdict::Held, Verdict::Held)]
#[case(Level::May, Seen::AsSaid, Verdict::Taken, Verdict::Taken)]
#[case(Level::Robust, Seen::AsSaid, Verdict::Held, Verdict::Held)]
#[case(
    Level::Must,
    Seen::Otherwise(Harm::None),
    Verdict::Broken,
    Verdict::Broken
)]
#[case(
    Level::MustNot,
    Seen::Otherwise(Harm::None),
    Verdict::Broken,
    Verdict::Broken
)]
#[case(
    Level::Should,
    Seen::Otherwise(Harm::None),
    Verdict::Declined,
    Verdict::Broken
)]
#[case(
    Level::ShouldNot,
    Seen::Otherwise(Harm::Done),
    Verdict::Declined,
    Verdict::Broken
)]
#[case(
    Level::May,
    Seen::Otherwise(Harm::Done),
    Verdict::Declined,
    Verdict::Declined
)]
#[case(
    Level::Robust,
    Seen::Otherwise(Harm::None),
    Verdict::Noted,
    Verdict::Noted
)]
#[case(
    Level::Robust,
    Seen::Otherwise(Harm::Done),
    Verdict::Broken,
    Verdict::Broken
)]
fn a_level_makes_this_of_what_was_seen(
    #[case] level: Level,
    #[case] seen: Seen,
    #[case] usually: Verdict,
    #[case] strictly: Verdict,
) {
    assert_eq!(verdict(level, seen, false), usually);
    assert_eq!(verdict(level, seen, true), strictly);
}

#[rstest]
fn what_was_not_seen_is_never_held(
    #[values(
        Level::Must,
        Level::MustNot,
        Level::Should,
        Level::ShouldNot,
        Level::May,
        Level::Robust
    )]
    level: Level,
    #[values(true, false)] strict: bool,
) {
    assert_eq!(verdict(level, Seen::Nothing, strict), Verdict::Blocked);
    assert_eq!(verdict(level, Seen::NotReached, strict), Verdict::Unreached);
    assert_eq!(
        verdict(level, Seen::Unsupported, strict),
        Verdict::Unsupported
    );
}

#[rstest]
#[case(5, 0, 0, 0, ExitCode::Held)]
#[case(5, 1, 0, 0, ExitCode::Broken)]
#[case(5, 1, 1, 1, ExitCode::Broken)]
#[case(5, 0, 1, 1, ExitCode::Environment)]
#[case(5, 0, 0, 1, ExitCode::Stale)]
#[case(0, 0, 0, 0, ExitCode::Environment)]
fn the_exit_code_says_the_worst(
    #[case] seen: usize,
    #[case] broken: usize,
    #[case] unseen: usize,
    #[case] stale: usize,
    #[case] code: ExitCode,
) {
    let summary = Summary {
        seen,
        broken,
        unseen,
        ..Summary::default()
    };
    assert_eq!(summary.exit_code(stale), code);
}
