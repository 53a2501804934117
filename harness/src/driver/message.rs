//! Builds the content that `message` sends: token, header, body, padding, dot-stuffing.

use std::collections::BTreeMap;

use crate::names::TOKEN_FIELD;
use crate::scenario::Message;
use crate::scenario::text::{expand, unescape};

/// What is needed besides the step itself.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// The message's token.
    pub token: &'a str,
    /// The case's names.
    pub names: &'a BTreeMap<String, String>,
    /// Now, as RFC 5322 writes it.
    pub date: &'a str,
}

/// The octets to send: stuffed, with the end of data unless the step says `unfinished`.
pub fn content(message: &Message, envelope: &Envelope<'_>) -> Result<Vec<u8>, String> {
    let Envelope { token, names, date } = envelope;
    let name = |key: &str| names.get(key).cloned().unwrap_or_default();
    let mut fields: Vec<(String, String)> = vec![
        ("From".into(), format!("<someone@{}>", name("sender"))),
        ("To".into(), format!("<address@{}>", name("domain"))),
        ("Date".into(), (*date).to_owned()),
        ("Message-ID".into(), format!("<{token}@{}>", name("sender"))),
        ("Subject".into(), "A message of the suite".into()),
    ];
    for header in &message.headers {
        let text = expand(header, names);
        let (key, value) = text.split_once(':').unwrap_or((&text, ""));
        let value = String::from_utf8_lossy(&decode(value.trim_start())?).into_owned();
        match fields
            .iter_mut()
            .find(|(known, _)| known.eq_ignore_ascii_case(key))
        {
            Some(field) => field.1 = value,
            None => fields.push((key.to_owned(), value)),
        }
    }
    let mut octets = format!("{TOKEN_FIELD}: {token}\r\n").into_bytes();
    for (key, value) in &fields {
        octets.extend_from_slice(format!("{key}: {value}\r\n").as_bytes());
    }
    octets.extend_from_slice(b"\r\n");
    if message.lines.is_empty() {
        octets.extend_from_slice(b"A line of text.\r\n");
    }
    for line in &message.lines {
        octets.extend_from_slice(&decode(&expand(line, names))?);
        octets.extend_from_slice(b"\r\n");
    }
    if let Some(size) = message.size {
        pad(&mut octets, size)?;
    }
    let mut sent = stuff(&octets);
    if message.unfinished {
        // The last line stays open, as a client leaves it that breaks off.
        sent.truncate(sent.len().saturating_sub(2));
    } else {
        sent.extend_from_slice(b".\r\n");
    }
    Ok(sent)
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    unescape(text).map_err(|error| error.to_string())
}

/// Appends lines until the content, as RFC 1870 counts it, has exactly `size` octets.
fn pad(octets: &mut Vec<u8>, size: usize) -> Result<(), String> {
    if octets.len() > size {
        return Err(format!(
            "a message of {size} bytes was asked for, but its header and lines are {} already",
            octets.len()
        ));
    }
    while octets.len() < size {
        let left = size - octets.len();
        // What is left behind this line is nothing, or enough for a line of its own.
        let line = match left {
            1 => {
                // A lone octet lengthens the last line.
                let end = octets.len() - 2;
                octets.insert(end, b'x');
                continue;
            }
            2..=78 => left,
            79 => 77,
            _ => 78,
        };
        octets.extend(std::iter::repeat_n(b'x', line - 2));
        octets.extend_from_slice(b"\r\n");
    }
    Ok(())
}

/// A dot at the beginning of a line is doubled (RFC 5321 §4.5.2).
#[must_use]
pub fn stuff(octets: &[u8]) -> Vec<u8> {
    let sent = lines_begin(octets).flat_map(|(begins, octet)| {
        let times = if begins && octet == b'.' { 2 } else { 1 };
        std::iter::repeat_n(octet, times)
    });
    sent.collect()
}

/// And there loses a dot again.
#[must_use]
pub fn unstuffed(octets: &[u8]) -> Vec<u8> {
    let meant = lines_begin(octets).filter(|&(begins, octet)| !(begins && octet == b'.'));
    meant.map(|(_, octet)| octet).collect()
}

/// Each octet, and whether a line begins with it.
fn lines_begin(octets: &[u8]) -> impl Iterator<Item = (bool, u8)> {
    let mut before = [b'\r', b'\n'];
    octets.iter().map(move |&octet| {
        let begins = before == *b"\r\n";
        before = [before[1], octet];
        (begins, octet)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scenario::Text;

    fn built(message: &Message) -> Vec<u8> {
        let names = BTreeMap::from([("domain".to_owned(), "d.test".to_owned())]);
        let envelope = Envelope {
            token: "t-1",
            names: &names,
            date: "now",
        };
        content(message, &envelope).unwrap()
    }

    fn text(raw: &str) -> Text {
        Text {
            raw: raw.to_owned(),
            span: crate::scenario::Span::default(),
        }
    }

    #[test]
    fn a_message_of_n_bytes_has_n_bytes_for_every_n_it_can_have() {
        let least = built(&Message::default()).len() - 3;
        for size in least..least + 400 {
            let message = Message {
                size: Some(size),
                ..Message::default()
            };
            assert_eq!(built(&message).len() - 3, size);
        }
    }

    #[test]
    fn a_message_smaller_than_its_header_is_an_error() {
        let names = BTreeMap::new();
        let envelope = Envelope {
            token: "t-1",
            names: &names,
            date: "now",
        };
        let message = Message {
            size: Some(10),
            ..Message::default()
        };
        assert!(
            content(&message, &envelope)
                .unwrap_err()
                .contains("asked for")
        );
    }

    #[test]
    fn a_header_replaces_a_default_and_lines_are_stuffed_after_their_escapes() {
        let message = Message {
            headers: vec![text("Subject: other"), text("X-New: $domain")],
            lines: vec![text(".dot"), text("two\\r\\n.lines")],
            ..Message::default()
        };
        let octets = String::from_utf8(built(&message)).unwrap();
        assert!(
            octets.contains("Subject: other\r\n") && !octets.contains("A message of the suite")
        );
        assert!(octets.contains("X-New: d.test\r\n"));
        assert!(octets.ends_with("\r\n..dot\r\ntwo\r\n..lines\r\n.\r\n"));
    }

    #[test]
    fn an_unfinished_message_has_no_end_of_data() {
        let message = Message {
            unfinished: true,
            ..Message::default()
        };
        assert!(built(&message).ends_with(b"A line of text."));
    }

    proptest! {
        #[test]
        fn dots_that_were_doubled_are_undone(content in "([.ab]|\r\n){0,60}") {
            prop_assert_eq!(unstuffed(&stuff(content.as_bytes())), content.as_bytes());
        }
    }
}
