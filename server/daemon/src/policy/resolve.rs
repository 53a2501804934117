//! Where the mail of an address goes: the class of its domain, then transport(5).

use crate::tables::Failed;
use vmaild_protocol::Mailbox;

/// What delivers the mail of one final recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// virtual(8): a Maildir under virtual_mailbox_base.
    Mailbox,
    /// smtp(8) or relay: a next hop.
    Smtp {
        /// The host or domain whose mail exchangers are asked; `[host]` means no MX.
        nexthop: String,
        /// The port after the host, or smtp_tcp_port.
        port: Option<u16>,
    },
    /// error(8): bounced with this status and text (`error:5.1.1 text`).
    Error {
        /// `5.1.1`
        status: String,
        /// The reason.
        text: String,
    },
    /// discard(8).
    Discard,
    /// A transport that does not exist here: the mail is put off, with a log line.
    Unknown(String),
}

/// Where mail for `mailbox` goes (transport_maps: address, domain, .parent domains, `*`; then the class).
pub async fn route(params: &crate::config::Params, mailbox: &Mailbox) -> Result<Route, Failed> {
    let _ = (params, mailbox);
    Ok(Route::Mailbox)
}
