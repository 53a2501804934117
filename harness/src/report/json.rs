//! JSON for programs: one document a run. `version` grows when a field changes its meaning or
//! goes; fields that are new do not count.

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;

use super::Report;
use super::summary::Summary;
use crate::event::{CaseResult, Event, Verdict};

/// The version of the document.
pub const VERSION: u32 = 1;

/// Gathers the cases and writes them when the run has ended.
#[derive(Debug)]
pub struct Json<W> {
    to: W,
    strict: bool,
    document: Document,
    summary: Summary,
}

#[derive(Debug, Default, Serialize)]
struct Document {
    version: u32,
    target: String,
    database: String,
    notes: Vec<String>,
    seconds: f64,
    interrupted: bool,
    summary: BTreeMap<&'static str, usize>,
    cases: Vec<Case>,
    defects: Vec<Defect>,
}

#[derive(Debug, Serialize)]
struct Defect {
    case: String,
    why: String,
}

#[derive(Debug, Serialize)]
struct Case {
    name: String,
    path: String,
    title: String,
    seconds: f64,
    blocked: Option<String>,
    clauses: Vec<Clause>,
    transcript: Vec<(f64, String)>,
    log: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Clause {
    id: String,
    level: &'static str,
    references: Vec<String>,
    claim: String,
    verdict: &'static str,
    known: Option<String>,
    expected: Option<String>,
    seen: Option<String>,
    line: Option<usize>,
}

impl<W: Write> Json<W> {
    /// Writes to `to`; `strict` as the run was.
    pub fn new(to: W, strict: bool) -> Self {
        let document = Document {
            version: VERSION,
            ..Document::default()
        };
        Self {
            to,
            strict,
            document,
            summary: Summary::default(),
        }
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
                level: clause.level.word(),
                references: clause.references.clone(),
                claim: clause.claim.clone(),
                verdict: clause.verdict.word(),
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
                    .map(|&verdict| (verdict.word(), self.summary.count(verdict)))
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
