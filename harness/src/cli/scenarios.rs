//! `check`, `fmt`, `list`: what can be said of scenarios without running them.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::register::{agree, register, told};
use super::{Ended, Failed, complain, print};
use crate::exit_code::ExitCode;
use crate::plan;
use crate::scenario::load::{self, LoadError};
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
    let mut disagree = Vec::new();
    if files.is_empty() {
        let scenarios = read(None)?;
        count = scenarios.len();
        disagree = agree(&register(None)?, &scenarios, Path::new("scenarios"), true);
    }
    // Every file is read, so that all mistakes are seen at once.
    for file in files {
        match load::load(file) {
            Ok(scenarios) => {
                count += scenarios.len();
                let register = register(Some(file))?;
                let below = if file.is_dir() {
                    file.as_path()
                } else {
                    file.parent().unwrap_or_else(|| Path::new(""))
                };
                // Only beside the register are all scenarios that there are.
                let whole = file.join("register").is_dir();
                disagree.extend(agree(&register, &scenarios, below, whole));
            }
            Err(error) => wrong = Some(failed(&error)),
        }
    }
    if !disagree.is_empty() {
        let disagreement = told(&disagree);
        wrong.get_or_insert(disagreement);
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
