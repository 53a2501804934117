//! One reply of an SMTP server (RFC 5321 §4.2), well formed or not.
//!
//! It promises: however the octets arrive, the same reply is read; nothing a server sends makes the
//! reader panic or wait for ever; what is malformed is named and the octets are kept.

use std::fmt;

/// The most octets taken for one reply: a server that never ends one is not worth more memory.
const LONGEST: usize = 128 * 1024;

/// A reply with everything that is wrong about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// As it came.
    pub raw: Vec<u8>,
    /// The code of the first line; 0 where it has none.
    pub code: u16,
    /// Text of each line, behind code and separator, without line end.
    pub lines: Vec<String>,
    /// What is malformed, each kind once.
    pub faults: Vec<Fault>,
}

/// Ways in which a reply can be malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A line does not begin with three digits, the first 2 to 5 and the second 0 to 5.
    NoCode,
    /// The lines of one reply carry different codes.
    MixedCodes,
    /// Neither a blank nor `-` follows a code.
    Separator,
    /// A line ends in a bare LF.
    BareLf,
    /// A CR stands within a line.
    BareCr,
    /// A line is longer than 512 octets.
    TooLong,
    /// A control character, or an octet above 126.
    NotPrintable,
    /// The reply does not end.
    Endless,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCode => "a line without a reply code",
            Self::MixedCodes => "different codes in one reply",
            Self::Separator => "neither a blank nor - behind the code",
            Self::BareLf => "a line that ends in a bare LF",
            Self::BareCr => "a CR within a line",
            Self::TooLong => "a line of more than 512 octets",
            Self::NotPrintable => "octets that are not printable ASCII",
            Self::Endless => "a reply that does not end",
        })
    }
}

impl Reply {
    /// The enhanced status code (RFC 2034) that the first line begins with.
    #[must_use]
    pub fn enhanced(&self) -> Option<[u16; 3]> {
        let word = self.lines.first()?.split(' ').next()?;
        let mut parts = word.split('.');
        let mut number = || parts.next()?.parse::<u16>().ok();
        let code = [number()?, number()?, number()?];
        parts.next().is_none().then_some(code)
    }

    /// Whether the reply begins with this digit.
    #[must_use]
    pub fn class(&self) -> u16 {
        self.code / 100
    }

    /// As one line for people: codes and texts, lines separated by ` / `, then what is malformed.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut text = shown(&self.raw);
        if !self.faults.is_empty() {
            let faults: Vec<String> = self.faults.iter().map(ToString::to_string).collect();
            text += &[" (malformed: ", &faults.join("; "), ")"].concat();
        }
        text
    }
}

/// Octets as people can read them: line ends as ` / `, what is not printable escaped.
#[must_use]
pub fn shown(octets: &[u8]) -> String {
    let mut text = String::new();
    let body = octets
        .strip_suffix(b"\n")
        .map_or(octets, |rest| rest.strip_suffix(b"\r").unwrap_or(rest));
    let mut rest = body.iter().peekable();
    while let Some(&octet) = rest.next() {
        match octet {
            b'\r' if rest.peek() == Some(&&b'\n') => {
                rest.next();
                text.push_str(" / ");
            }
            b'\n' => text.push_str("\\n"),
            0x20..=0x7e => text.push(char::from(octet)),
            _ => text.push_str(&octet.escape_ascii().to_string()),
        }
    }
    text
}

/// Takes one whole reply from the front of `buffer`, if there is one.
pub fn take(buffer: &mut Vec<u8>) -> Option<Reply> {
    let mut reply = Reply {
        raw: Vec::new(),
        code: 0,
        lines: Vec::new(),
        faults: Vec::new(),
    };
    let mut rest = buffer.get(..LONGEST).unwrap_or(buffer);
    let mut length = 0;
    loop {
        let Some(end) = rest.iter().position(|&octet| octet == b'\n') else {
            if buffer.len() < LONGEST {
                return None;
            }
            reply.fault(Fault::Endless);
            length = LONGEST;
            break;
        };
        let (line, behind) = rest.split_at(end + 1);
        rest = behind;
        length += line.len();
        if !reply.line(line) {
            break;
        }
    }
    reply.raw = buffer.drain(..length).collect();
    Some(reply)
}

impl Reply {
    fn fault(&mut self, fault: Fault) {
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    /// Reads one line with its LF; true: more lines follow.
    fn line(&mut self, line: &[u8]) -> bool {
        if line.len() > 512 {
            self.fault(Fault::TooLong);
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or_else(|| {
            self.fault(Fault::BareLf);
            line
        });
        if line.contains(&b'\r') {
            self.fault(Fault::BareCr);
        }
        if line
            .iter()
            .any(|octet| !matches!(octet, b'\t' | b'\r' | 0x20..=0x7e))
        {
            self.fault(Fault::NotPrintable);
        }
        let first = self.lines.is_empty();
        let Some(code) = code(line) else {
            self.fault(Fault::NoCode);
            self.lines.push(String::from_utf8_lossy(line).into_owned());
            // In the middle of a reply such a line is taken for a part of it.
            return !first;
        };
        if first {
            self.code = code;
        } else if code != self.code {
            self.fault(Fault::MixedCodes);
        }
        let (more, text) = match line.get(3) {
            Some(b'-') => (true, line.get(4..)),
            Some(b' ') => (false, line.get(4..)),
            // A code alone is a whole reply: RFC 5321 §4.2 asks clients to take it.
            None => (false, None),
            Some(_) => {
                self.fault(Fault::Separator);
                (false, line.get(3..))
            }
        };
        self.lines
            .push(String::from_utf8_lossy(text.unwrap_or_default()).into_owned());
        more
    }
}

fn code(line: &[u8]) -> Option<u16> {
    let &[a, b, c, ..] = line else { return None };
    let good = matches!(a, b'2'..=b'5') && matches!(b, b'0'..=b'5') && c.is_ascii_digit();
    good.then(|| u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
}
