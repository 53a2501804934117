//! The Test Anything Protocol, version 14: one line a clause.

use std::io::Write;

use super::Report;
use crate::event::{CaseResult, Event, Verdict};

/// Writes TAP as the run goes.
#[derive(Debug)]
pub struct Tap<W> {
    to: W,
    number: usize,
}

impl<W: Write> Tap<W> {
    /// Writes to `to`.
    pub fn new(to: W) -> Self {
        Self { to, number: 0 }
    }

    fn case(&mut self, case: &CaseResult) -> std::io::Result<()> {
        for clause in &case.clauses {
            self.number += 1;
            let bad = clause.verdict == Verdict::Broken || unseen(clause.verdict);
            let word = if bad { "not ok" } else { "ok" };
            let directive = match (&clause.known, clause.verdict) {
                (Some(reason), _) => format!(" # TODO {}", reason.replace('#', "")),
                (None, Verdict::Unsupported) => " # SKIP unsupported".to_owned(),
                (None, Verdict::Held) => String::new(),
                (None, other) => format!(" ({})", other.word()),
            };
            writeln!(
                self.to,
                "{word} {} - {} {}{directive}",
                self.number, clause.id, case.name
            )?;
        }
        Ok(())
    }
}

fn unseen(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Blocked | Verdict::Unreached)
}

impl<W: Write> Report for Tap<W> {
    fn hear(&mut self, event: &Event) -> std::io::Result<()> {
        match event {
            Event::Started { .. } => writeln!(self.to, "TAP version 14"),
            Event::Finished(case) => self.case(case),
            Event::Defect { name, why } => writeln!(self.to, "Bail out! {name}: {why}"),
            Event::Ended { .. } => {
                writeln!(self.to, "1..{}", self.number)?;
                self.to.flush()
            }
        }
    }
}
