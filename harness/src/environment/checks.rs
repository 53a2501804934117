//! Checks before the first case: does the description fit the server?
//!
//! Each key of a target's description is looked at against the running server. A run ends with the
//! first that does not fit; `vmailspec doctor` shows them all, and what to change.

mod doors;
mod house;

pub use self::doors::{Doors, doors};
pub(super) use self::house::house;
use super::EnvironmentError;
use super::secrets::Secrets;

/// `[database] url`
pub(super) const ROWS: &str = "database";
/// `[database] seed`
pub(super) const SEED: &str = "database.seed";

/// What became of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The key of the description: `listen.smtp`.
    pub key: &'static str,
    /// What was found.
    pub outcome: Outcome,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As described.
    Fits(String),
    /// Not as described, and what to change.
    Wrong(String),
    /// Not looked at, and why.
    Open(String),
}

impl Finding {
    /// Without what may not be shown.
    pub(super) fn without(self, secrets: &Secrets) -> Self {
        let outcome = match self.outcome {
            Outcome::Fits(text) => Outcome::Fits(secrets.hidden(text)),
            Outcome::Wrong(text) => Outcome::Wrong(secrets.hidden(text)),
            Outcome::Open(text) => Outcome::Open(secrets.hidden(text)),
        };
        Self { outcome, ..self }
    }
}

fn fits(key: &'static str, text: impl Into<String>) -> Finding {
    let outcome = Outcome::Fits(text.into());
    Finding { key, outcome }
}

fn wrong(key: &'static str, text: impl Into<String>) -> Finding {
    let outcome = Outcome::Wrong(text.into());
    Finding { key, outcome }
}

fn open(key: &'static str, text: impl Into<String>) -> Finding {
    let outcome = Outcome::Open(text.into());
    Finding { key, outcome }
}

fn found(key: &'static str, result: Result<String, String>) -> Finding {
    result.map_or_else(|why| wrong(key, why), |what| fits(key, what))
}

/// What kept the other checks from being made, with its key in front where it is one's.
pub(super) fn not_entered(why: String) -> Finding {
    for key in [ROWS, SEED, "sink", "maildirs"] {
        if let Some(why) = why
            .strip_prefix(key)
            .and_then(|rest| rest.strip_prefix(": "))
        {
            return wrong(key, why);
        }
    }
    wrong("start", why)
}

/// The first check that failed, as the end of a run.
pub fn first_problem(findings: &[Finding]) -> Result<(), EnvironmentError> {
    for finding in findings {
        if let Outcome::Wrong(why) = &finding.outcome {
            let text = format!("{}: {why}", finding.key);
            return Err(EnvironmentError::Unavailable(text));
        }
    }
    Ok(())
}
