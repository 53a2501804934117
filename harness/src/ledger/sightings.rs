//! Where messages of a case were seen: its Maildirs, its sink, and the bounces in either.

use std::collections::BTreeSet;
use std::fmt;

use super::body::Body;
use super::follow::Transaction;
use crate::driver::Stage;
use crate::driver::canary::is_canary;
use crate::names::{Tokens, field, token_of};
use crate::probe::report::{Fields, Report};

/// A message in a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The token in its header, or in the header that a bounce returns.
    pub token: Option<String>,
    /// Where.
    pub place: Place,
    /// X-Original-To, or a bounce's Original-Recipient.
    pub original_to: Option<String>,
    /// Delivered-To.
    pub delivered_to: Option<String>,
    /// Its body, unless it is a bounce.
    pub body: Option<Body>,
}

/// Where a message can be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the Maildir of this address.
    Maildir(String),
    /// At the sink, for this recipient.
    Sink(String),
    /// In a report of failure.
    Bounce {
        /// Final-Recipient.
        recipient: String,
        /// To whom the report came.
        to: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Maildir(address) => write!(f, "in the Maildir of {address}"),
            Self::Sink(address) => write!(f, "at the sink for <{address}>"),
            Self::Bounce { recipient, to } => {
                write!(
                    f,
                    "in a report to <{to}> that delivery to <{recipient}> failed"
                )
            }
        }
    }
}

impl Sighting {
    /// Whether it is of the message with this token.
    #[must_use]
    pub fn is_of(&self, token: &str) -> bool {
        self.token.as_deref() == Some(token)
    }

    /// Whether it accounts for this recipient of the envelope.
    #[must_use]
    pub fn is_for(&self, address: &str) -> bool {
        let here = match &self.place {
            Place::Maildir(of) | Place::Sink(of) | Place::Bounce { recipient: of, .. } => of,
        };
        here.eq_ignore_ascii_case(address) || self.names(address)
    }

    /// Whether its own header names this recipient as the one it was sent to.
    #[must_use]
    pub fn names(&self, address: &str) -> bool {
        self.original_to
            .as_deref()
            .is_some_and(|to| to.eq_ignore_ascii_case(address))
    }
}

/// Everything of the case that can be seen now.
pub async fn collect<S: Stage>(
    stage: &S,
    tokens: &Tokens,
    transactions: &[Transaction],
) -> Result<Vec<Sighting>, String> {
    let mut seen = Vec::new();
    stage.refresh().await?;
    for sunk in stage.sunk() {
        if is_canary(&sunk.content) {
            continue;
        }
        for to in &sunk.to {
            read(&sunk.content, to, &Place::Sink(to.clone()), &mut seen);
        }
    }
    for address in mailboxes(stage, transactions) {
        for mail in stage.mails(&address).await? {
            // What is still being written is not delivered yet.
            let folder = mail.path.parent().and_then(|folder| folder.file_name());
            if folder.is_none_or(|name| name != "tmp") {
                seen.extend(in_mailbox(&mail.content, &address));
            }
        }
    }
    seen.retain(|one| {
        one.token
            .as_deref()
            .is_none_or(|token| !tokens.is_foreign(token))
    });
    Ok(seen)
}

/// What one message in the Maildir of `address` shows.
#[must_use]
pub fn in_mailbox(content: &[u8], address: &str) -> Vec<Sighting> {
    let mut seen = Vec::new();
    if !is_canary(content) {
        read(
            content,
            address,
            &Place::Maildir(address.to_owned()),
            &mut seen,
        );
    }
    seen
}

/// One message in one place: itself, or each failure that it reports.
fn read(content: &[u8], to: &str, place: &Place, into: &mut Vec<Sighting>) {
    let Some(report) = Report::read(content) else {
        into.push(Sighting {
            token: token_of(content),
            place: place.clone(),
            original_to: field(content, "X-Original-To"),
            delivered_to: field(content, "Delivered-To"),
            body: Body::arrived(content),
        });
        return;
    };
    let token = token_of(&report.returned);
    for fields in &report.recipients {
        let value = |name: &str| Report::value(fields, name);
        if !value("Action").is_some_and(|action| action.eq_ignore_ascii_case("failed")) {
            continue;
        }
        let recipient = value("Final-Recipient").map_or("", Report::address);
        into.push(Sighting {
            token: token.clone(),
            place: Place::Bounce {
                recipient: recipient.to_owned(),
                to: to.to_owned(),
            },
            original_to: original(fields),
            delivered_to: None,
            body: None,
        });
    }
}

fn original(fields: &Fields) -> Option<String> {
    Report::value(fields, "Original-Recipient").map(|value| Report::address(value).to_owned())
}

/// Every mailbox that may hold something: those of the case's domains that are there, and those
/// that were asked for.
fn mailboxes<S: Stage>(stage: &S, transactions: &[Transaction]) -> BTreeSet<String> {
    let mut domains: BTreeSet<String> = BTreeSet::new();
    domains.extend(
        stage
            .names()
            .get("domain")
            .map(|domain| domain.to_ascii_lowercase()),
    );
    let mut found = BTreeSet::new();
    for transaction in transactions {
        let envelope = transaction.recipients.iter().map(|one| &one.address);
        for address in envelope.chain([&transaction.from]) {
            if let Some((_, domain)) = address.rsplit_once('@') {
                domains.insert(domain.to_ascii_lowercase());
            }
        }
    }
    for domain in domains {
        // The folder of a domain holds its mailboxes, whatever their names.
        let Some(folder) = stage.maildir(&format!("address@{domain}")) else {
            continue;
        };
        let Some(parent) = folder.parent() else {
            continue;
        };
        if parent.file_name().and_then(|name| name.to_str()) != Some(domain.as_str()) {
            continue;
        }
        let Ok(entries) = std::fs::read_dir(parent) else {
            continue;
        };
        for name in entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.file_name().into_string().ok())
        {
            found.insert(format!("{name}@{domain}"));
        }
    }
    // Where one account has to do, canaries go to it, too, and are told apart by their tokens.
    if !stage.names().contains_key("account") {
        let canary = stage.canary_mailbox();
        found.retain(|address| *address != canary);
    }
    found
}
