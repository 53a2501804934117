//! Virtual alias expansion (virtual(5), cleanup(8)): one recipient of the envelope becomes many.
//!
//! Keys are asked in virtual(5)'s order, each in all tables before the next: `user+ext@domain`,
//! `user@domain`, `@domain`. So a real mailbox, which the second table maps to itself, is never
//! eaten by a catch-all of the first. What a table returns is text from outside: it is taken
//! apart as a list of addresses, and nothing in it is ever a command or a file.

use std::collections::HashSet;

use vmaild_protocol::Mailbox;

use crate::config::Params;
use crate::log;
use crate::policy::resolve;
use crate::tables::{Failed, split_extension};

/// postconf(5) virtual_alias_address_length_limit.
const ADDRESS_LIMIT: usize = 1000;

/// Why an address could not be expanded.
#[derive(Debug, thiserror::Error)]
pub enum Unexpanded {
    /// A table failed: 451 4.3.0.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// A loop, or more levels or addresses than the limits allow: 451 4.6.0 (oracle N05).
    #[error("{0}")]
    TooDeep(String),
}

/// All final addresses of `recipient`, each once, in order; itself where no alias knows it.
///
/// An address that expands to itself among others is final: so a mailbox can keep a copy of what
/// it forwards. Any other way back to an address is a loop.
pub async fn expand(params: &Params, recipient: &Mailbox) -> Result<Vec<Mailbox>, Unexpanded> {
    let first = qualified(params, recipient.clone());
    let mut addresses = vec![first.clone()];
    let mut at = 0;
    // Addresses that expand to themselves: they are not asked about again.
    let mut fixed = HashSet::new();
    while at < addresses.len() {
        let mut chain = HashSet::new();
        loop {
            let address = addresses[at].clone();
            let key = address.key();
            if fixed.contains(&key) {
                break;
            }
            // Before the tables are asked: at this depth even an address that none has is too deep.
            if chain.len() >= params.virtual_alias_recursion_limit || !chain.insert(key.clone()) {
                return Err(too_deep("nesting", &first));
            }
            let Some(found) = lookup(params, &address).await? else {
                break;
            };
            let length = |found: &Mailbox| found.local.len() + found.domain.len();
            if found.iter().any(|found| length(found) > ADDRESS_LIMIT) {
                return Err(too_deep("result length", &first));
            }
            if found.iter().any(|found| found.key() == key) {
                fixed.insert(key);
                // What led here may lead here again: it ends here then.
                chain.clear();
            }
            let mut found = found.into_iter();
            addresses[at] = found.next().unwrap_or(address);
            addresses.extend(found);
            if addresses.len() > params.virtual_alias_expansion_limit {
                return Err(too_deep("expansion size", &first));
            }
        }
        at += 1;
    }
    let mut seen = HashSet::new();
    addresses.retain(|address| seen.insert(address.key()));
    Ok(addresses)
}

fn too_deep(what: &str, address: &Mailbox) -> Unexpanded {
    Unexpanded::TooDeep(format!(
        "unreasonable virtual_alias_maps map {what} for {address}"
    ))
}

/// The address with `@$myorigin` where it has no domain (postconf(5) append_at_myorigin).
pub fn qualified(params: &Params, mut address: Mailbox) -> Mailbox {
    if address.domain.is_empty() {
        address.domain.clone_from(&params.myorigin);
    }
    address
}

/// The addresses that the tables have for `address`: `None` where no row is, or none that counts.
async fn lookup(params: &Params, address: &Mailbox) -> Result<Option<Vec<Mailbox>>, Failed> {
    // A bare name counts for the server's own domains (virtual(5)).
    let own = params.mydestination.get(&address.domain).await?.is_some();
    let keys = resolve::alias_keys(params, address, own);
    let Some((key, value)) = params.virtual_alias_maps.first(&keys).await? else {
        return Ok(None);
    };
    // The extension that no row named is passed on (postconf(5) propagate_unmatched_extensions).
    let unmatched = split_extension(&address.local, params.recipient_delimiter)
        .filter(|(user, _)| key == *user || key.starts_with(&format!("{user}@")))
        .map_or("", |(user, _)| &address.local[user.len()..]);
    let addresses = match value.trim().strip_prefix('@') {
        // `@other`: the local part stays, its extension too (oracle N08c).
        Some(other) if !other.contains([',', ' ', '\t', '\n', '@']) => {
            vec![Mailbox {
                local: address.local.clone(),
                domain: other.trim_end_matches('.').to_owned(),
            }]
        }
        _ => destinations(&value)
            .into_iter()
            .map(|mut found| {
                found.local.push_str(unmatched);
                qualified(params, found)
            })
            .collect(),
    };
    if addresses.is_empty() {
        log!(
            "cleanup",
            "warning: forwarding of {address} has no address in it: {value:?}"
        );
        return Ok(None);
    }
    Ok(Some(addresses))
}

