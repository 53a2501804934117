//! Coverage: which rows of the register a scenario holds, which of these a wrong server proves, and
//! what is left.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde::Serialize;

use super::Register;
use crate::fixtures;
use crate::ledger;
use crate::plan;
use crate::scenario::Scenario;
use crate::scenario::refs::Reference;

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A scenario holds it, and a wrong server turns it red.
    Proven,
    /// A scenario holds it; no wrong server has shown that it can fail.
    Unproven,
    /// No scenario holds it.
    Left,
}

/// One row and what became of it.
#[derive(Debug, Clone, Serialize)]
pub struct Line<'a> {
    /// Its id.
    pub id: &'a str,
    /// Its level, as scenarios write it.
    pub level: &'static str,
    /// 1, 2 or 3.
    pub wave: u8,
    /// What became of it.
    pub state: State,
    /// Why it is left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    /// `RFC 5321, section 7.9` …
    pub sections: Vec<String>,
}

/// Sums of rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sums {
    covered: usize,
    unproven: usize,
    left: usize,
}

impl Sums {
    fn add(&mut self, state: State) {
        match state {
            State::Proven => self.covered += 1,
            State::Unproven => {
                self.covered += 1;
                self.unproven += 1;
            }
            State::Left => self.left += 1,
        }
    }
}

/// All rows of a register.
#[derive(Debug, Clone, Serialize)]
pub struct Coverage<'a> {
    /// In the register's order.
    pub rows: Vec<Line<'a>>,
}

impl<'a> Coverage<'a> {
    /// Compares the register with the scenarios and the wrong servers of `fixtures/wrong`.
    pub fn new<'s>(
        register: &'a Register,
        scenarios: impl IntoIterator<Item = &'s Scenario>,
    ) -> Self {
        let mut held: BTreeSet<&str> = ledger::CLAUSES.iter().map(|one| one.0).collect();
        for scenario in scenarios {
            held.extend(plan::clauses(scenario).map(|clause| clause.id.as_str()));
        }
        let red: BTreeSet<&str> = wrong_servers().flat_map(|(_, ids)| ids).collect();
        let rows = register.rows.iter().map(|row| Line {
            id: &row.id,
            level: row.level.word(),
            wave: row.wave,
            state: match (
                held.contains(row.id.as_str()),
                red.contains(row.id.as_str()),
            ) {
                (false, _) => State::Left,
                (true, false) => State::Unproven,
                (true, true) => State::Proven,
            },
            reason: row.left.as_deref(),
            sections: sections(&row.references),
        });
        Self {
            rows: rows.collect(),
        }
    }

    /// For people: tables by group and by section, then what is unproven and what is left. Each
    /// table is one of Markdown too.
    #[must_use]
    pub fn text(&self) -> String {
        let mut groups: BTreeMap<&str, Sums> = BTreeMap::new();
        let mut sections: BTreeMap<(usize, &str), Sums> = BTreeMap::new();
        let mut all = Sums::default();
        for line in &self.rows {
            let group = line.id.split('.').next().unwrap_or_default();
            groups.entry(group).or_default().add(line.state);
            all.add(line.state);
            for section in &line.sections {
                // Shorter numbers of RFCs are older ones.
                let number = section.split(',').next().unwrap_or_default().len();
                let sums = sections.entry((number, section)).or_default();
                sums.add(line.state);
            }
        }
        let mut text = table("group", groups.into_iter().chain([("all", all)]));
        text.push('\n');
        text += &table(
            "section",
            sections.into_iter().map(|((_, name), sums)| (name, sums)),
        );
        let unproven: Vec<&Line<'_>> = self.of(State::Unproven).collect();
        let must = unproven
            .iter()
            .filter(|line| line.level.starts_with("MUST"));
        let _ = writeln!(
            text,
            "\nUnproven, no wrong server turns them red: {}, of which MUST {}\n",
            unproven.len(),
            must.count()
        );
        for line in unproven {
            let _ = writeln!(text, "- {} ({})", line.id, line.level);
        }
        let _ = writeln!(text, "\nLeft: {}\n", all.left);
        for line in self.of(State::Left) {
            let reason = line.reason.unwrap_or("not said");
            let _ = writeln!(
                text,
                "- {} ({}, wave {}): {reason}",
                line.id, line.level, line.wave
            );
        }
        text
    }

    fn of(&self, state: State) -> impl Iterator<Item = &Line<'a>> {
        self.rows.iter().filter(move |line| line.state == state)
    }
}

fn table<'t>(head: &str, rows: impl IntoIterator<Item = (&'t str, Sums)>) -> String {
    let rows: Vec<(&str, Sums)> = rows.into_iter().collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max();
    let width = width.unwrap_or_default().max(head.len());
    let mut text = format!("| {head:<width$} | covered | unproven | left |\n");
    let _ = writeln!(text, "|-{:-<width$}-|--------:|---------:|-----:|", "");
    for (name, sums) in rows {
        let _ = writeln!(
            text,
            "| {name:<width$} | {:>7} | {:>8} | {:>4} |",
            sums.covered, sums.unproven, sums.left
        );
    }
    text
}

/// The sections of standards among the references; the whole where no section is named.
fn sections(references: &[String]) -> Vec<String> {
    let mut sections: Vec<String> = references
        .iter()
        .filter_map(|text| Reference::parse(text))
        .map(|reference| match reference {
            Reference::Rfc { .. } | Reference::Draft { .. } => reference.to_string(),
            Reference::Postfix(_) => "Postfix".to_owned(),
            Reference::Tutorial(_) => "the tutorial".to_owned(),
            Reference::Own(_) => "this suite's own".to_owned(),
            other => other.to_string(),
        })
        .collect();
    sections.sort();
    sections.dedup();
    sections
}

/// The wrong servers: name below `fixtures/`, and the clauses that each turns red.
pub fn wrong_servers() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    fixtures::folder("wrong").map(|(name, text)| {
        let lines = text.lines().filter_map(|line| line.strip_prefix("# red:"));
        (name, lines.flat_map(str::split_whitespace).collect())
    })
}
