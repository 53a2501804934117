//! The plan: which cases a run consists of. A scenario becomes one case for each combination of
//! its axes and rows; the selection keeps those that were asked for.

pub mod manners;
pub mod needs;
pub mod selection;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::needs::{ACCOUNT, NEIGHBOUR, PORT_25, PORT_465, ROWS};
use crate::scenario::{Clause, Entry, Scenario, Step, StepKind, Vantage};

/// One case: a scenario with its axes bound.
#[derive(Debug, Clone)]
pub struct Case {
    /// Position in the plan, from 0; makes its names unique.
    pub number: usize,
    /// The scenario.
    pub scenario: Arc<Scenario>,
    /// `tutorial/relay` or `tutorial/relay[entry=25+starttls]`: the name that selects it alone.
    pub name: String,
    /// Axis and column values.
    pub bindings: BTreeMap<String, String>,
    /// The way in, from `entry` or the axis.
    pub entry: Entry,
    /// Where the client stands, from `from` or the axis.
    pub from: Vantage,
    /// The case changes the configuration, the database or the target: it gets a world of its own.
    pub own_target: bool,
    /// The case uses the tutorial's literal names: such cases run one after another.
    pub literal_names: bool,
}

/// Why a run has no cases: the words of the command line are off (exit code 2), or there is
/// nothing to run (exit code 3).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Words of the selection that select nothing, each with the names nearest to it.
    #[error("{}", selection::unknown(.0))]
    Unknown(Vec<(String, Vec<String>)>),
    /// There are no scenarios.
    #[error("nothing to run: there are no scenarios")]
    Nothing,
}

/// Makes the cases of a run.
#[derive(Debug)]
pub struct Plan;

impl Plan {
    /// The cases that were asked for, in the order of the scenarios. Each word of the selection
    /// is a clause's id, a scenario's name, a case's name, or a pattern with `*` and `?`; no word
    /// at all means everything. A word that selects nothing is an error.
    #[expect(clippy::new_ret_no_self, reason = "a plan is nothing but its cases")]
    pub fn new<S: Into<Arc<Scenario>>>(
        scenarios: impl IntoIterator<Item = S>,
        selection: &[impl AsRef<str>],
    ) -> Result<Vec<Case>, PlanError> {
        let all: Vec<Case> = scenarios
            .into_iter()
            .flat_map(|scenario| cases(&scenario.into()))
            .collect();
        if all.is_empty() {
            return Err(PlanError::Nothing);
        }
        let words: Vec<&str> = selection.iter().map(AsRef::as_ref).collect();
        let mut chosen = selection::choose(all, &words)?;
        for (number, case) in chosen.iter_mut().enumerate() {
            case.number = number;
        }
        Ok(chosen)
    }
}

/// All cases of a scenario: its axes multiply with each other and with the rows of its table.
#[must_use]
pub fn cases(scenario: &Arc<Scenario>) -> Vec<Case> {
    let header = &scenario.header;
    // Each combination: what its name shows, and all that is bound.
    let mut combinations: Vec<Vec<(&str, &str, bool)>> = vec![Vec::new()];
    for (axis, values) in &header.each {
        combinations = combinations
            .iter()
            .flat_map(|bound| {
                values.iter().map(|value| {
                    let mut bound = bound.clone();
                    bound.push((axis.as_str(), value.as_str(), true));
                    bound
                })
            })
            .collect();
    }
    if let Some((columns, rows)) = &header.cases {
        let shown = telling_columns(columns.len(), rows);
        combinations = combinations
            .iter()
            .flat_map(|bound| {
                rows.iter().map(|row| {
                    let mut bound = bound.clone();
                    for (i, (column, cell)) in columns.iter().zip(row).enumerate() {
                        bound.push((column.as_str(), cell.as_str(), i < shown));
                    }
                    bound
                })
            })
            .collect();
    }
    combinations
        .iter()
        .map(|bound| case(scenario, bound))
        .collect()
}

/// How many columns from the left tell all rows apart; they are in the cases' names.
fn telling_columns(columns: usize, rows: &[Vec<String>]) -> usize {
    (1..columns)
        .find(|&some| {
            let mut heads: Vec<&[String]> = rows.iter().map(|row| &row[..some]).collect();
            heads.sort_unstable();
            heads.windows(2).all(|pair| pair[0] != pair[1])
        })
        .unwrap_or(columns)
}

fn case(scenario: &Arc<Scenario>, bound: &[(&str, &str, bool)]) -> Case {
    let header = &scenario.header;
    let value = |name: &str| {
        bound
            .iter()
            .find(|(known, ..)| *known == name)
            .map(|(_, v, _)| *v)
    };
    let shown: Vec<String> = bound
        .iter()
        .filter(|(.., shown)| *shown)
        .map(|(name, value, _)| format!("{name}={value}"))
        .collect();
    let name = scenario_name(scenario);
    Case {
        number: 0,
        scenario: Arc::clone(scenario),
        name: if shown.is_empty() {
            name
        } else {
            format!("{name}[{}]", shown.join(","))
        },
        bindings: bound
            .iter()
            .map(|(n, v, _)| ((*n).to_owned(), (*v).to_owned()))
            .collect(),
        entry: value("entry")
            .and_then(Entry::from_word)
            .unwrap_or(header.entry),
        from: value("from")
            .and_then(Vantage::from_word)
            .unwrap_or(header.from),
        own_target: owns_target(scenario),
        literal_names: header.literal_names,
    }
}

/// `tutorial/relay`
#[must_use]
pub fn scenario_name(scenario: &Scenario) -> String {
    let path = scenario.path.with_extension("");
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// A case that changes what others rely on must not share its target with them.
fn owns_target(scenario: &Scenario) -> bool {
    let header = &scenario.header;
    let said = header
        .needs
        .iter()
        .any(|need| need == "own-target" || need == "disk");
    let changes = |step: &Step| {
        matches!(
            step.kind,
            StepKind::Database(_) | StepKind::Target(_) | StepKind::Disk(..)
        )
    };
    said || !header.main_cf.is_empty()
        || !header.master_cf.is_empty()
        || all_steps(&scenario.steps).any(changes)
}

/// The steps, also those inside of `repeat`.
pub(crate) fn all_steps(steps: &[Step]) -> impl Iterator<Item = &Step> {
    steps.iter().flat_map(|step| {
        let inner: &[Step] = match &step.kind {
            StepKind::Repeat(_, inner) => inner,
            _ => &[],
        };
        std::iter::once(step).chain(inner)
    })
}

/// The clauses of a scenario, in order.
pub fn clauses(scenario: &Scenario) -> impl Iterator<Item = &Clause> {
    scenario.steps.iter().filter_map(|step| match &step.kind {
        StepKind::Clause(clause) => Some(clause),
        _ => None,
    })
}

impl Case {
    /// The names that expand its texts: those of its world, its axes and its columns.
    #[must_use]
    pub fn names(&self, world: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut names = world.clone();
        names.extend(self.bindings.clone());
        names
    }
}
