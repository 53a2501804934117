//! Delivery status notifications (RFC 3462, RFC 3464), read by a parser that is not ours.

use mail_parser::{Message, MessageParser, MimeHeaders, PartType};

use super::sink::Difference;

/// What a notification says of one recipient, or, first, of the message.
pub type Fields = Vec<(String, String)>;

/// A delivery status notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The content type of each part, in order.
    pub parts: Vec<String>,
    /// The fields of the message.
    pub message: Fields,
    /// The fields of each recipient.
    pub recipients: Vec<Fields>,
    /// The header that came back, or the whole message.
    pub returned: Vec<u8>,
    /// The delivery-status part has an octet of eight bits.
    pub eight_bits: bool,
    /// The line stands there that ends the last part (RFC 2046 §5.1.1).
    pub closed: bool,
}

impl Report {
    /// Reads one; `None`: it is another kind of message.
    #[must_use]
    pub fn read(content: &[u8]) -> Option<Self> {
        let message = MessageParser::default().parse(content)?;
        let kind = message.content_type()?;
        if !kind.ctype().eq_ignore_ascii_case("multipart")
            || !kind.subtype()?.eq_ignore_ascii_case("report")
        {
            return None;
        }
        let PartType::Multipart(children) = &message.root_part().body else {
            return None;
        };
        let mut report = Self {
            parts: Vec::new(),
            message: Vec::new(),
            recipients: Vec::new(),
            returned: Vec::new(),
            eight_bits: false,
            closed: kind
                .attribute("boundary")
                .is_some_and(|boundary| is_closed(content, boundary)),
        };
        for &child in children {
            let Some(part) = message.part(child) else {
                continue;
            };
            let kind = part.content_type().map_or_else(
                || "text/plain".to_owned(),
                |kind| {
                    format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or(""))
                        .to_ascii_lowercase()
                },
            );
            let octets = body(&message, child);
            match kind.as_str() {
                "message/delivery-status" | "message/global-delivery-status" => {
                    report.eight_bits = kind == "message/delivery-status" && !octets.is_ascii();
                    let mut groups = groups(&String::from_utf8_lossy(&octets)).into_iter();
                    report.message = groups.next().unwrap_or_default();
                    report.recipients = groups.collect();
                }
                "message/rfc822"
                | "text/rfc822-headers"
                | "message/global"
                | "message/global-headers" => report.returned = octets,
                _ => {}
            }
            report.parts.push(kind);
        }
        Some(report)
    }

    /// `part N TYPE`
    pub(crate) fn part(&self, text: &str) -> Result<(), Difference> {
        let (number, kind) = text.split_once(' ').unwrap_or((text, ""));
        let part = number
            .parse::<usize>()
            .ok()
            .and_then(|n| self.parts.get(n.checked_sub(1)?));
        if part.is_some_and(|part| part.eq_ignore_ascii_case(kind.trim())) {
            if self.eight_bits {
                // RFC 3464 §2.1.
                let seen = "an octet of eight bits in message/delivery-status";
                return Err(("seven bits".into(), seen.into()));
            }
            if !self.closed {
                let seen = "a report that ends within its last part";
                return Err(("the boundary's last line".into(), seen.into()));
            }
            return Ok(());
        }
        Err((
            format!("part {number} of type {kind}"),
            self.parts.join(", "),
        ))
    }

    /// `status FIELD: TEXT`: in the fields of the message or of a recipient.
    pub(crate) fn status(&self, text: &str) -> Result<(), Difference> {
        let (name, wanted) = text.split_once(':').unwrap_or((text, ""));
        let (name, wanted) = (name.trim(), wanted.trim());
        let mut seen = Vec::new();
        for fields in std::iter::once(&self.message).chain(&self.recipients) {
            for (key, value) in fields
                .iter()
                .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            {
                if like(wanted, value) {
                    return Ok(());
                }
                seen.push(format!("{key}: {value}"));
            }
        }
        let seen = if seen.is_empty() {
            format!("no field {name}")
        } else {
            seen.join("; ")
        };
        Err((format!("{name}: {wanted}"), seen))
    }

    /// The value of a field of one recipient.
    #[must_use]
    pub fn value<'f>(fields: &'f Fields, name: &str) -> Option<&'f str> {
        fields
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The address behind the type: `rfc822; a@b` → `a@b`.
    #[must_use]
    pub fn address(value: &str) -> &str {
        value
            .split_once(';')
            .map_or(value, |(_, address)| address)
            .trim()
    }
}

