//! Where the mail of an address goes: the class of its domain, then transport(5).

use crate::config::{Params, port_number};
use crate::tables::{Failed, Lookup, address_keys, split_extension};
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

/// What a domain is to this server (Postfix's ADDRESS_CLASS_README), in the order in which it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// In mydestination, or the server's own address in brackets.
    Local,
    /// In virtual_alias_domains.
    Alias,
    /// In virtual_mailbox_domains.
    Mailbox,
    /// In relay_domains.
    Relay,
    /// None of these.
    Remote,
}

impl Class {
    /// reject_unauth_destination lets mail for it through.
    pub fn takes_from_everybody(self) -> bool {
        self != Self::Remote
    }

    /// A route that refuses is then the table's word, not that of the class itself.
    pub fn takes_routes(self) -> bool {
        !matches!(self, Self::Local | Self::Alias)
    }

    /// What is said of a recipient who is not in the table in which he would have to be.
    pub fn unknown_user(self) -> String {
        let table = match self {
            Self::Local => "local recipient",
            Self::Alias => "virtual alias",
            Self::Mailbox => "virtual mailbox",
            Self::Relay | Self::Remote => "relay recipient",
        };
        format!("User unknown in {table} table")
    }
}

/// The mailbox with the domain that it has or, unqualified, gets (postconf(5) myorigin).
pub fn qualified(params: &Params, mailbox: &Mailbox) -> Mailbox {
    let domain = match mailbox.domain.strip_suffix('.').unwrap_or(&mailbox.domain) {
        "" => &params.myorigin,
        domain => domain,
    };
    Mailbox {
        local: mailbox.local.clone(),
        domain: domain.to_lowercase(),
    }
}

/// The class of the domain of a qualified mailbox.
pub async fn class(params: &Params, mailbox: &Mailbox) -> Result<Class, Failed> {
    let domain = mailbox.domain.as_str();
    if let Some(literal) = domain
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let literal = literal.strip_prefix("ipv6:").unwrap_or(literal);
        let own = literal
            .parse()
            .is_ok_and(|ip| params.inet_interfaces.includes(ip));
        return Ok(if own { Class::Local } else { Class::Remote });
    }
    for (tables, class) in [
        (&params.mydestination, Class::Local),
        (&params.virtual_alias_domains, Class::Alias),
        (&params.virtual_mailbox_domains, Class::Mailbox),
    ] {
        if tables.get(domain).await?.is_some() {
            return Ok(class);
        }
    }
    // postconf(5) parent_domain_matches_subdomains has relay_domains in it.
    let parents: Vec<String> = parents(domain).map(str::to_owned).collect();
    if params.relay_domains.first(&parents).await?.is_some() {
        return Ok(Class::Relay);
    }
    Ok(Class::Remote)
}

/// `domain`, then each domain above it.
fn parents(domain: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(domain), |domain| {
        domain.split_once('.').map(|(_, parent)| parent)
    })
}

/// postmaster of a domain whose mail ends here must be there, and that of no domain, which gets
/// myorigin (RFC 5321 §4.5.1).
fn is_postmaster_here(params: &Params, mailbox: &Mailbox, class: Class) -> bool {
    let here = matches!(class, Class::Local | Class::Alias | Class::Mailbox)
        || mailbox.domain.eq_ignore_ascii_case(&params.myorigin);
    here && mailbox.local.eq_ignore_ascii_case("postmaster")
}

/// The keys of virtual_alias_maps for a qualified mailbox, in order (virtual(5)): the bare name is
/// asked as well in the server's own domains.
pub fn alias_keys(params: &Params, mailbox: &Mailbox, own: bool) -> Vec<String> {
    let mut keys = address_keys(&mailbox.local, &mailbox.domain, params.recipient_delimiter);
    if own || mailbox.domain.eq_ignore_ascii_case(&params.myorigin) {
        let bare = address_keys(&mailbox.local, "", params.recipient_delimiter);
        keys.splice(keys.len() - 1..keys.len() - 1, bare);
    }
    keys
}

/// Whether the recipient exists (postconf(5) reject_unlisted_recipient).
pub async fn is_known(params: &Params, mailbox: &Mailbox, class: Class) -> Result<bool, Failed> {
    if is_postmaster_here(params, mailbox, class) {
        return Ok(true);
    }
    let keys = alias_keys(params, mailbox, class == Class::Local);
    if params.virtual_alias_maps.first(&keys).await?.is_some() {
        return Ok(true);
    }
    Ok(match class {
        Class::Local | Class::Alias => false,
        Class::Mailbox => mailbox_path(params, mailbox).await?.is_some(),
        Class::Relay | Class::Remote => true,
    })
}

