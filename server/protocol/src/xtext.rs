//! xtext (RFC 3461 §4): how ENVID=, ORCPT= and AUTH= carry what SMTP parameters cannot hold.
//!
//! An octet that is not printable, a blank, `+` or `=` is written as `+` and two upper-case
//! hexadecimal digits. What is decoded here never holds a control character, so that nobody can
//! write a header line of ours through a parameter of theirs.
use alloc::string::String;
use alloc::vec::Vec;

/// The text that was meant; `None` where the encoding is wrong or hides a control character.
///
/// Octets beyond ASCII are taken as UTF-8 (RFC 6533 §3).
pub fn decode(xtext: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(xtext.len());
    let mut rest = xtext.bytes();
    while let Some(octet) = rest.next() {
        match octet {
            b'+' => octets.push((hex(rest.next()?)? << 4) | hex(rest.next()?)?),
            b'!'..=b'~' if octet != b'=' => octets.push(octet),
            _ => return None,
        }
    }
    let text = String::from_utf8(octets).ok()?;
    (!text.contains(char::is_control)).then_some(text)
}

/// A hexadecimal digit; xtext knows upper case only.
fn hex(octet: u8) -> Option<u8> {
    match octet {
        b'0'..=b'9' => octet.checked_sub(b'0'),
        b'A'..=b'F' => octet.checked_sub(b'A')?.checked_add(10),
        _ => None,
    }
}
