//! Paths and mailboxes of the envelope (RFC 5321 §4.1.2).
//!
//! Read is what RFC 5321 allows, and of what clients get wrong only that which has one meaning:
//! missing or doubled brackets, blanks next to the brackets and the `@`, dots in odd places, words
//! and quoted words mixed. Refused is what two readers could understand in two ways: a second `@`
//! outside quotes, comments, control characters, an empty local part before a domain.
//!
//! Written is what RFC 5321 allows: a local part that needs quotes gets them.
use alloc::string::String;
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::{Chars, FromStr};

/// The longest domain, in octets (RFC 5321 §4.5.3.1.2).
const DOMAIN_LIMIT: usize = 255;
/// The longest label of a domain (RFC 1035 §2.3.4).
const LABEL_LIMIT: usize = 63;

/// A mailbox: local part and domain, without quotes and without a source route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Mailbox {
    /// The local part, unquoted, case kept (RFC 5321 §2.4).
    pub local: String,
    /// The domain, or `[literal]` with its brackets; empty for bare `postmaster` and other unqualified names.
    pub domain: String,
}

/// MAIL FROM (RFC 5321 §4.1.1.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum ReversePath {
    /// `<>`: a notice about which no notice may be sent.
    #[default]
    Null,
    /// Where failures are reported to.
    Mailbox(Mailbox),
}

/// The text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadAddress;

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an address: expected local-part@domain")
    }
}

impl core::error::Error for BadAddress {}

impl Mailbox {
    /// The key under which tables know this mailbox: `local@domain`, the local part unquoted, both
    /// in lower case (all of Unicode, not only ASCII). An unqualified mailbox gives
    /// its local part alone. The key is for looking up, not for sending: `"a b"@c` gives `a b@c`.
    pub fn key(&self) -> String {
        let mut key = folded(&self.local);
        if !self.domain.is_empty() {
            key.push('@');
            key.push_str(&folded(&self.domain));
        }
        key
    }

    /// Whether it is bare `postmaster`, in any case (RFC 5321 §4.5.1).
    pub fn is_bare_postmaster(&self) -> bool {
        self.domain.is_empty() && self.local.eq_ignore_ascii_case("postmaster")
    }

    /// Whether it can be written without SMTPUTF8 (RFC 6531 §3.2).
    pub fn is_ascii(&self) -> bool {
        self.local.is_ascii() && self.domain.is_ascii()
    }
}

/// In lower case, for looking up. What is not ASCII does not become ASCII by it: the sign for kelvin
/// is no k, and who is named with it is somebody else.
pub fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for letter in text.chars() {
        if !letter.is_ascii() && letter.to_lowercase().any(|lower| lower.is_ascii()) {
            folded.push(letter);
        } else {
            folded.extend(letter.to_lowercase());
        }
    }
    folded
}

/// A mailbox as it stands in a command, a table row or a configuration file, with or without
/// brackets and quotes. The null path is none.
impl FromStr for Mailbox {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        match text.parse()? {
            ReversePath::Mailbox(mailbox) => Ok(mailbox),
            ReversePath::Null => Err(BadAddress),
        }
    }
}

/// The local part is quoted where it must be.
impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        // What was parsed holds no control character; what was put together by hand may.
        let safe = |letter: char| if letter.is_control() { '?' } else { letter };
        let is_atom = |word: &str| !word.is_empty() && word.chars().all(is_atext);
        if self.local.split('.').all(is_atom) {
            f.write_str(&self.local)?;
        } else {
            f.write_char('"')?;
            for letter in self.local.chars().map(safe) {
                if matches!(letter, '"' | '\\') {
                    f.write_char('\\')?;
                }
                f.write_char(letter)?;
            }
            f.write_char('"')?;
        }
        if !self.domain.is_empty() {
            f.write_char('@')?;
        }
        let mut domain = self.domain.chars().map(safe);
        domain.try_for_each(|letter| f.write_char(letter))
    }
}

impl ReversePath {
    /// The mailbox to report to, unless there is none.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }
}

/// A path as it stands in MAIL FROM; `<>`, `""` and nothing at all are the null path.
impl FromStr for ReversePath {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let text = without_source_route(without_brackets(text)?)?;
        let (local, rest) = local_part(text.trim_start_matches(BLANKS))?;
        let rest = rest.trim_matches(BLANKS);
        let domain = match rest.strip_prefix('@') {
            Some(domain) => domain.trim_start_matches(BLANKS),
            None if rest.is_empty() && local.is_empty() => return Ok(Self::Null),
            // A quoted address without a domain would be taken for the address in the quotes.
            None if rest.is_empty() && !local.contains('@') => {
                let domain = String::new();
                return Ok(Self::Mailbox(Mailbox { local, domain }));
            }
            None => return Err(BadAddress),
        };
        let domain = domain.strip_suffix('.').unwrap_or(domain);
        if local.is_empty() || !(is_domain(domain) || is_literal(domain)) {
            return Err(BadAddress);
        }
        let domain = domain.into();
        Ok(Self::Mailbox(Mailbox { local, domain }))
    }
}

