//! `check`, `fmt`, `explain`, `list`: what can be said of scenarios without running them.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Ended, Failed, complain, print};
use crate::exit_code::ExitCode;
use crate::fixtures;
use crate::plan;
use crate::scenario::load::{self, LoadError};
use crate::scenario::nearest::nearest_all;
use crate::scenario::refs;
use crate::scenario::{self, Scenario};

/// The scenarios of a folder, or those of the binary.
pub(super) fn read(folder: Option<&Path>) -> Result<Vec<Arc<Scenario>>, Failed> {
    folder
        .map_or_else(load::builtin, load::load)
        .map_err(|error| failed(&error))
}

fn failed(error: &LoadError) -> Failed {
    let code = match error {
        LoadError::Unreadable { .. } | LoadError::Mistakes(_) => ExitCode::Usage,
        LoadError::Empty(_) => ExitCode::Environment,
    };
    if let LoadError::Mistakes(files) = error {
        let colour = std::io::stderr().is_terminal();
        for file in files {
            complain(&format!("\n{}", file.render(colour)));
        }
    }
    Failed::new(code, error.to_string())
}

pub(super) fn check(files: &[PathBuf]) -> Ended {
    let mut count = 0;
    let mut wrong = None;
    if files.is_empty() {
        count = read(None)?.len();
    }
    // Every file is read, so that all mistakes are seen at once.
    for file in files {
        match load::load(file) {
            Ok(scenarios) => count += scenarios.len(),
            Err(error) => wrong = Some(failed(&error)),
        }
    }
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    print(&format!(
        "{count} scenario{} without a mistake\n",
        if count == 1 { "" } else { "s" }
    ));
    Ok(ExitCode::Held)
}

pub(super) fn fmt(files: &[PathBuf], check: bool) -> Ended {
    let mut differ = 0;
    for path in files {
        for file in load::files(path).map_err(|error| failed(&error))? {
            let text = std::fs::read_to_string(&file).map_err(|error| cannot(&file, &error))?;
            let laid_out = scenario::format(&text).map_err(|mistakes| {
                let colour = std::io::stderr().is_terminal();
                Failed::new(
                    ExitCode::Usage,
                    scenario::error::render(&file, &text, &mistakes, colour),
                )
            })?;
            if laid_out == text {
                continue;
            }
            differ += 1;
            print(&format!("{}\n", file.display()));
            if !check {
                std::fs::write(&file, laid_out).map_err(|error| cannot(&file, &error))?;
            }
        }
    }
    if check && differ > 0 {
        return Err(Failed::new(
            ExitCode::Broken,
            format!("{differ} not laid out as `vmailspec fmt` would"),
        ));
    }
    Ok(ExitCode::Held)
}

fn cannot(path: &Path, error: &std::io::Error) -> Failed {
    Failed::new(ExitCode::Usage, format!("{}: {error}", path.display()))
}

pub(super) fn list(folder: Option<&Path>) -> Ended {
    for scenario in read(folder)? {
        let mut text = format!("{}  {}\n", plan::scenario_name(&scenario), scenario.title);
        for clause in plan::clauses(&scenario) {
            let (level, id, claim) = (clause.level.word(), &clause.id, &clause.claim);
            let _ = writeln!(text, "  {level:<10} {id:<34} {claim}");
        }
        if !print(&text) {
            break;
        }
    }
    Ok(ExitCode::Held)
}

pub(super) fn explain(id: &str, folder: Option<&Path>) -> Ended {
    if let Some((_, references, claim)) = crate::ledger::CLAUSES.iter().find(|one| one.0 == id) {
        let references: Vec<String> = references.iter().map(|&text| text.to_owned()).collect();
        print(&format!("{id}  MUST\n  {claim}\n{}", places(&references)));
        print("\nNo scenario asks for it: every message of every case is followed to its end.\n");
        return Ok(ExitCode::Held);
    }
    let scenarios = read(folder)?;
    let mut found = false;
    for scenario in &scenarios {
        for clause in plan::clauses(scenario).filter(|clause| clause.id == id) {
            found = true;
            print(&format!(
                "{id}  {}\n  {}\n{}  {}\n  alone: vmailspec run {id}\n\n{}:\n\n{}",
                clause.level.word(),
                clause.claim,
                places(&clause.references),
                proof(id),
                scenario.path.display(),
                indented(&scenario.source),
            ));
        }
    }
    if found {
        return Ok(ExitCode::Held);
    }
    let ids: Vec<String> = scenarios
        .iter()
        .flat_map(|scenario| {
            plan::clauses(scenario)
                .map(|clause| clause.id.clone())
                .collect::<Vec<_>>()
        })
        .collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let near = nearest_all(id, &ids, 3);
    let near = if near.is_empty() {
        String::new()
    } else {
        format!("; near it: {}", near.join(", "))
    };
    Err(Failed::new(
        ExitCode::Usage,
        format!("no scenario has a clause `{id}`{near}"),
    ))
}

/// Which wrong servers have turned the clause red.
fn proof(id: &str) -> String {
    let names: Vec<&str> = fixtures::folder("wrong")
        .filter(|(_, text)| {
            text.lines()
                .filter_map(|line| line.strip_prefix("# red:"))
                .flat_map(str::split_whitespace)
                .any(|red| red == id)
        })
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