/// The folder of a mailbox below virtual_mailbox_base, as its table says; not to be trusted.
///
/// postmaster has one of that name where no row says otherwise.
pub async fn mailbox_path(params: &Params, mailbox: &Mailbox) -> Lookup {
    let maps = &params.virtual_mailbox_maps;
    let found = maps
        .find(&mailbox.local, &mailbox.domain, params.recipient_delimiter)
        .await?;
    let postmaster = mailbox.local.eq_ignore_ascii_case("postmaster");
    Ok(found.or_else(|| postmaster.then(|| "postmaster/".to_owned())))
}

/// Where mail for `mailbox` goes (transport_maps: address, domain, .parent domains, `*`; then the class).
pub async fn route(params: &Params, mailbox: &Mailbox) -> Result<Route, Failed> {
    let mailbox = qualified(params, mailbox);
    let class = class(params, &mailbox).await?;
    route_in(params, &mailbox, class).await
}

/// `route` for a qualified mailbox whose class is known.
pub async fn route_in(params: &Params, mailbox: &Mailbox, class: Class) -> Result<Route, Failed> {
    let (local, domain) = (&mailbox.local, &mailbox.domain);
    let mut keys = vec![format!("{local}@{domain}")];
    if let Some((user, _)) = split_extension(local, params.recipient_delimiter) {
        keys.push(format!("{user}@{domain}"));
    }
    keys.push(domain.clone());
    keys.extend(parents(domain).skip(1).map(|parent| format!(".{parent}")));
    keys.push("*".to_owned());
    let default = default_route(params, mailbox, class);
    Ok(match params.transport_maps.first(&keys).await? {
        Some((_, value)) => parse(&value, default, domain),
        None => default,
    })
}

fn default_route(params: &Params, mailbox: &Mailbox, class: Class) -> Route {
    if is_postmaster_here(params, mailbox, class) {
        return Route::Mailbox;
    }
    match class {
        Class::Mailbox => Route::Mailbox,
        Class::Local | Class::Alias => Route::Error {
            status: "5.1.1".to_owned(),
            text: class.unknown_user(),
        },
        Class::Relay | Class::Remote => {
            next_hop(&params.relayhost).unwrap_or_else(|| to_domain(&mailbox.domain))
        }
    }
}

fn to_domain(domain: &str) -> Route {
    Route::Smtp {
        nexthop: domain.to_owned(),
        port: None,
    }
}

/// The transports that a row of transport_maps may name, for the manual: what is not here is unknown.
pub(crate) const TRANSPORTS: [(&str, &str); 5] = [
    (
        "smtp",
        "By SMTP to the next hop: `host` or `domain` (its mail exchangers), `[host]` (that host), each with `:port`; without one, to the recipient's domain.",
    ),
    ("relay", "The same as smtp."),
    (
        "virtual",
        "Into the recipient's Maildir; a next hop does not count.",
    ),
    (
        "error",
        "Back to the sender, with the text behind the colon, which may begin with a status: `error:5.1.2 no such domain`.",
    ),
    ("discard", "Nowhere, as if it had been delivered."),
];

/// A value of transport_maps for an address in `domain`, whose mail goes by `default` otherwise.
fn parse(value: &str, default: Route, domain: &str) -> Route {
    let unknown = || Route::Unknown(value.to_owned());
    let (transport, hop) = value.split_once(':').unwrap_or((value, ""));
    let hop = hop.trim();
    let smtp = || match hop {
        "" => to_domain(domain),
        hop => next_hop(hop).unwrap_or_else(unknown),
    };
    match transport {
        "" => match default {
            Route::Smtp { .. } if !hop.is_empty() => smtp(),
            other => other,
        },
        "smtp" | "relay" => smtp(),
        "virtual" => Route::Mailbox,
        "discard" => Route::Discard,
        "error" => {
            let (status, text) = status_and_text(hop, '5');
            Route::Error { status, text }
        }
        _ => unknown(),
    }
}

/// `5.1.2 text` of an `error:` route. A status of another class gets the one that it must have.
pub fn status_and_text(value: &str, class: char) -> (String, String) {
    let value = value.trim();
    let (word, rest) = value.split_once(' ').unwrap_or((value, ""));
    let parts: Vec<&str> = word.split('.').collect();
    let number =
        |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let is_status =
        parts.len() == 3 && parts.iter().all(number) && ["2", "4", "5"].contains(&parts[0]);
    let (status, text) = match parts.as_slice() {
        [_, subject, detail] if is_status => (format!("{class}.{subject}.{detail}"), rest.trim()),
        _ => (format!("{class}.1.1"), value),
    };
    let text = if text.is_empty() {
        "Address is undeliverable"
    } else {
        text
    };
    (status, text.to_owned())
}

