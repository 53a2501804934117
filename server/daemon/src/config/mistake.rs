//! Mistakes and warnings: `file:line: what is wrong, expected ...`.

use std::fmt;
use std::path::{Path, PathBuf};

/// A line of a file of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    file: PathBuf,
    /// From 1; 0 is the file as a whole.
    line: u32,
}

impl Place {
    pub(crate) fn new(file: &Path, line: u32) -> Self {
        Self {
            file: file.to_owned(),
            line,
        }
    }

    pub(crate) fn file(file: &Path) -> Self {
        Self::new(file, 0)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file.display()),
            line => write!(f, "{}:{line}", self.file.display()),
        }
    }
}

/// Something in the configuration that is wrong, or (as a warning) not honoured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[error("{place}: {text}")]
pub struct Mistake {
    /// Where.
    pub place: Place,
    /// What, and what was expected.
    pub text: String,
}

impl Mistake {
    pub(crate) fn new(place: &Place, text: impl Into<String>) -> Self {
        Self {
            place: place.clone(),
            text: text.into(),
        }
    }
}
