//! The matrix: implementations beside each other, by groups of clauses and clause by clause, and why
//! what is known to be broken is.
//!
//! A clause that several cases look at counts once, by the worst that became of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::document::{Clause, Document};
use crate::event::Verdict;

/// What became of a clause on one implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    /// As said, or taken.
    Held,
    Unsupported,
    Declined,
    Noted,
    Unreached,
    Blocked,
    /// Broken, and known to be.
    Known,
    Broken,
}

impl Cell {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Held, "held"),
        (Self::Declined, "declined"),
        (Self::Noted, "noted"),
        (Self::Broken, "BROKEN"),
        (Self::Known, "broken as known"),
        (Self::Blocked, "blocked"),
        (Self::Unreached, "unreached"),
        (Self::Unsupported, "unsupported"),
    ];

    fn of(clause: &Clause) -> Option<Self> {
        Some(match clause.judged()? {
            Verdict::Held | Verdict::Taken => Self::Held,
            Verdict::Declined => Self::Declined,
            Verdict::Noted => Self::Noted,
            Verdict::Broken if clause.known.is_some() => Self::Known,
            Verdict::Broken => Self::Broken,
            Verdict::Blocked => Self::Blocked,
            Verdict::Unreached => Self::Unreached,
            Verdict::Unsupported => Self::Unsupported,
        })
    }

    fn word(self) -> &'static str {
        let found = Self::ALL.iter().find(|(cell, _)| *cell == self);
        found.map_or("", |(_, word)| word)
    }
}

/// A table of texts: the columns' heads, and rows that begin with their own.
#[derive(Debug)]
struct Table {
    title: &'static str,
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// Implementations beside each other.
#[derive(Debug)]
pub struct Matrix {
    tables: [Table; 4],
}

impl Matrix {
    /// Of these runs, a column each.
    #[must_use]
    pub fn new(runs: &[Document]) -> Self {
        let columns: Vec<BTreeMap<&str, Cell>> = runs.iter().map(cells).collect();
        // Level and claim of every clause.
        let mut clauses: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
        for clause in runs
            .iter()
            .flat_map(|run| &run.cases)
            .flat_map(|case| &case.clauses)
        {
            clauses
                .entry(&clause.id)
                .or_insert((&clause.level, &clause.claim));
        }
        let names: Vec<String> = runs.iter().map(|run| run.target.clone()).collect();
        let heads = |first: &[&str]| {
            let first = first.iter().map(|&head| head.to_owned());
            first.chain(names.iter().cloned()).collect()
        };
        let about = runs
            .iter()
            .map(|run| {
                let day = run.date.get(..10).unwrap_or("unknown").to_owned();
                let cases = run.cases.len().to_string();
                vec![
                    run.target.clone(),
                    run.database.clone(),
                    run.suite.clone(),
                    day,
                    cases,
                ]
            })
            .collect();
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for id in clauses.keys() {
            let group = id.split('.').next().unwrap_or_default();
            groups.entry(group).or_default().push(id);
        }
        let mut by_group: Vec<Vec<String>> = groups
            .iter()
            .map(|(group, ids)| {
                let sums = columns.iter().map(|column| sums(column, ids));
                std::iter::once((*group).to_owned()).chain(sums).collect()
            })
            .collect();
        let every: Vec<&str> = clauses.keys().copied().collect();
        let all = columns.iter().map(|column| sums(column, &every));
        by_group.push(std::iter::once("all".to_owned()).chain(all).collect());
        let by_clause = clauses
            .iter()
            .map(|(id, (level, claim))| {
                let cells = columns.iter().map(|column| {
                    column
                        .get(id)
                        .map_or("not run", |cell| cell.word())
                        .to_owned()
                });
                let about = [*id, *level, *claim].map(str::to_owned);
                about.into_iter().chain(cells).collect()
            })
            .collect();
        let reasons = runs.iter().flat_map(reasons).collect();
        let about_heads = ["implementation", "database", "vmailspec", "date", "cases"];
        Self {
            tables: [
                Table {
                    title: "Runs",
                    heads: about_heads.map(str::to_owned).to_vec(),
                    rows: about,
                },
                Table {
                    title: "Groups of clauses",
                    heads: heads(&["group"]),
                    rows: by_group,
                },
                Table {
                    title: "Known to be broken",
                    heads: ["implementation", "clause", "reason"]
                        .map(str::to_owned)
                        .to_vec(),
                    rows: reasons,
                },
                Table {
                    title: "Clauses",
                    heads: heads(&["clause", "level", "claim"]),
                    rows: by_clause,
                },
            ],
        }
    }