/// `host`, `host:port`, `[host]` or `[host]:port`.
pub fn next_hop(text: &str) -> Option<Route> {
    let end = if text.starts_with('[') {
        text.find(']')? + 1
    } else {
        text.find(':').unwrap_or(text.len())
    };
    let (host, behind) = text.split_at(end);
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let name = inner.unwrap_or(host);
    let literal = name.strip_prefix("IPv6:").unwrap_or(name);
    let is_ip = inner.is_some() && literal.parse::<std::net::Ipv6Addr>().is_ok();
    let of_a_name = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    if !is_ip && (name.is_empty() || !name.bytes().all(of_a_name)) {
        return None;
    }
    let port = match behind.strip_prefix(':') {
        Some(port) => Some(port_number(port)?),
        None if behind.is_empty() => None,
        None => return None,
    };
    let nexthop = host.to_owned();
    Some(Route::Smtp { nexthop, port })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn smtp(nexthop: &str, port: impl Into<Option<u16>>) -> Route {
        Route::Smtp {
            nexthop: nexthop.to_owned(),
            port: port.into(),
        }
    }

    fn error(status: &str, text: &str) -> Route {
        Route::Error {
            status: status.to_owned(),
            text: text.to_owned(),
        }
    }

    fn unknown(value: &str) -> Route {
        Route::Unknown(value.to_owned())
    }

    // The values of oracle group T10; the address is in transport.com, a domain of others.
    #[rstest]
    #[case("smtp:mail.transport.com", smtp("mail.transport.com", None))]
    #[case("smtp:[127.0.0.9]:2525", smtp("[127.0.0.9]", 2525))]
    #[case(":[127.0.0.9]:2525", smtp("[127.0.0.9]", 2525))]
    #[case("relay:[127.0.0.9]", smtp("[127.0.0.9]", None))]
    #[case("smtp:mx.ext.example:2525", smtp("mx.ext.example", 2525))]
    #[case("smtp:[mx.ext.example]:smtp", smtp("[mx.ext.example]", 25))]
    #[case("smtp:127.0.0.9:2525", smtp("127.0.0.9", 2525))]
    #[case("smtp:[::1]:2525", smtp("[::1]", 2525))]
    #[case("smtp:[IPv6:::1]:2525", smtp("[IPv6:::1]", 2525))]
    #[case("smtp:[127.0.0.9]:2525 ", smtp("[127.0.0.9]", 2525))]
    #[case("smtp: [127.0.0.9]:2525", smtp("[127.0.0.9]", 2525))]
    #[case("smtp:", smtp("transport.com", None))]
    #[case("smtp", smtp("transport.com", None))]
    #[case(":", smtp("default.example", None))]
    #[case(
        "error:5.1.2 no such domain here",
        error("5.1.2", "no such domain here")
    )]
    #[case("error:mail is not accepted", error("5.1.1", "mail is not accepted"))]
    #[case("error:4.2.1 later", error("5.2.1", "later"))]
    #[case("error:", error("5.1.1", "Address is undeliverable"))]
    #[case("discard:", Route::Discard)]
    #[case("discard:silently", Route::Discard)]
    #[case("virtual:", Route::Mailbox)]
    #[case("foo", unknown("foo"))]
    #[case(
        "nosuchtransport:[127.0.0.9]:2525",
        unknown("nosuchtransport:[127.0.0.9]:2525")
    )]
    #[case("local:", unknown("local:"))]
    #[case("lmtp:[127.0.0.9]", unknown("lmtp:[127.0.0.9]"))]
    #[case("SMTP:[127.0.0.9]", unknown("SMTP:[127.0.0.9]"))]
    #[case(" smtp:[127.0.0.9]", unknown(" smtp:[127.0.0.9]"))]
    #[case("smtp:[127.0.0.9", unknown("smtp:[127.0.0.9"))]
    #[case("smtp:[127.0.0.9]:99999", unknown("smtp:[127.0.0.9]:99999"))]
    #[case("smtp:[127.0.0.9]:abc", unknown("smtp:[127.0.0.9]:abc"))]
    #[case("smtp:[]:2525", unknown("smtp:[]:2525"))]
    #[case("smtp:[a]:25, [b]:25", unknown("smtp:[a]:25, [b]:25"))]
    #[case("smtp:[a]:25\nsmtp:x", unknown("smtp:[a]:25\nsmtp:x"))]
    #[case("http://x", unknown("http://x"))]
    fn a_transport_value_is_a_route(#[case] value: &str, #[case] route: Route) {
        assert_eq!(
            parse(value, smtp("default.example", None), "transport.com"),
            route
        );
    }

    #[rstest]
    #[case(":[127.0.0.9]:2525")]
    #[case(":")]
    fn a_next_hop_without_transport_leaves_a_hosted_domain_here(#[case] value: &str) {
        assert_eq!(parse(value, Route::Mailbox, "mydomain.com"), Route::Mailbox);
    }
}
