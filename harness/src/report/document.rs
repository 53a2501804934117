//! The document of a run as JSON: what `run --json` writes, and `merge` and `matrix` read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::{CaseResult, ClauseResult, Verdict};
use crate::scenario::words::{LEVEL_MEANINGS, meaning};

/// The version of the document.
pub const VERSION: u32 = 1;

/// A run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the document")]
pub struct Document {
    pub version: u32,
    /// The version of vmailspec.
    #[serde(default)]
    pub suite: String,
    /// When it began, RFC 3339; empty: unknown.
    #[serde(default)]
    pub date: String,
    /// A SHOULD that is not followed is broken.
    #[serde(default)]
    pub strict: bool,
    pub target: String,
    pub database: String,
    pub notes: Vec<String>,
    pub seconds: f64,
    pub interrupted: bool,
    pub summary: BTreeMap<String, usize>,
    pub cases: Vec<Case>,
    pub defects: Vec<Defect>,
}

/// A defect of vmailspec itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the document")]
pub struct Defect {
    pub case: String,
    pub why: String,
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the document")]
pub struct Case {
    pub name: String,
    pub path: String,
    pub title: String,
    pub seconds: f64,
    pub blocked: Option<String>,
    pub clauses: Vec<Clause>,
    pub transcript: Vec<(f64, String)>,
    pub log: Vec<String>,
}

/// What became of a clause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the document")]
pub struct Clause {
    pub id: String,
    pub level: String,
    pub references: Vec<String>,
    pub claim: String,
    pub verdict: String,
    pub known: Option<String>,
    pub expected: Option<String>,
    pub seen: Option<String>,
    pub line: Option<usize>,
}

impl Clause {
    /// Its verdict; `None`: a word that no vmailspec writes.
    #[must_use]
    pub fn judged(&self) -> Option<Verdict> {
        Verdict::ALL
            .into_iter()
            .find(|verdict| verdict.word() == self.verdict)
    }
}

impl Document {
    /// Reads a file; the error says what was expected.
    pub fn read(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
        let document: Self = serde_json::from_str(&text).map_err(|error| {
            format!("{shown}: {error}: expected what `vmailspec run --json` writes")
        })?;
        if document.version != VERSION {
            let version = document.version;
            return Err(format!(
                "{shown}: version {version}: expected version {VERSION}"
            ));
        }
        for case in &document.cases {
            for clause in &case.clauses {
                if clause.judged().is_none() || meaning(&clause.level, LEVEL_MEANINGS).is_none() {
                    return Err(format!(
                        "{shown}: {}: `{} {}`: expected a level and a verdict",
                        case.name, clause.level, clause.verdict
                    ));
                }
            }
        }
        Ok(document)
    }

    /// The runs of one target as one: parts of the cases each, none twice.
    pub fn merge(parts: Vec<(String, Self)>) -> Result<Self, String> {
        let mut whole = Self::default();
        let mut from: BTreeMap<String, String> = BTreeMap::new();
        for (i, (file, part)) in parts.into_iter().enumerate() {
            if i == 0 {
                whole = Self {
                    cases: Vec::new(),
                    defects: Vec::new(),
                    ..part.clone()
                };
            }
            if (&part.target, part.strict) != (&whole.target, whole.strict) {
                return Err(format!(
                    "{file}: a run of {}{}, expected one of {}{}",
                    part.target,
                    if part.strict { " (--strict)" } else { "" },
                    whole.target,
                    if whole.strict { " (--strict)" } else { "" },
                ));
            }
            for case in &part.cases {
                if let Some(other) = from.insert(case.name.clone(), file.clone()) {
                    return Err(format!(
                        "{} is in {other} and in {file}: expected each case once",
                        case.name
                    ));
                }
            }
            whole.seconds = whole.seconds.max(part.seconds);
            whole.interrupted |= part.interrupted;
            if !part.date.is_empty() && part.date < whole.date {
                whole.date = part.date;
            }
            for note in part.notes {
                if !whole.notes.contains(&note) {
                    whole.notes.push(note);
                }
            }
            whole.cases.extend(part.cases);
            whole.defects.extend(part.defects);
        }
        whole.cases.sort_by(|one, other| one.name.cmp(&other.name));
        whole.summary = Verdict::ALL
            .iter()
            .map(|verdict| {
                let clauses = whole.cases.iter().flat_map(|case| &case.clauses);
                let count = clauses
                    .filter(|clause| clause.verdict == verdict.word())
                    .count();
                (verdict.word().to_owned(), count)
            })
            .collect();
        Ok(whole)
    }

    /// What the sums and the list of known failures need of the cases.
    #[must_use]
    pub fn results(&self) -> Vec<CaseResult> {
        let clause = |clause: &Clause| {
            Some(ClauseResult {
                id: clause.id.clone(),
                level: meaning(&clause.level, LEVEL_MEANINGS)?,
                references: clause.references.clone(),
                claim: clause.claim.clone(),
                verdict: clause.judged()?,
                failure: None,
                known: clause.known.clone(),
            })
        };
        let case = |case: &Case| CaseResult {
            name: case.name.clone(),
            path: case.path.clone(),
            source: Arc::from(""),
            title: case.title.clone(),
            clauses: case.clauses.iter().filter_map(clause).collect(),
            blocked: case.blocked.clone(),
            transcript: Vec::new(),
            log: Vec::new(),
            took: std::time::Duration::from_secs_f64(case.seconds.max(0.0)),
        };
        self.cases.iter().map(case).collect()
    }
}
