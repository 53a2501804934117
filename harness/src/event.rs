//! What a run tells: the only thing between running and reporting.

use std::time::Duration;

use crate::scenario::Level;

/// What the levels make of what was seen (`verdict.rs` is the one place where this is decided).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// As the clause says.
    Held,
    /// A MAY that the target takes.
    Taken,
    /// A SHOULD or MAY that the target does not follow.
    Declined,
    /// Not as the clause says, and it had to be.
    Broken,
    /// A ROBUST clause that went otherwise, without harm.
    Noted,
    /// Set-up failed: nothing is known.
    Blocked,
    /// The dialogue ended before it.
    Unreached,
    /// The target declares that it cannot.
    Unsupported,
}

/// What became of one clause in one case.
#[derive(Debug, Clone)]
pub struct ClauseResult {
    /// The register's id, or `ledger.lost`, `ledger.doubled`, `ledger.refused`, `ledger.both`,
    /// `ledger.crash`.
    pub id: String,
    /// How binding.
    pub level: Level,
    /// Where it comes from.
    pub references: Vec<String>,
    /// In words.
    pub claim: String,
    /// The outcome.
    pub verdict: Verdict,
    /// Why it did not hold.
    pub failure: Option<Failure>,
    /// It is broken and on the list of known failures: the reason given there.
    pub known: Option<String>,
}

/// An expectation that was not met.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The expectation's place in the scenario's text: octets from, octets long.
    pub place: (usize, usize),
    /// `expected 4yz or 5yz`
    pub expected: String,
    /// `250 2.1.5 Ok`
    pub seen: String,
}

/// What became of one case.
#[derive(Debug, Clone)]
pub struct CaseResult {
    /// `tutorial/relay[entry=25]`
    pub name: String,
    /// The file, relative to the scenarios folder.
    pub path: String,
    /// Its text, for underlining.
    pub source: std::sync::Arc<str>,
    /// `title`
    pub title: String,
    /// Its clauses in order, the ledger's last.
    pub clauses: Vec<ClauseResult>,
    /// Why nothing could be seen: set-up, environment.
    pub blocked: Option<String>,
    /// Time and line: what went over the wire and what was done, passwords redacted.
    pub transcript: Vec<(Duration, String)>,
    /// The target's log lines of the case.
    pub log: Vec<String>,
    /// From first connection to last probe.
    pub took: Duration,
}

impl Verdict {
    /// Every verdict, in the order of summaries.
    pub const ALL: [Self; 8] = [
        Self::Held,
        Self::Taken,
        Self::Declined,
        Self::Noted,
        Self::Broken,
        Self::Blocked,
        Self::Unreached,
        Self::Unsupported,
    ];

    /// The word of reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Taken => "taken",
            Self::Declined => "declined",
            Self::Broken => "broken",
            Self::Noted => "noted",
            Self::Blocked => "blocked",
            Self::Unreached => "unreached",
            Self::Unsupported => "unsupported",
        }
    }
}

impl CaseResult {
    /// Whether a clause is broken that is not a known failure.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.clauses.iter().any(ClauseResult::is_news)
    }
}

impl ClauseResult {
    /// Broken, and nobody knew.
    #[must_use]
    pub fn is_news(&self) -> bool {
        self.verdict == Verdict::Broken && self.known.is_none()
    }
}

/// What reports hear.
#[derive(Debug, Clone)]
pub enum Event {
    /// The environment stands.
    Started {
        /// What is judged.
        target: String,
        /// On which database.
        database: String,
        /// How many cases are to run.
        cases: usize,
        /// One line a fact: why not another database, what cannot run.
        notes: Vec<String>,
    },
    /// A case ended.
    Finished(Box<CaseResult>),
    /// The runner itself failed in a case: a defect of vmailspec.
    Defect {
        /// The case.
        name: String,
        /// What it died of.
        why: String,
    },
    /// All cases ended.
    Ended {
        /// How long the cases took, without the environment.
        took: Duration,
        /// Ctrl-C or a limit ended it early.
        interrupted: bool,
    },
}
