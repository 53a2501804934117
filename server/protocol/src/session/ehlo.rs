//! EHLO and HELO (RFC 5321 §4.1.1.1): what is offered, and what is kept of the client's name.
use alloc::format;
use alloc::string::String;

use super::link::Link;
use crate::reply::Reply;

/// The longest client name that is kept (RFC 5321 §4.5.3.1.2).
const NAME_LIMIT: usize = 255;

/// The reply to EHLO: keywords and their order are Postfix's.
pub(super) fn capabilities(link: &Link) -> Reply {
    let settings = &link.settings;
    let size = match settings.message_size_limit {
        0 => "SIZE".into(),
        limit => format!("SIZE {limit}"),
    };
    let auth = settings.auth && (link.tls || !settings.auth_needs_tls);
    let lines = [
        (settings.hostname.as_str(), true),
        ("PIPELINING", true),
        (&size, true),
        ("VRFY", true),
        ("ETRN", true),
        ("STARTTLS", settings.starttls && !link.tls),
        ("AUTH PLAIN LOGIN", auth),
        ("AUTH=PLAIN LOGIN", auth && settings.auth_equals),
        ("ENHANCEDSTATUSCODES", true),
        ("8BITMIME", true),
        ("DSN", true),
        ("SMTPUTF8", true),
        ("CHUNKING", true),
    ];
    let offered = lines.into_iter().filter(|&(_, offered)| offered);
    Reply::multi(250, offered.map(|(line, _)| line))
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
