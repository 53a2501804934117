//! Paths and mailboxes of the envelope (RFC 5321 §4.1.2).
use alloc::string::String;

/// A mailbox: local part and domain, without quotes and without a source route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mailbox {
    /// The local part, unquoted, case kept (RFC 5321 §2.4).
    pub local: String,
    /// The domain, or `[literal]` with its brackets; empty for bare `postmaster` and other unqualified names.
    pub domain: String,
}

/// MAIL FROM (RFC 5321 §4.1.1.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: a notice about which no notice may be sent.
    Null,
    /// Where failures are reported to.
    Mailbox(Mailbox),
}
