//! Names that a run gives to its messages: tokens, by which each is known wherever it turns up.
//!
//! A token is `RUN-CASE-K`: the run, the case, and the message within the case. A canary's is
//! `RUN-canary-CASE-K`, so that neither is ever a part of the other's.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The header field that carries a token.
pub const TOKEN_FIELD: &str = "X-Vmailspec-Token";

/// The tokens of one case.
#[derive(Debug)]
pub struct Tokens {
    run: String,
    case: usize,
    messages: AtomicUsize,
    canaries: AtomicUsize,
}

impl Tokens {
    /// Tokens for case number `case` of the run named `run`.
    #[must_use]
    pub fn new(run: &str, case: usize) -> Self {
        Self {
            run: run.to_owned(),
            case,
            messages: AtomicUsize::new(0),
            canaries: AtomicUsize::new(0),
        }
    }

    /// A token that no message has yet.
    #[must_use]
    pub fn next(&self) -> String {
        let k = self.messages.fetch_add(1, Ordering::Relaxed) + 1;
        // All of one length: none is a part of another, wherever it is looked for.
        format!("{}{k:06}", self.prefix())
    }

    /// A token for a canary.
    #[must_use]
    pub fn canary(&self) -> String {
        let k = self.canaries.fetch_add(1, Ordering::Relaxed) + 1;
        format!("{}-canary-{}-{k}", self.run, self.case)
    }

    /// How every token of this case's messages begins; no canary's does.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("{}-{}-", self.run, self.case)
    }

    /// Whether a token was given by this run to something else than a message of this case.
    #[must_use]
    pub fn is_foreign(&self, token: &str) -> bool {
        token.starts_with(&format!("{}-", self.run)) && !token.starts_with(&self.prefix())
    }
}

/// The token in the header of a message; what follows the first empty line is not looked at.
#[must_use]
pub fn token_of(content: &[u8]) -> Option<String> {
    field(content, TOKEN_FIELD)
}

/// The first field of this name in the header of a message, unfolded.
#[must_use]
pub fn field(content: &[u8], name: &str) -> Option<String> {
    fields(content, name).into_iter().next()
}

/// Every field of this name in the header of a message, unfolded, in order.
#[must_use]
pub fn fields(content: &[u8], name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut ours = false;
    for line in content.split(|&octet| octet == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            break;
        }
        let text = String::from_utf8_lossy(line);
        if text.starts_with([' ', '\t']) {
            if let Some(value) = found.last_mut().filter(|_| ours) {
                let value: &mut String = value;
                value.push(' ');
                value.push_str(text.trim());
            }
            continue;
        }
        ours = false;
        if let Some((key, value)) = text.split_once(':')
            && key.trim_end().eq_ignore_ascii_case(name)
        {
            ours = true;
            found.push(value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::Tokens;

    #[test]
    fn no_token_is_a_part_of_another() {
        let tokens = Tokens::new("run", 7);
        let all: Vec<String> = (0..200).map(|_| tokens.next()).collect();
        for one in &all {
            assert_eq!(all.iter().filter(|other| other.contains(one)).count(), 1);
        }
    }
}
