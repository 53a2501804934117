//! `coverage`, `explain`, `new`: the register of what is wanted, and what there is of it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use super::scenarios::read;
use super::{Ended, Failed, complain, print};
use crate::exit_code::ExitCode;
use crate::ledger;
use crate::plan;
use crate::register::check::{Placed, mistakes};
use crate::register::coverage::{Coverage, wrong_servers};
use crate::register::{Register, Row};
use crate::scenario::nearest::nearest_all;
use crate::scenario::words::UNWRITTEN;
use crate::scenario::{Scenario, refs};

/// The register that stands with these scenarios; without a folder, the binary's.
pub(super) fn register(scenarios: Option<&Path>) -> Result<Register, Failed> {
    scenarios
        .map_or_else(Register::builtin, Register::of)
        .map_err(|mistakes| told(&mistakes))
}

/// Says each mistake, and ends with their number.
pub(super) fn told(mistakes: &[String]) -> Failed {
    for mistake in mistakes {
        complain(mistake);
    }
    let plural = if mistakes.len() == 1 { "" } else { "s" };
    Failed::new(
        ExitCode::Usage,
        format!(
            "{} mistake{plural} between scenarios and register",
            mistakes.len()
        ),
    )
}

/// Register and scenarios must agree: as whole sets, or only where the scenarios name rows.
pub(super) fn agree(
    register: &Register,
    scenarios: &[Arc<Scenario>],
    below: &Path,
    whole: bool,
) -> Vec<String> {
    let placed: Vec<Placed<'_>> = scenarios
        .iter()
        .map(|scenario| Placed { scenario, below })
        .collect();
    mistakes(register, &placed, whole)
}

pub(super) fn coverage(folder: Option<&Path>, json: bool) -> Ended {
    let register = register(folder)?;
    let scenarios = read(folder)?;
    let below = folder.unwrap_or_else(|| Path::new("scenarios"));
    let wrong = agree(&register, &scenarios, below, true);
    let coverage = Coverage::new(&register, scenarios.iter().map(Arc::as_ref));
    let text = if json {
        let text = serde_json::to_string_pretty(&coverage);
        text.map_err(|error| Failed::new(ExitCode::Defect, error.to_string()))? + "\n"
    } else {
        coverage.text()
    };
    print(&text);
    if wrong.is_empty() {
        Ok(ExitCode::Held)
    } else {
        Err(told(&wrong))
    }
}

pub(super) fn explain(id: &str, folder: Option<&Path>) -> Ended {
    let register = register(folder)?;
    let scenarios = read(folder)?;
    let holders: Vec<&Arc<Scenario>> = scenarios
        .iter()
        .filter(|scenario| plan::clauses(scenario).any(|clause| clause.id == id))
        .collect();
    let row = register.row(id);
    if row.is_none() && holders.is_empty() {
        return Err(unknown(id, register.ids()));
    }
    let mut text = row.map(in_words).unwrap_or_default();
    if ledger::CLAUSES.iter().any(|one| one.0 == id) {
        text += "\nNo scenario asks for it: every message of every case is followed to its end.\n";
        let _ = writeln!(text, "  {}", proof(id));
    } else if holders.is_empty() {
        let reason = row.and_then(|row| row.left.as_deref()).unwrap_or_default();
        let _ = write!(
            text,
            "\nno scenario holds it: {reason}\n  begin one: vmailspec new {id}\n"
        );
    }
    for scenario in holders {
        for clause in plan::clauses(scenario).filter(|clause| clause.id == id) {
            if row.is_none() {
                let _ = writeln!(text, "{id}  {}", clause.level.word());
            }
            let _ = write!(
                text,
                "\n  {}\n{}  {}\n  alone: vmailspec run {id}\n\n{}:\n\n{}",
                clause.claim,
                places(&clause.references),
                proof(id),
                scenario.path.display(),
                indented(&scenario.source),
            );
        }
    }
    print(&text);
    Ok(ExitCode::Held)
}