/// Takes a table's value apart: addresses between commas, semicolons and blanks, with display
/// names, comments, groups and brackets of RFC 5322 §3.4 left out (oracle N15).
pub fn destinations(value: &str) -> Vec<Mailbox> {
    // A NUL ends the text, as it does for Postfix.
    let value = value.split('\0').next().unwrap_or_default();
    let (mut addresses, mut words) = (Vec::new(), Vec::new());
    let mut letters = value.chars().peekable();
    let (mut word, mut in_quotes, mut depth) = (String::new(), false, 0);
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if in_quotes => {
                word.push(letter);
                word.extend(letters.next());
            }
            '"' if depth == 0 => {
                word.push(letter);
                in_quotes = !in_quotes;
            }
            _ if in_quotes => word.push(letter),
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            // A comment.
            _ if depth > 0 => {}
            '<' => {
                // What stood before the bracket was a display name.
                words.clear();
                word.clear();
                words.push(letters.by_ref().take_while(|&c| c != '>').collect());
            }
            ',' | ';' => {
                words.push(std::mem::take(&mut word));
                addresses.append(&mut words);
            }
            ':' if letters.peek().is_none_or(|next| next.is_whitespace()) => {
                // The name of a group.
                words.clear();
                word.clear();
            }
            letter if letter.is_whitespace() => words.push(std::mem::take(&mut word)),
            letter => word.push(letter),
        }
    }
    words.push(word);
    addresses.append(&mut words);
    addresses
        .iter()
        .filter_map(|word| mailbox(word.trim()))
        .collect()
}

/// An address without brackets, read with patience: the last `@` outside quotes divides it, quotes
/// are taken off. Whatever it is, it is only ever an address. `None` for nothing.
pub fn mailbox(text: &str) -> Option<Mailbox> {
    let (mut parts, mut current, mut in_quotes) = (Vec::new(), String::new(), false);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => in_quotes = !in_quotes,
            '\\' if in_quotes => {
                current.extend(letters.next().filter(|letter| !letter.is_control()));
            }
            '@' if !in_quotes => parts.push(std::mem::take(&mut current)),
            letter if letter.is_control() => {}
            letter => current.push(letter),
        }
    }
    // What was in quotes may be in a local part only: in a domain it would end the path of a command.
    let unsafe_in_domain = |letter: char| letter.is_whitespace() || "<>()@,;\\\"".contains(letter);
    let domain = if parts.is_empty() || current.contains(unsafe_in_domain) {
        parts.push(current);
        String::new()
    } else {
        current.trim_end_matches('.').to_owned()
    };
    let local = parts.join("@");
    (!local.is_empty()).then_some(Mailbox { local, domain })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::comma_and_blank("a@x, b@x ,c@x", "a@x b@x c@x")]
    #[case::line_ends("a@x\r\nb@x", "a@x b@x")]
    #[case::semicolon("a@x; b@x", "a@x b@x")]
    #[case::display_name("Some Name <a@x>", "a@x")]
    #[case::quoted_display_name("\"A, B\" <a@x>, b@x", "a@x b@x")]
    #[case::comment("(x (y)) a@x", "a@x")]
    #[case::group("grp: a@x, b@x;", "a@x b@x")]
    #[case::hash_is_an_address("a@x # b@x", "a@x # b@x")]
    #[case::never_a_command(
        "|/bin/cat, :include:/etc/hostname",
        "|/bin/cat \":include:/etc/hostname\""
    )]
    #[case::two_ats("a@b@x", "\"a@b\"@x")]
    #[case::quoted_local_part("\"a b\"@x", "\"a b\"@x")]
    #[case::trailing_dots("a@x..", "a@x")]
    #[case::quoted_domain("a@\"x> NOTIFY=NEVER\"", "\"a@x> NOTIFY=NEVER\"")]
    #[case::quoted_control("\"a\tb\"@x", "ab@x")]
    #[case::nul("a@x\0b@x", "a@x")]
    #[case::blanks("   ", "")]
    #[case::only_a_comma(",", "")]
    #[case::scheme("mailto:a@x", "\"mailto:a\"@x")]
    fn a_destination_is_taken_apart(#[case] value: &str, #[case] addresses: &str) {
        let found: Vec<String> = destinations(value)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found.join(" "), addresses);
    }
}
