//! Text with `$names`: found and checked when the file is read, replaced when the case runs.
//!
//! `$name`, `$base64(TEXT)`, `$plain(USER PASSWORD)`, `$times(N TEXT)` and `$$`; the brackets may hold names
//! themselves. The escapes of `bytes` and `line` are decoded after the names were replaced, so a
//! table's cell may hold them.

use std::collections::BTreeMap;

use base64ct::{Base64, Encoding};

use super::Text;

/// Brackets in brackets, and values that hold names: deeper is a slip, and bounds the recursion.
const DEEPEST: usize = 8;
/// The tutorial's account as scenarios write it, and its password.
pub const ADDRESS: &str = "address@$domain";
/// See [`ADDRESS`].
pub const PASSWORD: &str = "mypassword";

/// What stands in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// As it is.
    Plain(&'a str),
    /// `$$`
    Dollar,
    /// `$name`, and where.
    Name(&'a str, usize),
    /// `$name(inside)`, where the name stands, and where the inside.
    Call(&'a str, usize, &'a str, usize),
    /// A `$` that begins nothing, and where.
    Lone(usize),
    /// `$name(` without its end, and where.
    Open(usize, usize),
}

/// The parts of a text, in order.
pub(crate) fn parts(raw: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(rest) = raw.get(at..).filter(|rest| !rest.is_empty()) {
        let Some(dollar) = rest.find('$') else {
            parts.push(Part::Plain(rest));
            break;
        };
        if let Some(plain) = rest.get(..dollar).filter(|plain| !plain.is_empty()) {
            parts.push(Part::Plain(plain));
        }
        at += dollar;
        let (part, len) = part(raw, at);
        parts.push(part);
        at += len;
    }
    parts
}

/// The part that begins with the dollar sign at `at`, and its length.
fn part(raw: &str, at: usize) -> (Part<'_>, usize) {
    let rest = raw.get(at + 1..).unwrap_or_default();
    if rest.starts_with('$') {
        return (Part::Dollar, 2);
    }
    let len = rest.find(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit());
    let name = rest.get(..len.unwrap_or(rest.len())).unwrap_or_default();
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        return (Part::Lone(at), 1);
    }
    let after = rest.get(name.len()..).unwrap_or_default();
    if !after.starts_with('(') || !super::words::FUNCTIONS.contains(&name) {
        return (Part::Name(name, at), 1 + name.len());
    }
    let mut open = 0_usize;
    for (i, c) in after.char_indices() {
        match c {
            '(' => open += 1,
            ')' => open -= 1,
            _ => {}
        }
        if open == 0 {
            let inside = after.get(1..i).unwrap_or_default();
            let inside_at = at + 1 + name.len() + 1;
            return (
                Part::Call(name, at, inside, inside_at),
                1 + name.len() + i + 1,
            );
        }
    }
    (Part::Open(at, 1 + raw.len() - at - 1), raw.len() - at)
}

/// The text with its names replaced. A value may hold names itself (a cell `x@$elsewhere`); what
/// the parser would have refused stays as it is.
#[must_use]
pub fn expand(text: &Text, names: &BTreeMap<String, String>) -> String {
    expand_str(&text.raw, names)
}

/// As [`expand`], for text that has no place in a file.
#[must_use]
pub fn expand_str(raw: &str, names: &BTreeMap<String, String>) -> String {
    replace(raw, names, 0)
}

fn replace(raw: &str, names: &BTreeMap<String, String>, depth: usize) -> String {
    if depth > DEEPEST {
        return raw.to_owned();
    }
    // Where an account was there before the run, it takes the place of the tutorial's.
    let given = names.contains_key("account").then(|| {
        raw.replace(ADDRESS, "$account")
            .replace(PASSWORD, "$password")
    });
    let raw = given.as_deref().unwrap_or(raw);
    let mut out = String::with_capacity(raw.len());
    for part in parts(raw) {
        match part {
            Part::Plain(plain) => out.push_str(plain),
            Part::Dollar | Part::Lone(_) => out.push('$'),
            Part::Name(name, _) => {
                if let Some(value) = names.get(name) {
                    out.push_str(&replace(value, names, depth + 1));
                } else {
                    out.push('$');
                    out.push_str(name);
                }
            }
            Part::Call(function, _, inside, _) => {
                let inside = replace(inside, names, depth + 1);
                out.push_str(&match function {
                    "plain" => plain(&inside),
                    "times" => times(&inside).unwrap_or_default(),
                    _ => base64(&inside),
                });
            }
            Part::Open(at, _) => out.push_str(raw.get(at..).unwrap_or_default()),
        }
    }
    out
}

/// Escapes inside are decoded, so `$base64(\0user\0password)` can be said.
fn base64(inside: &str) -> String {
    let octets = unescape(inside).unwrap_or_else(|_| inside.as_bytes().to_vec());
    Base64::encode_string(&octets)
}

/// RFC 4616: no authorization identity, NUL, who, NUL, password.
fn plain(inside: &str) -> String {
    let (user, password) = inside.split_once(' ').unwrap_or((inside, ""));
    Base64::encode_string(format!("\0{user}\0{password}").as_bytes())
}

/// `N TEXT`: the text N times; `None`: no number from 1 to 100000, or no text.
pub(crate) fn times(inside: &str) -> Option<String> {
    let (number, text) = inside.split_once(' ')?;
    let digits = number.bytes().all(|octet| octet.is_ascii_digit());
    let number: usize = number.parse().ok().filter(|_| digits)?;
    let good = (1..=100_000).contains(&number) && !text.is_empty() && text.len() <= 1000;
    good.then(|| text.repeat(number))
}

/// An escape that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such escape at octet {at}: expected \\r \\n \\t \\0 \\\\ or \\xHH")]
pub struct BadEscape {
    /// Octets of the text before it.
    pub at: usize,
    /// Octets in it.
    pub len: usize,
}

/// The octets that a text of `bytes` or `line` stands for: `\r \n \t \0 \\ \xHH`.
pub fn unescape(text: &str) -> Result<Vec<u8>, BadEscape> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (plain, escape) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let (octet, len) = match escape.as_bytes() {
            [_, b'r', ..] => (b'\r', 2),
            [_, b'n', ..] => (b'\n', 2),
            [_, b't', ..] => (b'\t', 2),
            [_, b'0', ..] => (0, 2),
            [_, b'\\', ..] => (b'\\', 2),
            [_, b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digits = escape.get(2..4).unwrap_or_default();
                (u8::from_str_radix(digits, 16).unwrap_or_default(), 4)
            }
            _ => {
                let len = escape.chars().take(2).map(char::len_utf8).sum();
                return Err(BadEscape {
                    at: text.len() - escape.len(),
                    len,
                });
            }
        };
        out.push(octet);
        rest = escape.get(len..).unwrap_or_default();
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}
