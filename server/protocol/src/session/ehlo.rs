//! EHLO and HELO (RFC 5321 §4.1.1.1): what is offered, and what is kept of the client's name.
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::link::Link;
use crate::reply::Reply;

/// The longest client name that is kept (RFC 5321 §4.5.3.1.2).
const NAME_LIMIT: usize = 255;

/// The reply to EHLO: keywords and their order are Postfix's.
pub(super) fn capabilities(link: &Link) -> Reply {
    let settings = &link.settings;
    let mut lines: Vec<String> = Vec::new();
    lines.push(settings.hostname.clone());
    lines.push("PIPELINING".into());
    lines.push(match settings.message_size_limit {
        0 => "SIZE".into(),
        limit => format!("SIZE {limit}"),
    });
    lines.extend(["VRFY", "ETRN"].map(String::from));
    if settings.starttls && !link.tls {
        lines.push("STARTTLS".into());
    }
    if settings.auth && (link.tls || !settings.auth_needs_tls) {
        lines.push("AUTH PLAIN LOGIN".into());
        if settings.auth_equals {
            lines.push("AUTH=PLAIN LOGIN".into());
        }
    }
    lines.extend(
        [
            "ENHANCEDSTATUSCODES",
            "8BITMIME",
            "DSN",
            "SMTPUTF8",
            "CHUNKING",
        ]
        .map(String::from),
    );
    Reply::multi(250, lines)
}

/// The client's name for Received: what could end it, quote it or comment it there becomes `?`.
pub(super) fn sanitised(name: &str) -> String {
    name.chars()
        .take(NAME_LIMIT)
        .map(|letter| match letter {
            '<' | '>' | '(' | ')' | '\\' | '"' | ';' | '@' => '?',
            '!'..='~' => letter,
            _ => '?',
        })
        .collect()
}
