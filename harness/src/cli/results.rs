//! `vmailspec merge` and `vmailspec matrix`: what is made of the results of several runs.

use std::path::{Path, PathBuf};

use super::{Ended, Failed, complain, print};
use crate::exit_code::ExitCode;
use crate::known::Known;
use crate::report::document::Document;
use crate::report::matrix::Matrix;
use crate::report::summary::Summary;

fn usage(text: String) -> Failed {
    Failed::new(ExitCode::Usage, text)
}

fn write(path: &Path, text: &str) -> Result<(), Failed> {
    std::fs::write(path, text)
        .map_err(|error| usage(format!("cannot write {}: {error}", path.display())))
}

/// The parts of one run as one: its document, its sums, and its exit code.
pub(super) fn merge(files: &[PathBuf], json: Option<&Path>, known: Option<&Path>) -> Ended {
    let mut parts = Vec::new();
    for file in files {
        let part = Document::read(file).map_err(usage)?;
        parts.push((file.display().to_string(), part));
    }
    let known = known
        .map(Known::read)
        .transpose()
        .map_err(usage)?
        .unwrap_or_default();
    let whole = Document::merge(parts).map_err(usage)?;
    let text = serde_json::to_string_pretty(&whole)
        .map_err(|error| Failed::new(ExitCode::Defect, error.to_string()))?;
    let results = whole.results();
    let mut summary = Summary::default();
    for case in &results {
        summary.add(case, whole.strict);
        for clause in case.clauses.iter().filter(|clause| clause.is_news()) {
            complain(&format!("BROKEN {} in {}", clause.id, case.name));
        }
    }
    match json {
        Some(path) => {
            write(path, &format!("{text}\n"))?;
            let counts: Vec<String> = whole
                .summary
                .iter()
                .filter(|(_, count)| **count > 0)
                .map(|(word, count)| format!("{count} {word}"))
                .collect();
            let cases = whole.cases.len();
            print(&format!(
                "{}: {cases} cases: {}\n",
                whole.target,
                counts.join(", ")
            ));
        }
        None => {
            print(&format!("{text}\n"));
        }
    }
    let stale = known.stale(&results, true);
    for line in &stale {
        complain(line);
    }
    Ok(if !whole.defects.is_empty() {
        ExitCode::Defect
    } else if whole.interrupted {
        ExitCode::Interrupted
    } else {
        summary.exit_code(stale.len())
    })
}

/// Implementations beside each other.
pub(super) fn matrix(files: &[PathBuf], markdown: Option<&Path>, html: Option<&Path>) -> Ended {
    let runs = files
        .iter()
        .map(|file| Document::read(file).map_err(usage))
        .collect::<Result<Vec<_>, _>>()?;
    let matrix = Matrix::new(&runs);
    if let Some(path) = html {
        write(path, &matrix.html())?;
    }
    match markdown {
        Some(path) => write(path, &matrix.markdown())?,
        None if html.is_none() => {
            print(&matrix.markdown());
        }
        None => {}
    }
    Ok(ExitCode::Held)
}
