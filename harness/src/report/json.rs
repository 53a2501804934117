//! JSON for programs: one document a run. `version` grows when a field changes its meaning or
//! goes; fields that are new do not count.

use std::io::Write;

use super::Report;
use super::document::{Case, Clause, Defect, Document, VERSION};
use super::summary::Summary;
use crate::event::{CaseResult, Event, Verdict};

/// Gathers the cases and writes them when the run has ended.
#[derive(Debug)]
pub struct Json<W> {
    to: W,
    strict: bool,
    document: Document,
    summary: Summary,
}

impl<W: Write> Json<W> {
    /// Writes to `to`; `strict` as the run was.
    pub fn new(to: W, strict: bool) -> Self {
        let document = Document {
            version: VERSION,
            suite: env!("CARGO_PKG_VERSION").to_owned(),
            strict,
            ..Document::default()
        };
        Self {
            to,
            strict,
            document,
            summary: Summary::default(),
        }
    }

    /// With the time at which the run began, as RFC 3339 writes it.
    #[must_use]
    pub fn dated(mut self, date: String) -> Self {
        self.document.date = date;
        self
    }
}

fn case(result: &CaseResult) -> Case {
    // What a case that held said and heard is of no interest, and much.
    let telling = result.clauses.iter().any(|clause| clause.failure.is_some())
        || result
            .clauses
            .iter()
            .any(|clause| clause.verdict == Verdict::Blocked);
    let clauses = result
        .clauses
        .iter()
        .map(|clause| {
            let failure = clause.failure.as_ref();
            Clause {
                id: clause.id.clone(),
                level: clause.level.word().to_owned(),
                references: clause.references.clone(),
                claim: clause.claim.clone(),
                verdict: clause.verdict.word().to_owned(),
                known: clause.known.clone(),
                expected: failure.map(|failure| failure.expected.clone()),
                seen: failure.map(|failure| failure.seen.clone()),
                line: failure.map(|failure| {
                    let before = result.source.get(..failure.place.0).unwrap_or_default();
                    before.matches('\n').count() + 1
                }),
            }
        })
        .collect();
    Case {
        name: result.name.clone(),
        path: result.path.clone(),
        title: result.title.clone(),
        seconds: seconds(result.took),
        blocked: result.blocked.clone(),
        clauses,
        transcript: if telling {
            result
                .transcript
                .iter()
                .map(|(at, line)| (seconds(*at), line.clone()))
                .collect()
        } else {
            Vec::new()
        },
        log: if telling {
            result.log.clone()
        } else {
            Vec::new()
        },
    }
}

/// Milliseconds are as much as anybody measures here.
fn seconds(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

impl<W: Write> Report for Json<W> {
    fn hear(&mut self, event: &Event) -> std::io::Result<()> {
        let document = &mut self.document;
        match event {
            Event::Started {
                target,
                database,
                notes,
                ..
            } => {
                document.target.clone_from(target);
                document.database.clone_from(database);
                document.notes.clone_from(notes);
            }
            Event::Finished(result) => {
                self.summary.add(result, self.strict);
                document.cases.push(case(result));
            }
            Event::Defect { name, why } => {
                document.defects.push(Defect {
                    case: name.clone(),
                    why: why.clone(),
                });
            }
            Event::Ended { took, interrupted } => {
                document.seconds = seconds(*took);
                document.interrupted = *interrupted;
                document.summary = Verdict::ALL
                    .iter()
                    .map(|&verdict| (verdict.word().to_owned(), self.summary.count(verdict)))
                    .collect();
                // Cases end in any order; documents that are compared need one.
                document
                    .cases
                    .sort_by(|one, other| one.name.cmp(&other.name));
                serde_json::to_writer_pretty(&mut self.to, document)
                    .map_err(std::io::Error::other)?;
                writeln!(self.to)?;
                self.to.flush()?;
            }
        }
        Ok(())
    }
}
