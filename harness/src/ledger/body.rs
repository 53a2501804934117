//! The body of a message: what lies below its header, as it was sent and as it arrived.
//!
//! It promises to compare only what every server passes on octet for octet (RFC 5321 §4.5.2): lines
//! of at most 998 octets, ended by CRLF on the way and by LF in a Maildir, without NUL.

use std::sync::Arc;

/// The longest line of content, its end not counted (RFC 5321 §4.5.3.1.6).
const LONGEST: usize = 998;
/// How much of a line is quoted.
const QUOTED: usize = 80;

/// A body, its lines ended by LF, the last by nothing. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body(Arc<[u8]>);

impl Body {
    /// The body of a message as it was handed over, dots not doubled; `None`: it has none that can
    /// be told from its header, or one that a server may change.
    #[must_use]
    pub fn sent(content: &[u8]) -> Option<Self> {
        let text = without_cr(content)?;
        let body = below_header(&text)?;
        let good = |line: &[u8]| line.len() <= LONGEST && !line.contains(&0);
        body.split(|&octet| octet == b'\n')
            .all(good)
            .then(|| Self::of(body))
    }

    /// The body of a message as it lies in a Maildir or came to the next hop.
    #[must_use]
    pub fn arrived(content: &[u8]) -> Option<Self> {
        let text = without_cr(content).unwrap_or_else(|| content.to_vec());
        below_header(&text).map(Self::of)
    }

    fn of(text: &[u8]) -> Self {
        Self(text.strip_suffix(b"\n").unwrap_or(text).into())
    }

    /// Whether a next hop for seven bits would get it as it is (RFC 6152 §3).
    #[must_use]
    pub fn is_seven_bit(&self) -> bool {
        self.0.is_ascii()
    }

    /// The first line in which another body differs: its number, what stands here, what there.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self == other {
            return None;
        }
        let (mut here, mut there) = (self.lines(), other.lines());
        let mut number = 1;
        loop {
            let (one, two) = (here.next(), there.next());
            if one != two {
                let (one, two) = (quoted(one), quoted(two));
                return Some(format!("line {number} of its body was {one}, and is {two}"));
            }
            number += 1;
        }
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|&octet| octet == b'\n')
    }
}

fn quoted(line: Option<&[u8]>) -> String {
    let Some(line) = line else {
        return "not there".to_owned();
    };
    let text = line.escape_ascii().to_string();
    match text.get(..QUOTED) {
        Some(begin) => format!("\"{begin}…\" ({} octets)", line.len()),
        None => format!("\"{text}\""),
    }
}

/// CRLF as LF; `None`: a CR or LF stands alone, with which servers do different things.
fn without_cr(content: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::with_capacity(content.len());
    let mut rest = content;
    while let Some(end) = rest.iter().position(|octet| b"\r\n".contains(octet)) {
        let (line, behind) = rest.split_at(end);
        text.extend_from_slice(line);
        text.push(b'\n');
        rest = behind.strip_prefix(b"\r\n")?;
    }
    text.extend_from_slice(rest);
    Some(text)
}

/// What stands behind the empty line that ends the header, where all before it is header fields.
fn below_header(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text;
    while let Some(end) = rest.iter().position(|&octet| octet == b'\n') {
        let (line, behind) = rest.split_at(end);
        rest = behind.get(1..).unwrap_or_default();
        match line {
            [] => return Some(rest),
            [b' ' | b'\t', ..] => {}
            field if is_field(field) => {}
            _ => return None,
        }
    }
    None
}

/// A name of visible octets, then a colon (RFC 5322 §2.2).
fn is_field(line: &[u8]) -> bool {
    let colon = line.iter().position(|&octet| octet == b':');
    let name = colon.and_then(|at| line.get(..at)).unwrap_or_default();
    !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::its_end("A: b\r\n\r\none\r\ntwo\r\n", "A: b\nR: x\n\none\ntwo\n")]
    #[case::no_end_of_the_last_line("A: b\r\n\r\none", "A: b\n\none\n")]
    #[case::no_header("\r\none\r\n", "R: x\n\none\n")]
    #[case::a_folded_field("A: b\r\n c\r\n\r\none\r\n", "A: b c\n\none\n")]
    #[case::nothing("A: b\r\n\r\n", "A: b\n\n")]
    fn a_body_is_the_same_whatever_became_of_its_header(#[case] sent: &str, #[case] arrived: &str) {
        let sent = Body::sent(sent.as_bytes()).unwrap();
        let arrived = Body::arrived(arrived.as_bytes()).unwrap();
        assert_eq!(sent.difference(&arrived), None);
    }

    #[rstest]
    #[case::a_blank(
        "one  two",
        "one two",
        "line 1 of its body was \"one  two\", and is \"one two\""
    )]
    #[case::a_dot("x\r\n..y", "x\n.y", "line 2 of its body was \"..y\", and is \".y\"")]
    #[case::cut("x\r\ny", "x", "line 2 of its body was \"y\", and is not there")]
    #[case::more("x", "x\n", "line 2 of its body was not there, and is \"\"")]
    fn a_body_that_differs_says_where(
        #[case] sent: &str,
        #[case] arrived: &str,
        #[case] says: &str,
    ) {
        let sent = Body::sent(format!("A: b\r\n\r\n{sent}\r\n").as_bytes()).unwrap();
        let arrived = Body::arrived(format!("A: b\n\n{arrived}\n").as_bytes()).unwrap();
        assert_eq!(sent.difference(&arrived).as_deref(), Some(says));
    }

    #[rstest]
    #[case::lf_alone("A: b\r\n\r\none\ntwo\r\n")]
    #[case::cr_alone("A: b\r\n\r\none\rtwo\r\n")]
    #[case::nul("A: b\r\n\r\none\0two\r\n")]
    #[case::no_empty_line("A: b\r\n")]
    #[case::no_field_above("text\r\n\r\nmore\r\n")]
    fn what_a_server_may_change_is_not_compared(#[case] sent: &str) {
        assert_eq!(Body::sent(sent.as_bytes()), None);
        let long = format!("A: b\r\n\r\n{}\r\n", "x".repeat(999));
        assert_eq!(Body::sent(long.as_bytes()), None);
    }
}