/// Writes what the row says as the beginning of a scenario; what only an author can say is marked,
/// and `check` finds the marks.
pub(super) fn new(id: &str, file: Option<&Path>, folder: &Path) -> Ended {
    let register = register(folder.join("register").is_dir().then_some(folder))?;
    let row = register
        .row(id)
        .ok_or_else(|| unknown(id, register.ids()))?;
    let name = id.split_once('.').map_or(id, |(_, name)| name);
    let path = file.map_or_else(
        || {
            folder
                .join(row.group())
                .join(format!("{}.case", name.replace('.', "-")))
        },
        Path::to_owned,
    );
    let cannot = |error| Failed::new(ExitCode::Usage, format!("{}: {error}", path.display()));
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(cannot)?;
    }
    let mut to = std::fs::File::create_new(&path).map_err(cannot)?;
    to.write_all(begun(row).as_bytes()).map_err(cannot)?;
    print(&format!(
        "{0}\n\nSay what is marked `{UNWRITTEN}` (scenarios/README.md is the language), then:\n  \
         vmailspec check {0}\n  vmailspec run {id} --scenarios {1}\nTake the line `left` away at {2}.\n",
        path.display(),
        folder.display(),
        row.place
    ));
    Ok(ExitCode::Held)
}

/// A scenario as far as its row can say it.
fn begun(row: &Row) -> String {
    let mut text = format!("title   {UNWRITTEN}: what the scenario is about\n");
    if !row.needs.is_empty() {
        let _ = writeln!(text, "needs   {}", row.needs.join(" "));
    }
    if let Some(profile) = &row.profile {
        let _ = writeln!(text, "profile {profile}");
    }
    let _ = write!(
        text,
        "\n{:<7} {}   {}   {UNWRITTEN}: what holds, in words\n{UNWRITTEN}: {}\n{UNWRITTEN}: {}\n",
        row.level.word(),
        row.id,
        row.references.join(" "),
        row.action,
        row.expect
    );
    text
}

/// The row as a person reads it.
fn in_words(row: &Row) -> String {
    let mut text = format!("{}  {}  wave {}\n", row.id, row.level.word(), row.wave);
    let _ = writeln!(text, "  do      {}", row.action);
    let _ = writeln!(text, "  expect  {}", row.expect);
    if let Some(profile) = &row.profile {
        let _ = writeln!(text, "  binds   targets that claim the profile {profile}");
    }
    if let Some(wrong) = &row.wrong {
        let _ = writeln!(text, "  must turn red on: {wrong}");
    }
    let _ = write!(text, "  {}\n{}", row.place, places(&row.references));
    text
}

fn unknown<'a>(id: &str, known: impl Iterator<Item = &'a str>) -> Failed {
    let known: Vec<&str> = known.collect();
    let near = nearest_all(id, &known, 3);
    let near = if near.is_empty() {
        String::new()
    } else {
        format!("; near it: {}", near.join(", "))
    };
    Failed::new(
        ExitCode::Usage,
        format!("neither the register nor a scenario has `{id}`{near}"),
    )
}

/// Which wrong servers turn the clause red.
fn proof(id: &str) -> String {
    let names: Vec<&str> = wrong_servers()
        .filter(|(_, red)| red.contains(&id))
        .map(|(name, _)| name)
        .collect();
    if names.is_empty() {
        "unproven: no wrong server of fixtures/wrong turns it red".into()
    } else {
        format!("turned red by fixtures/{}", names.join(", fixtures/"))
    }
}

fn places(references: &[String]) -> String {
    let mut text = String::new();
    for reference in references {
        text += "  ";
        text += &refs::in_words(reference);
        text.push('\n');
    }
    text
}

fn indented(source: &str) -> String {
    let mut text = String::new();
    for line in source.lines() {
        text += format!("    {line}").trim_end();
        text.push('\n');
    }
    text
}
