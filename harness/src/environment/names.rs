//! The names that a case owns, and the rows that come with them.
//!
//! Every case has names of its own under the reserved domain `test` (RFC 2606), so cases run side by
//! side; the tutorial's own rows (`fixtures/sql/seed.sql`) are seeded with its names put in.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::outside::Account;

/// The tutorial's hosted domain and its transport domain, as they stand in `seed.sql`.
pub const LITERAL_DOMAIN: &str = "mydomain.com";
/// See [`LITERAL_DOMAIN`].
pub const LITERAL_TRANSPORT: &str = "transport.com";
/// The tutorial's "System mail name".
pub const HOSTNAME: &str = "server.domain.com";

/// What one case calls its own.
#[derive(Debug, Clone)]
pub struct Names {
    /// Hosted: mailbox, forwarding.
    pub domain: String,
    /// A row in `transport`.
    pub transport: String,
    /// Foreign: the case's senders.
    pub sender: String,
    /// Foreign.
    pub elsewhere: String,
}

impl Names {
    /// The names of the `number`th case of the run `run`.
    #[must_use]
    pub fn new(number: usize, run: &str, literal: bool) -> Self {
        let own = |letter: char| format!("{letter}{number}.{run}.test");
        Self {
            domain: if literal {
                LITERAL_DOMAIN.to_owned()
            } else {
                own('d')
            },
            transport: if literal {
                LITERAL_TRANSPORT.to_owned()
            } else {
                own('t')
            },
            sender: own('s'),
            elsewhere: own('e'),
        }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> [&str; 4] {
        [&self.domain, &self.transport, &self.sender, &self.elsewhere]
    }

    /// As scenarios see them, with the sink's address.
    #[must_use]
    pub fn table(&self, sink: Ipv4Addr, port: u16) -> BTreeMap<String, String> {
        [
            ("domain", self.domain.clone()),
            ("transport", self.transport.clone()),
            ("sender", self.sender.clone()),
            ("elsewhere", self.elsewhere.clone()),
            ("hostname", HOSTNAME.to_owned()),
            ("sinkaddress", sink.to_string()),
            ("sinkport", port.to_string()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }

    /// The tutorial's statements with these names in them.
    #[must_use]
    pub fn seed(&self, statements: &[String]) -> Vec<String> {
        let put = |text: &String| {
            text.replace(LITERAL_DOMAIN, &self.domain)
                .replace(LITERAL_TRANSPORT, &self.transport)
        };
        statements.iter().map(put).collect()
    }

    /// Of a case that has to do with an account that was there before.
    #[must_use]
    pub fn of_account(account: &Account) -> Self {
        Self {
            domain: account.domain().to_owned(),
            transport: "transport.invalid".to_owned(),
            sender: account.sender.clone(),
            elsewhere: account.elsewhere.clone(),
        }
    }
}

/// Every row for one of these names, for an address in it, or for a name below it, as `FROM table
/// WHERE …`. `example.com` does not stand for `otherexample.com`, which may be somebody else's.
#[must_use]
pub fn rows(names: &[&str]) -> Vec<String> {
    let keys = [
        ("domains", "domain"),
        ("forwardings", "email"),
        ("transport", "domain"),
        ("users", "email"),
    ];
    keys.iter()
        .map(|(table, column)| {
            let of = |name| {
                format!(
                    "{column} = '{name}' OR {column} LIKE '%@{name}' OR {column} LIKE '%.{name}'"
                )
            };
            let conditions: Vec<String> = names.iter().map(of).collect();
            format!("FROM {table} WHERE {}", conditions.join(" OR "))
        })
        .collect()
}

/// Removes these rows.
#[must_use]
pub fn removal(names: &[&str]) -> Vec<String> {
    let delete = |rows: String| format!("DELETE {rows}");
    rows(names).into_iter().map(delete).collect()
}

/// The statements of a file: each ends with a semicolon at the end of a line; `--` lines are comments.
pub fn statements(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut current = String::new();
    for line in text.lines().map(str::trim_end) {
        if line.is_empty() || line.starts_with("--") {
            continue;
        }
        current.push_str(line);
        current.push('\n');
        if line.ends_with(';') {
            all.push(
                std::mem::take(&mut current)
                    .trim_end()
                    .trim_end_matches(';')
                    .to_owned(),
            );
        }
    }
    if !current.trim().is_empty() {
        all.push(current.trim_end().to_owned());
    }
    all
}
