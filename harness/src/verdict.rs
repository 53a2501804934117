//! What a level makes of what was seen. This is the one place where that is decided.
//!
//! | | MUST | SHOULD | MAY | ROBUST |
//! |---|---|---|---|---|
//! | as said | held | held | taken | held |
//! | otherwise | broken | declined (broken with `--strict`) | declined | broken with harm, else noted |
//! | not seen | blocked | blocked | blocked | blocked |

use crate::event::Verdict;
use crate::scenario::Level;

/// What was seen of a clause, whatever its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Everything the clause says.
    AsSaid,
    /// Something else, and whether it did harm.
    Otherwise(Harm),
    /// The set-up or the environment failed, so nothing is known.
    Nothing,
    /// An earlier surprise ended the dialogue.
    NotReached,
    /// The target declares that it cannot do this.
    Unsupported,
}

/// Whether what was seen is worse than another choice would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// Another reply than expected, a text that differs.
    None,
    /// A crash, a hang, mail lost or doubled, something disclosed.
    Done,
}

/// The verdict on one clause.
#[must_use]
pub fn verdict(level: Level, seen: Seen, strict: bool) -> Verdict {
    match (seen, level) {
        (Seen::Nothing, _) => Verdict::Blocked,
        (Seen::NotReached, _) => Verdict::Unreached,
        (Seen::Unsupported, _) => Verdict::Unsupported,
        (Seen::AsSaid, Level::May) => Verdict::Taken,
        (Seen::AsSaid, _) => Verdict::Held,
        (Seen::Otherwise(_), Level::Must | Level::MustNot)
        | (Seen::Otherwise(Harm::Done), Level::Robust) => Verdict::Broken,
        (Seen::Otherwise(_), Level::Should | Level::ShouldNot) if strict => Verdict::Broken,
        (Seen::Otherwise(_), Level::Should | Level::ShouldNot | Level::May) => Verdict::Declined,
        (Seen::Otherwise(Harm::None), Level::Robust) => Verdict::Noted,
    }
}

/// Whether a run is only good when a clause of this level was seen.
#[must_use]
pub fn required(level: Level, strict: bool) -> bool {
    match level {
        Level::Must | Level::MustNot | Level::Robust => true,
        Level::Should | Level::ShouldNot => strict,
        Level::May => false,
    }
}
