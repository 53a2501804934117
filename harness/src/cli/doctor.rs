//! `vmailspec doctor`: does a target's description fit the server? Each key, and what to change.

use std::fmt::Write as _;

use super::{Ended, Failed, complain, print};
use crate::environment::checks::Outcome;
use crate::environment::{Environment, Options};
use crate::exit_code::ExitCode;

/// Looks at everything and judges nothing.
pub(super) async fn doctor(options: &Options) -> Ended {
    let findings = Box::pin(Environment::examine(options, &|line| complain(&line)))
        .await
        .map_err(Failed::from)?;
    let mut text = format!("{}\n", options.target.name);
    for finding in &findings {
        let (word, what) = match &finding.outcome {
            Outcome::Fits(what) => ("fits", what),
            Outcome::Wrong(what) => ("WRONG", what),
            Outcome::Open(what) => ("open", what),
        };
        let _ = writeln!(text, "{word:<6} {:<20} {what}", finding.key);
    }
    print(&text);
    let wrong = findings
        .iter()
        .any(|finding| matches!(finding.outcome, Outcome::Wrong(_)));
    Ok(if wrong {
        ExitCode::Environment
    } else {
        ExitCode::Held
    })
}