/// `<>` or `<local@domain>`, as MAIL FROM and Return-Path have it.
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("<>"),
            Self::Mailbox(mailbox) => write!(f, "<{mailbox}>"),
        }
    }
}

/// The path at the beginning of a command's argument and what stands behind it: the path ends at
/// the first blank outside quotes and brackets. One that is not closed ends nowhere, and is refused
/// when it is read.
pub(crate) fn cut_path(text: &str) -> (&str, &str) {
    let (mut quoted, mut escaped, mut depth) = (false, false, 0_usize);
    let ends = |&(_, letter): &(usize, char)| {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '<' => depth = depth.saturating_add(1),
            '>' => depth = depth.saturating_sub(1),
            _ => return depth == 0 && BLANKS.contains(&letter),
        }
        false
    };
    let end = text.char_indices().find(ends);
    text.split_at(end.map_or(text.len(), |(at, _)| at))
}

/// Blanks as Postfix counts them.
pub(crate) const BLANKS: &[char] = &[' ', '\t', '\r', '\u{b}', '\u{c}'];

/// What is inside the brackets, however many pairs there are.
fn without_brackets(text: &str) -> Result<&str, BadAddress> {
    let mut text = text.trim_matches(BLANKS);
    while let Some(open) = text.strip_prefix('<') {
        let inner = open.strip_suffix('>').ok_or(BadAddress)?;
        text = inner.trim_matches(BLANKS);
    }
    Ok(text)
}

/// `@a.example,@b.example:` in front of an address is dropped (RFC 5321 §4.1.1.3, appendix C).
fn without_source_route(text: &str) -> Result<&str, BadAddress> {
    if !text.starts_with('@') {
        return Ok(text);
    }
    let (route, address) = text.split_once(':').ok_or(BadAddress)?;
    let hop = |hop: &str| {
        let host = hop.trim_matches(BLANKS).strip_prefix('@');
        host.is_some_and(|host| is_domain(host) || is_literal(host))
    };
    route
        .split(',')
        .all(hop)
        .then_some(address)
        .ok_or(BadAddress)
}

/// Words and quoted words with dots between them, unquoted, and what stands behind them.
fn local_part(text: &str) -> Result<(String, &str), BadAddress> {
    let mut local = String::new();
    let mut letters = text.chars();
    // Whether a quoted word may begin here, and whether one has just ended.
    let (mut open, mut closed) = (true, false);
    loop {
        let rest = letters.as_str();
        match letters.next() {
            Some('"') if open => {
                quoted_word(&mut letters, &mut local)?;
                (open, closed) = (false, true);
            }
            Some('.') => {
                local.push('.');
                (open, closed) = (true, false);
            }
            Some(letter) if is_atext(letter) && !closed => {
                local.push(letter);
                open = false;
            }
            _ => return Ok((local, rest)),
        }
    }
}

/// The rest of a quoted word, to its closing quote (RFC 5321 §4.1.2, Quoted-string).
fn quoted_word(letters: &mut Chars<'_>, local: &mut String) -> Result<(), BadAddress> {
    loop {
        let letter = match letters.next().ok_or(BadAddress)? {
            '"' => return Ok(()),
            '\\' => letters.next().ok_or(BadAddress)?,
            letter => letter,
        };
        if letter.is_control() {
            return Err(BadAddress);
        }
        local.push(letter);
    }
}

/// A letter of an Atom (RFC 5321 §4.1.2, RFC 5322 §3.2.3; beyond ASCII: RFC 6531 §3.3).
fn is_atext(letter: char) -> bool {
    letter.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~".contains(letter)
        || is_beyond_ascii(letter)
}

/// A letter that only SMTPUTF8 allows; blanks and controls are none in any script.
fn is_beyond_ascii(letter: char) -> bool {
    !letter.is_ascii() && !letter.is_control() && !letter.is_whitespace()
}

/// Whether it is a domain: labels of letters, digits, `-`, `_` (RFC 5321 §4.1.2, with the underscore
/// of many real names), not only digits. Beyond ASCII: RFC 6531 §3.3.
pub fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=LABEL_LIMIT).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|letter| {
                letter.is_ascii_alphanumeric()
                    || matches!(letter, '-' | '_')
                    || is_beyond_ascii(letter)
            })
    };
    text.len() <= DOMAIN_LIMIT
        && text.split('.').all(label)
        && text.contains(|letter: char| !letter.is_ascii_digit() && letter != '.')
}

/// Whether it is an address literal in its brackets (RFC 5321 §4.1.3).
fn is_literal(text: &str) -> bool {
    let text = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    text.is_some_and(|text| match text.split_once(':') {
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6") => {
            address.parse::<Ipv6Addr>().is_ok()
        }
        _ => text.parse::<Ipv4Addr>().is_ok(),
    })
}
