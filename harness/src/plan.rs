//! The plan: which cases a run consists of. A scenario becomes one case for each combination of
//! its axes and rows; the selection keeps those that were asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::scenario::{Entry, Scenario, Vantage};

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