    /// As Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut out = String::from(
            "# Implementations and clauses\n\n\
             Made by `vmailspec matrix` of the documents of these runs. A clause that several cases look at counts\n\
             once, by the worst that became of it; *unsupported* says that the server does not offer it or that its\n\
             description does not claim it, *declined* that it was free not to follow it.\n",
        );
        let row = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        for table in &self.tables {
            let _ = write!(out, "\n## {}\n\n{}", table.title, row(&table.heads));
            let _ = writeln!(out, "|{}", "---|".repeat(table.heads.len()));
            for cells in &table.rows {
                out.push_str(&row(cells));
            }
        }
        out
    }

    /// As a page of HTML that needs no other file.
    #[must_use]
    pub fn html(&self) -> String {
        let mut out = String::from(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <title>Implementations and clauses</title>\n<style>\n\
             body { font: 15px/1.4 sans-serif; margin: 2em }\n\
             table { border-collapse: collapse }\n\
             th, td { border: 1px solid #bbb; padding: 2px 8px; text-align: left }\n\
             .held { background: #dfd } .BROKEN { background: #fbb } .broken { background: #fdb }\n\
             .unsupported, .not { color: #777 }\n\
             </style>\n<h1>Implementations and clauses</h1>\n",
        );
        for table in &self.tables {
            let _ = writeln!(out, "<h2>{}</h2>\n<table>", table.title);
            out.push_str("<tr>");
            for head in &table.heads {
                let _ = write!(out, "<th>{}</th>", escaped(head));
            }
            out.push_str("</tr>\n");
            for cells in &table.rows {
                out.push_str("<tr>");
                for cell in cells {
                    // The first word of a verdict is its colour.
                    let verdict = Cell::ALL.iter().find(|(_, word)| word == cell);
                    let class = verdict.map_or("", |(_, word)| word);
                    let _ = write!(out, "<td class=\"{class}\">{}</td>", escaped(cell));
                }
                out.push_str("</tr>\n");
            }
            out.push_str("</table>\n");
        }
        out.push_str("</html>\n");
        out
    }
}

/// The worst of every clause.
fn cells(run: &Document) -> BTreeMap<&str, Cell> {
    let mut cells: BTreeMap<&str, Cell> = BTreeMap::new();
    for clause in run.cases.iter().flat_map(|case| &case.clauses) {
        if let Some(cell) = Cell::of(clause) {
            let worst = cells.entry(&clause.id).or_insert(cell);
            *worst = (*worst).max(cell);
        }
    }
    cells
}

/// Implementation, clause and reason, each once.
fn reasons(run: &Document) -> Vec<Vec<String>> {
    let clauses = run.cases.iter().flat_map(|case| &case.clauses);
    let known = clauses.filter_map(|clause| Some((&clause.id, clause.known.as_ref()?)));
    known
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(|(id, reason)| vec![run.target.clone(), id.clone(), reason.clone()])
        .collect()
}

/// `12 held, 1 declined`
fn sums(column: &BTreeMap<&str, Cell>, ids: &[&str]) -> String {
    let counts: Vec<String> = Cell::ALL
        .iter()
        .filter_map(|(cell, word)| {
            let count = ids
                .iter()
                .filter(|id| column.get(*id) == Some(cell))
                .count();
            (count > 0).then(|| format!("{count} {word}"))
        })
        .collect();
    if counts.is_empty() {
        "not run".to_owned()
    } else {
        counts.join(", ")
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
