//! Where scenarios come from: a folder, a single file, or the binary itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Scenario;
use super::error::{Mistake, render};
use super::parse::parse;

// Made by build.rs: `static SCENARIOS: &[(&str, &str)]`, sorted by name.
include!(concat!(env!("OUT_DIR"), "/scenarios.rs"));

/// Why there are no scenarios to run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is no scenario below the folder.
    #[error("no scenario in {}: their names end in .case", .0.display())]
    Empty(PathBuf),
    /// Files with mistakes, each with all of its own.
    #[error("{}", summary(.0))]
    Mistakes(Vec<BadFile>),
}

/// A file that could not be read as a scenario.
#[derive(Debug, Clone)]
pub struct BadFile {
    /// The file, as messages name it.
    pub path: PathBuf,
    /// Its text; what is not UTF-8 is replaced.
    pub source: String,
    /// All mistakes in it.
    pub mistakes: Vec<Mistake>,
}

impl BadFile {
    /// All its mistakes, each with its line underlined.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        render(&self.path, &self.source, &self.mistakes, colour)
    }
}

fn summary(files: &[BadFile]) -> String {
    let mistakes: usize = files.iter().map(|file| file.mistakes.len()).sum();
    let plural = |many: usize| if many == 1 { "" } else { "s" };
    format!(
        "{mistakes} mistake{} in {} scenario file{}",
        plural(mistakes),
        files.len(),
        plural(files.len())
    )
}

/// The scenarios that the binary carries.
pub fn builtin() -> Result<Vec<Arc<Scenario>>, LoadError> {
    let texts = SCENARIOS.iter().map(|(name, text)| {
        (
            PathBuf::from(name),
            PathBuf::from(name),
            text.as_bytes().to_vec(),
        )
    });
    read_all(Path::new("the scenarios of this binary"), texts.collect())
}

/// Names and texts of the scenarios that the binary carries.
#[must_use]
pub fn builtin_sources() -> &'static [(&'static str, &'static str)] {
    SCENARIOS
}

/// All scenarios below a folder, sorted by path; or a single file.
pub fn load(path: &Path) -> Result<Vec<Arc<Scenario>>, LoadError> {
    let mut texts = Vec::new();
    for file in files(path)? {
        let relative = file
            .strip_prefix(path)
            .ok()
            .filter(|rest| !rest.as_os_str().is_empty());
        let name = relative
            .or_else(|| file.file_name().map(Path::new))
            .unwrap_or(&file);
        let text = fs::read(&file).map_err(|error| LoadError::Unreadable {
            path: file.clone(),
            error,
        })?;
        texts.push((name.to_owned(), file, text));
    }
    read_all(path, texts)
}

/// The `.case` files below a folder, sorted; a single file is itself, whatever its name.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let mut found = Vec::new();
    collect(path, true, &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(path: &Path, asked_for: bool, found: &mut Vec<PathBuf>) -> Result<(), LoadError> {
    let unreadable = |error| LoadError::Unreadable {
        path: path.to_owned(),
        error,
    };
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        if asked_for || path.extension().is_some_and(|ending| ending == "case") {
            found.push(path.to_owned());
        }
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        // A link to a folder is not followed: it could lead in a circle.
        let linked = entry.file_type().map_err(unreadable)?.is_symlink();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !(hidden || linked && entry.path().is_dir()) {
            collect(&entry.path(), false, found)?;
        }
    }
    Ok(())
}

fn read_all(
    from: &Path,
    texts: Vec<(PathBuf, PathBuf, Vec<u8>)>,
) -> Result<Vec<Arc<Scenario>>, LoadError> {
    let mut scenarios = Vec::new();
    let mut bad = Vec::new();
    for (name, path, text) in texts {
        match parse(name, &text) {
            Ok(scenario) => scenarios.push(Arc::new(scenario)),
            Err(mistakes) => {
                let source = String::from_utf8_lossy(&text).into_owned();
                bad.push(BadFile {
                    path,
                    source,
                    mistakes,
                });
            }
        }
    }
    if !bad.is_empty() {
        return Err(LoadError::Mistakes(bad));
    }
    if scenarios.is_empty() {
        return Err(LoadError::Empty(from.to_owned()));
    }
    Ok(scenarios)
}
