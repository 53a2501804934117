//! The sums of a run, and the exit code that follows from them.

use std::collections::BTreeMap;

use crate::event::{CaseResult, ClauseResult, Verdict};
use crate::exit_code::ExitCode;
use crate::scenario::Level;
use crate::verdict::required;

/// The sums.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Clauses by verdict.
    pub verdicts: BTreeMap<Verdict, usize>,
    /// Clauses by level and verdict.
    pub levels: BTreeMap<Level, BTreeMap<Verdict, usize>>,
    /// Cases.
    pub cases: usize,
    /// Broken clauses that were known to be.
    pub known: usize,
    /// Required clauses that were not seen.
    pub unseen: usize,
    /// Broken clauses that were not known.
    pub broken: usize,
    /// Clauses of which something was seen.
    pub seen: usize,
}

impl Summary {
    /// Adds one case.
    pub fn add(&mut self, case: &CaseResult, strict: bool) {
        self.cases += 1;
        // What a known failure, and nothing else, leaves unreached is known with it. The one that ended
        // the dialogue stands before the first that was not reached.
        let reached = (case.clauses.iter()).take_while(|one| one.verdict != Verdict::Unreached);
        let excused = !case.is_broken() && reached.last().is_some_and(|one| one.known.is_some());
        for clause in &case.clauses {
            self.clause(clause, strict, excused);
        }
    }

    fn clause(&mut self, clause: &ClauseResult, strict: bool, excused: bool) {
        *self.verdicts.entry(clause.verdict).or_default() += 1;
        *self
            .levels
            .entry(clause.level)
            .or_default()
            .entry(clause.verdict)
            .or_default() += 1;
        match clause.verdict {
            Verdict::Broken if clause.known.is_some() => {
                self.known += 1;
                self.seen += 1;
            }
            Verdict::Broken => {
                self.broken += 1;
                self.seen += 1;
            }
            Verdict::Unreached if excused => {}
            Verdict::Blocked | Verdict::Unreached if required(clause.level, strict) => {
                self.unseen += 1;
            }
            Verdict::Blocked | Verdict::Unreached | Verdict::Unsupported => {}
            Verdict::Held | Verdict::Taken | Verdict::Declined | Verdict::Noted => self.seen += 1,
        }
    }

    /// How many clauses ended so.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.verdicts.get(&verdict).copied().unwrap_or(0)
    }

    /// The exit code of a run with these sums and so many stale entries.
    #[must_use]
    pub fn exit_code(&self, stale: usize) -> ExitCode {
        if self.broken > 0 {
            ExitCode::Broken
        } else if self.seen == 0 || self.unseen > 0 {
            ExitCode::Environment
        } else if stale > 0 {
            ExitCode::Stale
        } else {
            ExitCode::Held
        }
    }
}
