//! Lookup tables (postconf(5) "type:table"): one question, three results.
//!
//! *Found*, *absent* and *failed* are `Ok(Some)`, `Ok(None)` and `Err(Failed)`. Failed is always a
//! temporary refusal, never "unknown user". What a table returns is not to be trusted as a path,
//! an address or a number: whoever asks checks it.

/// A lookup that could not be done: the database is down, slow, or refused the question.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{table}: {reason}")]
pub struct Failed {
    /// The table as the configuration names it, `mysql:/etc/postfix/mysql-virtual_domains.cf`.
    pub table: String,
    /// What went wrong, for the log.
    pub reason: String,
}

/// The result of a lookup.
pub type Lookup = Result<Option<String>, Failed>;

/// The tables of one parameter, asked in their order; the first that knows the key answers.
#[derive(Debug, Clone)]
pub struct Maps {
    // Arc<[Box<dyn Table>]> or an enum of the table types
}

impl Maps {
    /// No table is configured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        true
    }

    /// Looks `key` up as it is (lower case, no extension handling).
    pub async fn get(&self, key: &str) -> Lookup {
        let _ = key;
        Ok(None)
    }

    /// Looks an address up: `user+ext@domain`, `user@domain`, `@domain` (virtual(5), virtual(8)).
    pub async fn find(&self, local: &str, domain: &str, delimiter: Option<char>) -> Lookup {
        let _ = (local, domain, delimiter);
        Ok(None)
    }
}
