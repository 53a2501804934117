//! What the server makes of a message's text: the trace header, and content as it is stored.
//!
//! Stored content has LF line ends and ends with one; a CR that ends no line becomes a blank, so
//! that nothing the server sends later can be taken for another line end (cleanup(8)
//! cleanup_replace_stray_cr_lf). Of the client's headers only those that belong to delivery are
//! removed (postconf(5) message_drop_headers); all others stay as they came.

use std::net::IpAddr;

use jiff::Zoned;
use vmaild_protocol::Envelope;

use crate::queue::Origin;

/// postconf(5) message_drop_headers: they are the delivering server's to write, or nobody's.
const DROPPED: [&str; 4] = ["bcc", "content-length", "resent-bcc", "return-path"];

/// A header line is looked at as a whole up to this length; of a longer one only its beginning.
const HEADER_LINE_LIMIT: usize = 64 * 1024;

/// `Sun, 22 Nov 2026 13:14:59 +0000 (UTC)` (RFC 5322 §3.3).
pub fn date(when: &Zoned) -> String {
    when.strftime("%a, %d %b %Y %H:%M:%S %z (%Z)").to_string()
}

/// The trace header of a message that came by SMTP (RFC 5321 §4.4).
///
/// `for` stands there with a single recipient only: with several it would tell each about the
/// others (RFC 5321 §7.2).
pub fn received(
    (myhostname, mail_name): (&str, &str),
    origin: &Origin,
    envelope: &Envelope,
    id: &str,
    when: &Zoned,
) -> String {
    let helo = Some(envelope.helo.as_str()).filter(|helo| !helo.is_empty());
    let helo = helo.unwrap_or("unknown");
    let client = match origin.client {
        IpAddr::V6(client) => format!("IPv6:{client}"),
        IpAddr::V4(client) => client.to_string(),
    };
    let tls = match &origin.tls {
        Some(tls) => format!("\t({})\n", tls.replace(char::is_control, "?")),
        None => String::new(),
    };
    let when = date(when);
    let recipient = match envelope.recipients.as_slice() {
        [only] => format!("\n\tfor <{}>; {when}\n", only.mailbox),
        _ => format!(";\n\t{when}\n"),
    };
    format!(
        "Received: from {helo} (unknown [{client}])\n{tls}\tby {myhostname} ({mail_name}) with {} id {id}{recipient}",
        envelope.protocol,
    )
}

/// The trace header of a message that the server itself wrote.
pub fn received_here((myhostname, mail_name): (&str, &str), id: &str, when: &Zoned) -> String {
    format!(
        "Received: by {myhostname} ({mail_name})\n\tid {id}; {}\n",
        date(when)
    )
}

/// Where in the message the filter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Part {
    /// Before the first line.
    #[default]
    Start,
    /// In the header, at the beginning of a line.
    Header,
    /// In the header, in the rest of an over-long line.
    LongLine,
    /// After the header.
    Body,
}

/// Turns content as it came into content as it is stored.
#[derive(Debug, Default)]
pub struct Filter {
    part: Part,
    /// The header before it is one that is not stored.
    dropped: bool,
    /// The line of the header that is not yet complete.
    line: Vec<u8>,
    /// Carriage returns seen of which it is not yet known what follows.
    returns: usize,
    /// The last line written has no end yet.
    open: bool,
    /// Received headers so far (RFC 5321 §6.3).
    pub hops: usize,
    /// The message's Message-ID, for the log.
    pub message_id: String,
    /// An octet beyond ASCII was seen.
    pub eight_bit: bool,
}

impl Filter {
    /// Appends to `stored` what these octets become; they may be cut anywhere.
    pub fn write(&mut self, octets: &[u8], stored: &mut Vec<u8>) {
        self.eight_bit |= !octets.is_ascii();
        for (index, plain) in octets.split(|&octet| octet == b'\r').enumerate() {
            self.returns += usize::from(index > 0);
            match plain.first() {
                None => continue,
                // CRs directly before a line end belong to it.
                Some(b'\n') => self.returns = 0,
                Some(_) => self.blanks(stored),
            }
            self.lines(plain, stored);
        }
    }

    /// The end: the last line is ended where it was not.
    pub fn end(&mut self, stored: &mut Vec<u8>) {
        self.blanks(stored);
        if !self.line.is_empty() || self.open {
            self.lines(b"\n", stored);
        }
    }

    /// CRs that end no line are blanks.
    fn blanks(&mut self, stored: &mut Vec<u8>) {
        for _ in 0..std::mem::take(&mut self.returns) {
            self.lines(b" ", stored);
        }
    }

