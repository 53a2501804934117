//! Known failures: clauses that are broken and known to be, as data with reasons.
//!
//! A file of lines; columns are separated by two blanks or more; `#` begins a comment:
//!
//! ```text
//! # pattern            reason                                        since       link (optional)
//! auth.db-down         answers 535 while the database is away        2024-05-01  https://example.org/1
//! smuggling.*          takes LF.LF as the end of a message           2024-05-01
//! ```
//!
//! `include FILE` takes in another list, a path as seen from this one. A pattern is a clause's id,
//! or `case-name:clause-id`; `*` is any text. Listed clauses run all the same. An entry whose
//! clauses hold now, or that matches none, is stale, and that is an error: the list never says more
//! than the truth. `wavers` before a pattern: the server itself is now right and now wrong, as its
//! processes happen to run, and so the clauses may hold.

use std::path::Path;

use crate::event::{CaseResult, Verdict};
use crate::ledger::CLAUSES;
use crate::plan::selection::matches;

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which clauses.
    pub pattern: String,
    /// Why they are broken.
    pub reason: String,
    /// Since when it is known.
    pub date: String,
    /// The server is now right and now wrong: it may hold.
    pub wavers: bool,
    /// Where more is said.
    pub link: Option<String>,
    /// Where it stands: `line 7`, and in which file where that is not the list itself.
    pub place: String,
}

/// A list in a list in a list; more is a circle.
const MOST_INCLUDES: usize = 8;

/// The list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Its entries in order.
    pub entries: Vec<Entry>,
}

impl Known {
    /// Reads the list; the error holds file, line and what was expected.
    pub fn read(path: &Path) -> Result<Self, String> {
        Self::read_at(path, 0)
    }

    fn read_at(path: &Path, depth: usize) -> Result<Self, String> {
        if depth > MOST_INCLUDES {
            return Err("lists that take in one another in a circle".to_owned());
        }
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("the known failures {}: {error}", path.display()))?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        let included = |name: &str| {
            let mut list = Self::read_at(&folder.join(name), depth + 1)?;
            for entry in &mut list.entries {
                entry.place = format!("{name} {}", entry.place);
            }
            Ok(list.entries)
        };
        Self::with_included(&text, &included)
            .map_err(|(line, why)| format!("{}:{line}: {why}", path.display()))
    }

    /// Reads its text; the error holds line and reason.
    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let alone = |_: &str| Err("`include` works in files only".to_owned());
        Self::with_included(text, &alone)
    }

    fn with_included(
        text: &str,
        included: &dyn Fn(&str) -> Result<Vec<Entry>, String>,
    ) -> Result<Self, (usize, String)> {
        let mut entries = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line_number = number + 1;
            let text = line.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            if let Some(name) = text.strip_prefix("include ") {
                entries.extend(included(name.trim()).map_err(|why| (line_number, why))?);
                continue;
            }
            let (wavers, text) = match text.strip_prefix("wavers ") {
                Some(rest) => (true, rest),
                None => (false, text),
            };
            let mut columns = text
                .split("  ")
                .map(str::trim)
                .filter(|column| !column.is_empty());
            let (Some(pattern), Some(reason), Some(date)) =
                (columns.next(), columns.next(), columns.next())
            else {
                let why =
                    "expected `[wavers] PATTERN  REASON  DATE  [LINK]`, two blanks between columns";
                return Err((line_number, why.into()));
            };
            if date.parse::<jiff::civil::Date>().is_err() {
                return Err((
                    line_number,
                    format!("`{date}`: expected a date as 2024-05-01"),
                ));
            }
            entries.push(Entry {
                pattern: pattern.to_owned(),
                reason: reason.to_owned(),
                date: date.to_owned(),
                wavers,
                link: columns.next().map(str::to_owned),
                place: format!("line {line_number}"),
            });
        }
        Ok(Self { entries })
    }

    /// The reason, if this clause of this case is on the list.
    #[must_use]
    pub fn reason(&self, case: &str, id: &str) -> Option<String> {
        let entry = self.entries.iter().find(|entry| entry.is_about(case, id))?;
        let link = entry
            .link
            .as_ref()
            .map_or(String::new(), |link| format!(", {link}"));
        Some(format!("{} (since {}{link})", entry.reason, entry.date))
    }

    /// The entries that say more than the truth, in words. `whole`: nothing was left out of the
    /// run, so an entry that matched nothing is stale too, unless the ledger could not look.
    #[must_use]
    pub fn stale(&self, results: &[CaseResult], whole: bool) -> Vec<String> {
        let mut stale = Vec::new();
        for entry in &self.entries {
            let verdicts: Vec<Verdict> = results
                .iter()
                .flat_map(|case| case.clauses.iter().map(move |clause| (case, clause)))
                .filter(|(case, clause)| entry.is_about(&case.name, &clause.id))
                .map(|(_, clause)| clause.verdict)
                .collect();
            let unlooked = results.iter().any(|case| entry.is_beyond(case));
            let why = if verdicts.is_empty() && whole && !unlooked {
                "matches no clause of this run"
            } else if !entry.wavers
                && verdicts.contains(&Verdict::Held)
                && !verdicts.contains(&Verdict::Broken)
            {
                "holds now"
            } else {
                continue;
            };
            stale.push(format!(
                "{}: `{}` {why}: take it out",
                entry.place, entry.pattern
            ));
        }
        stale
    }
}

impl Entry {
    fn is_about(&self, case: &str, id: &str) -> bool {
        matches(&self.pattern, id) || matches(&self.pattern, &format!("{case}:{id}"))
    }

    /// Whether it speaks of a case's ledger where that had no look: no mail can be followed there.
    fn is_beyond(&self, case: &CaseResult) -> bool {
        let ids = CLAUSES.map(|(id, ..)| id);
        let looked = case
            .clauses
            .iter()
            .any(|clause| ids.contains(&clause.id.as_str()));
        !looked && ids.iter().any(|id| self.is_about(&case.name, id))
    }
}