/// Whether `value` holds `wanted`: letters in either case, runs of blanks alike, and a part of a
/// code that is `x` (`5.x.x`) is any number.
fn like(wanted: &str, value: &str) -> bool {
    let squeeze = |text: &str| {
        text.split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .to_ascii_lowercase()
            .replace("; ", ";")
    };
    let (wanted, value) = (squeeze(wanted), squeeze(value));
    if !wanted.split(' ').any(is_open_code) {
        return value.contains(&wanted);
    }
    let words: Vec<&str> = value.split(' ').collect();
    let wanted: Vec<&str> = wanted.split(' ').collect();
    words.windows(wanted.len()).any(|window| {
        window.iter().zip(&wanted).all(|(word, want)| {
            if !is_open_code(want) {
                return word == want;
            }
            let parts: Vec<&str> = word.split('.').collect();
            let open: Vec<&str> = want.split('.').collect();
            parts.len() == open.len()
                && parts.iter().zip(&open).all(|(part, want)| {
                    part.parse::<u16>().is_ok() && (*want == "x" || part == want)
                })
        })
    })
}

/// Whether a line closes the boundary.
fn is_closed(content: &[u8], boundary: &str) -> bool {
    let last = format!("--{boundary}--");
    let mut lines = content.split(|octet| *octet == b'\n');
    lines.any(|line| line.trim_ascii_end() == last.as_bytes())
}

fn is_open_code(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    parts.len() == 3
        && parts.contains(&"x")
        && parts
            .iter()
            .all(|part| *part == "x" || part.parse::<u16>().is_ok())
}

fn body(message: &Message<'_>, part: u32) -> Vec<u8> {
    let Some(part) = message.part(part) else {
        return Vec::new();
    };
    match &part.body {
        PartType::Message(inner) => inner.raw_message().to_vec(),
        PartType::Text(text) | PartType::Html(text) => text.as_bytes().to_vec(),
        PartType::Binary(octets) | PartType::InlineBinary(octets) => octets.to_vec(),
        PartType::Multipart(_) => Vec::new(),
    }
}

/// Groups of fields with empty lines between them, unfolded.
fn groups(text: &str) -> Vec<Fields> {
    let mut groups: Vec<Fields> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        if line.trim().is_empty() {
            open = false;
            continue;
        }
        if !open {
            groups.push(Vec::new());
            open = true;
        }
        let Some(group) = groups.last_mut() else {
            continue;
        };
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = group.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((key, value)) = line.split_once(':') {
            group.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNCE: &[u8] = b"From: MAILER-DAEMON@host\r\nContent-Type: multipart/report; \
        report-type=delivery-status;\r\n boundary=\"b/1\"\r\n\r\n--b/1\r\nContent-Type: text/plain\r\n\r\n\
        sorry\r\n--b/1\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; host\r\n\r\n\
        Final-Recipient: rfc822; a@b.test\r\nAction: failed\r\nStatus: 5.2.2\r\n\
        Diagnostic-Code: X-Postfix; maildir delivery failed: \"The user you\r\n    are trying\"\r\n\r\n\
        --b/1\r\nContent-Type: text/rfc822-headers\r\n\r\nX-Vmailspec-Token: t-1\r\nSubject: x\r\n\r\n--b/1--\r\n";

    #[test]
    fn a_notification_is_read_with_its_parts_fields_and_returned_header() {
        let report = Report::read(BOUNCE).unwrap();
        assert_eq!(
            report.parts,
            [
                "text/plain",
                "message/delivery-status",
                "text/rfc822-headers"
            ]
        );
        assert_eq!(
            Report::value(&report.recipients[0], "status"),
            Some("5.2.2")
        );
        assert_eq!(
            crate::names::token_of(&report.returned).as_deref(),
            Some("t-1")
        );
        assert!(report.part("2 message/delivery-status").is_ok());
        assert!(report.part("4 text/plain").is_err());
    }

    #[test]
    fn status_takes_any_number_for_x_and_sees_through_folding() {
        let report = Report::read(BOUNCE).unwrap();
        for good in [
            "Status: 5.x.x",
            "status: 5.2.2",
            "Final-Recipient: rfc822; A@b.test",
            "Final-Recipient: rfc822;a@b.test",
            "Diagnostic-Code: The user you are trying",
        ] {
            assert!(report.status(good).is_ok(), "{good}");
        }
        for bad in [
            "Status: 4.x.x",
            "Action: delayed",
            "Status: 5.x.1",
            "Original-Recipient: x",
        ] {
            assert!(report.status(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_notification_that_stops_within_its_last_part_has_no_part_that_counts() {
        let cut = BOUNCE.strip_suffix(b"\r\n--b/1--\r\n").unwrap();
        let report = Report::read(cut).unwrap();
        assert_eq!(report.parts.len(), 3);
        let (_, seen) = report.part("2 message/delivery-status").unwrap_err();
        assert_eq!(seen, "a report that ends within its last part");
    }

    #[test]
    fn an_ordinary_message_is_no_notification() {
        assert_eq!(Report::read(b"Subject: x\r\n\r\nx\r\n"), None);
    }
}