    /// Octets without CR.
    fn lines(&mut self, octets: &[u8], stored: &mut Vec<u8>) {
        let mut rest = octets;
        while self.part != Part::Body
            && let Some(piece) = rest.split_inclusive(|&octet| octet == b'\n').next()
        {
            rest = &rest[piece.len()..];
            let complete = piece.ends_with(b"\n");
            if self.part == Part::LongLine {
                if !self.dropped {
                    stored.extend_from_slice(piece);
                }
                if complete {
                    self.part = Part::Header;
                }
                continue;
            }
            self.line.extend_from_slice(piece);
            if complete || self.line.len() > HEADER_LINE_LIMIT {
                let line = std::mem::take(&mut self.line);
                self.header_line(&line, stored);
                if !complete && self.part == Part::Header {
                    self.part = Part::LongLine;
                }
            }
        }
        stored.extend_from_slice(rest);
        self.open = stored.last().is_some_and(|&last| last != b'\n');
    }

    /// A line before the body: a header, its continuation, the empty line, or body already.
    fn header_line(&mut self, line: &[u8], stored: &mut Vec<u8>) {
        let continued = matches!(line.first(), Some(b' ' | b'\t'));
        let was_dropped = std::mem::take(&mut self.dropped);
        match (self.part, header(line)) {
            _ if line == b"\n" => self.part = Part::Body,
            (Part::Header, _) if continued => self.dropped = was_dropped,
            (Part::Start, _) if line.starts_with(b"From ") || line.starts_with(b">From ") => {
                // The separator of an mbox file: not a header, but not the sender's text either.
                stored.extend_from_slice(b"X-Mailbox-Line: ");
                self.part = Part::Header;
            }
            (_, None) => {
                // Text without a header before it: the empty line that was left out.
                stored.push(b'\n');
                self.part = Part::Body;
            }
            (_, Some((name, value))) => {
                self.part = Part::Header;
                let dropped = DROPPED.contains(&name.as_str());
                self.hops += usize::from(name == "received");
                if name == "message-id" && self.message_id.is_empty() {
                    let value = String::from_utf8_lossy(value);
                    value.trim().clone_into(&mut self.message_id);
                }
                self.dropped = dropped;
            }
        }
        if !self.dropped {
            stored.extend_from_slice(line);
        }
    }
}

/// The name of the header that a line begins, in lower case, and what follows it (RFC 5322 §2.2).
fn header(line: &[u8]) -> Option<(String, &[u8])> {
    let colon = line.iter().position(|&octet| octet == b':')?;
    let name = std::str::from_utf8(&line[..colon])
        .ok()?
        .trim_end_matches([' ', '\t']);
    let printable = !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic());
    printable.then(|| (name.to_ascii_lowercase(), &line[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn stored(came: &[u8]) -> Vec<u8> {
        let (mut filter, mut stored) = (Filter::default(), Vec::new());
        filter.write(came, &mut stored);
        filter.end(&mut stored);
        stored
    }

    #[rstest]
    #[case::nothing("", "")]
    #[case::stray_cr_is_a_blank("\r\na\rb\r\r\nc\n", "\na b\nc\n")]
    #[case::last_line_is_ended("A: b\r\n\r\nx", "A: b\n\nx\n")]
    #[case::header_alone_is_ended("A: b", "A: b\n")]
    #[case::text_without_header("just text\r\nB: c\r\n", "\njust text\nB: c\n")]
    #[case::folded_first_line(" folded\r\n", "\n folded\n")]
    #[case::delivery_headers_go(
        "Return-Path: <a@b>\r\nBcc: x,\r\n y\r\nTo: z\r\n\r\nBcc: stays\r\n",
        "To: z\n\nBcc: stays\n"
    )]
    #[case::mbox_line(
        "From me Thu\r\nTo: z\r\n\r\n",
        "X-Mailbox-Line: From me Thu\nTo: z\n\n"
    )]
    #[case::text_inside_the_header("To: z\r\nno header\r\n", "To: z\n\nno header\n")]
    fn content_is_stored_with_line_feeds(#[case] came: &str, #[case] becomes: &str) {
        let stored = String::from_utf8(stored(came.as_bytes())).unwrap();
        assert_eq!(stored, becomes);
    }

    #[test]
    fn received_headers_are_counted_and_continuations_are_not() {
        let mut filter = Filter::default();
        let came = b"Received: a\r\n Received: b\r\nreceived : c\r\n\r\nReceived: body\r\n";
        filter.write(came, &mut Vec::new());
        assert_eq!(filter.hops, 2);
    }

    #[test]
    fn a_header_line_without_end_is_passed_on_in_pieces() {
        let long = [b"X: ".as_slice(), &vec![b'x'; 300_000], b"\r\n\r\nbody\r\n"].concat();
        let expected = [b"X: ".as_slice(), &vec![b'x'; 300_000], b"\n\nbody\n"].concat();
        assert_eq!(stored(&long), expected);
    }
}
