//! The register against the scenarios: neither says what the other does not know.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Register;
use crate::ledger;
use crate::plan;
use crate::scenario::nearest::nearest;
use crate::scenario::{Clause, Scenario};

/// What is wrong between the register and these scenarios, each with its place and what to do.
/// `whole`: these are all scenarios, so what none of them holds must be marked as left.
#[must_use]
pub fn mistakes(register: &Register, scenarios: &[Placed<'_>], whole: bool) -> Vec<String> {
    let mut mistakes = Vec::new();
    let mut held: BTreeMap<&str, String> = BTreeMap::new();
    for (id, ..) in ledger::CLAUSES {
        held.insert(id, "the ledger (every case)".to_owned());
    }
    for placed in scenarios {
        for clause in plan::clauses(placed.scenario) {
            let place = placed.place(clause);
            mistakes.extend(clause_mistakes(register, placed.scenario, clause, &place));
            held.entry(&clause.id).or_insert(place);
        }
    }
    if !whole {
        return mistakes;
    }
    for row in &register.rows {
        match (held.get(row.id.as_str()), &row.left) {
            (Some(place), Some(_)) => mistakes.push(format!(
                "{}: {} is marked as left, but {place} holds it: take the line `left` away",
                row.place, row.id
            )),
            (None, None) => mistakes.push(format!(
                "{}: no scenario holds {}: write one, or say in a line `left REASON` why not",
                row.place, row.id
            )),
            _ => {}
        }
    }
    mistakes
}

/// A scenario and the folder that its path is relative to.
#[derive(Debug, Clone)]
pub struct Placed<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// The folder.
    pub below: &'a Path,
}

impl Placed<'_> {
    fn place(&self, clause: &Clause) -> String {
        let before = self.scenario.source.as_bytes().iter();
        let before = before.take(clause.span.start);
        let line = 1 + before.filter(|octet| **octet == b'\n').count();
        let path: PathBuf = self.below.join(&self.scenario.path);
        format!("{}:{line}", path.display())
    }
}

fn clause_mistakes(
    register: &Register,
    scenario: &Scenario,
    clause: &Clause,
    place: &str,
) -> Vec<String> {
    let id = &clause.id;
    let Some(row) = register.row(id) else {
        let near = nearest(id, register.ids()).map_or_else(
            || "give it a row there first".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        return vec![format!("{place}: the register has no row `{id}`: {near}")];
    };
    let mut mistakes = Vec::new();
    if row.level != clause.level {
        mistakes.push(format!(
            "{place}: {id} is {} here and {} in {}: the level that the cited text supports stands \
             in both",
            clause.level.word(),
            row.level.word(),
            row.place
        ));
    }
    if row.profile.is_some() && scenario.header.profile != row.profile {
        let profile = row.profile.as_deref().unwrap_or_default();
        mistakes.push(format!(
            "{place}: {id} binds only targets with a profile ({}): write `profile {profile}` into \
             the header",
            row.place
        ));
    }
    mistakes
}
