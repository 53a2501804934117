//! Which clauses were reached and what became of each.

use crate::event::Failure;
use crate::scenario::{Clause, Scenario, Span, Step, StepKind};
use crate::verdict::{Harm, Seen};

use super::Outcome;

/// An expectation that was not met.
#[derive(Debug, Clone)]
pub struct Miss {
    /// The expectation's place in the file.
    pub span: Span,
    /// What the scenario asks for, in words.
    pub expected: String,
    /// What there was.
    pub seen: String,
    /// Whether it is worse than another choice.
    pub harm: Harm,
}

impl Miss {
    pub(crate) fn new(span: Span, expected: impl Into<String>, seen: impl Into<String>) -> Self {
        Self {
            span,
            expected: expected.into(),
            seen: seen.into(),
            harm: Harm::None,
        }
    }

    pub(crate) fn harmful(mut self) -> Self {
        self.harm = Harm::Done;
        self
    }
}

/// What was seen of one clause.
#[derive(Debug, Clone)]
pub struct ClauseSeen {
    /// The clause.
    pub clause: Clause,
    /// What was seen.
    pub seen: Seen,
    /// The first expectation that was not met.
    pub failure: Option<Failure>,
}

impl ClauseSeen {
    pub(crate) fn was_seen(&self) -> bool {
        matches!(self.seen, Seen::AsSaid | Seen::Otherwise(_))
    }
}

#[derive(Debug)]
struct Entry {
    clause: Clause,
    reached: bool,
    met: usize,
    miss: Option<Miss>,
    blocked: bool,
    /// Where it asks for something that cannot be seen here.
    unseen: Option<String>,
}

/// Why the steps are no longer walked as written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Halt {
    /// A surprise: what follows is not reached.
    Surprise,
    /// The set-up or the environment failed: what follows is blocked.
    Blocked(String),
    /// The target is somebody else's, and is not asked for what follows.
    Spared(String),
}

/// The score of one case.
#[derive(Debug)]
pub(super) struct Score {
    entries: Vec<Entry>,
    current: Option<usize>,
    halt: Option<Halt>,
}

impl Score {
    pub(super) fn new(scenario: &Scenario) -> Self {
        let mut entries = Vec::new();
        collect(&scenario.steps, &mut entries);
        Self {
            entries,
            current: None,
            halt: None,
        }
    }

    /// Whether the dialogue has ended before its end.
    pub(super) fn halted(&self) -> bool {
        self.halt.is_some()
    }

    /// Whether it ended by a surprise.
    pub(super) fn is_surprised(&self) -> bool {
        self.halt == Some(Halt::Surprise)
    }

    pub(super) fn begin(&mut self, clause: &Clause) {
        if self.halted() {
            return;
        }
        self.current = self
            .entries
            .iter()
            .position(|entry| entry.clause.id == clause.id);
        if let Some(entry) = self.current() {
            entry.reached = true;
        }
    }

    fn current(&mut self) -> Option<&mut Entry> {
        self.current.and_then(|place| self.entries.get_mut(place))
    }

    /// An expectation was met.
    pub(super) fn met(&mut self) {
        if let Some(entry) = self.current() {
            entry.met += 1;
        }
    }

    /// An expectation was not met; the dialogue goes on unless `ends`.
    pub(super) fn missed(&mut self, miss: Miss, ends: bool, line: usize) {
        if let Some(entry) = self.current() {
            // What went wrong first explains the rest.
            entry.miss.get_or_insert(miss);
            if ends {
                self.halt.get_or_insert(Halt::Surprise);
            }
        } else {
            let reason = format!(
                "the set-up failed in line {line}: expected {}, but there was {}",
                miss.expected, miss.seen
            );
            self.halt.get_or_insert(Halt::Blocked(reason));
        }
    }

    /// What was asked cannot be seen on this target; the dialogue goes on.
    pub(super) fn unseen(&mut self, what: &str) {
        if let Some(entry) = self.current() {
            entry.unseen.get_or_insert_with(|| what.to_owned());
        }
    }

    /// The environment, the set-up or the case's time is at its end.
    pub(super) fn block(&mut self, reason: String) {
        if self.halted() {
            return;
        }
        if let Some(entry) = self.current() {
            entry.blocked = true;
        }
        self.halt = Some(Halt::Blocked(reason));
    }

    /// This target is not asked for what comes next; what was judged stays.
    pub(super) fn spare(&mut self, reason: String) {
        if self.halted() {
            return;
        }
        if let Some(entry) = self.current() {
            entry.unseen.get_or_insert_with(|| reason.clone());
        }
        self.halt = Some(Halt::Spared(reason));
    }

    pub(super) fn outcome(self) -> Outcome {
        let halted = self.halt;
        let mut unseen = self.entries.iter().find_map(|entry| entry.unseen.clone());
        let clauses = self
            .entries
            .into_iter()
            .map(|entry| {
                let seen = match (&entry.miss, &halted) {
                    (Some(miss), _) => Seen::Otherwise(miss.harm),
                    (None, Some(Halt::Blocked(_))) if entry.blocked || !entry.reached => {
                        Seen::Nothing
                    }
                    (None, Some(Halt::Surprise)) if !entry.reached => Seen::NotReached,
                    (None, Some(Halt::Spared(_))) if !entry.reached => Seen::Unsupported,
                    (None, _) if entry.unseen.is_some() => Seen::Unsupported,
                    // Reached, and nothing below it was looked at.
                    (None, _) if entry.met == 0 => Seen::Nothing,
                    (None, _) => Seen::AsSaid,
                };
                let failure = entry.miss.map(|miss| Failure {
                    place: (miss.span.start, miss.span.len),
                    expected: miss.expected,
                    seen: miss.seen,
                });
                ClauseSeen {
                    clause: entry.clause,
                    seen,
                    failure,
                }
            })
            .collect();
        let blocked = match halted {
            Some(Halt::Blocked(reason) | Halt::Spared(reason)) => Some(reason),
            _ => unseen.take().map(|what| format!("needs {what}")),
        };
        Outcome {
            clauses,
            blocked,
            transcript: Vec::new(),
            took: std::time::Duration::ZERO,
        }
    }
}

fn collect(steps: &[Step], into: &mut Vec<Entry>) {
    for step in steps {
        match &step.kind {
            StepKind::Clause(clause) if into.iter().all(|entry| entry.clause.id != clause.id) => {
                into.push(Entry {
                    clause: clause.clone(),
                    reached: false,
                    met: 0,
                    miss: None,
                    blocked: false,
                    unseen: None,
                });
            }
            StepKind::Repeat(_, inner) => collect(inner, into),
            _ => {}
        }
    }
}
