//! A reply (RFC 5321 §4.2): three digits, an enhanced code (RFC 3463), text.
//!
//! The server writes replies, its SMTP client reads them. Written: CRLF, at most 512 octets a line
//! (RFC 5321 §4.5.3.1.5), printable ASCII only, whatever a client managed to get echoed; what is
//! too long is cut. Read: with patience (bare codes, bare LF), but never more than 64 KiB or 500
//! lines, and never two classes in one reply.
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// The longest line of a reply, CRLF included (RFC 5321 §4.5.3.1.5).
const LINE_LIMIT: usize = 512;
/// What of it is left for text: four octets are code and separator, two are CRLF.
const TEXT_LIMIT: usize = LINE_LIMIT - 6;

/// The most octets of one reply that is read.
const SIZE_LIMIT: usize = 64 * 1024;
/// The most lines of one reply that is read.
const LINES_LIMIT: usize = 500;

/// A line that does not begin with a code from 200 to 599 and a separator.
const NO_CODE: &str = "a reply line does not begin with a three-digit code";
/// The lines of one reply disagree about its class.
const MIXED: &str = "the lines of one reply have different codes";
/// More without an end.
const TOO_LONG: &str = "a reply is longer than 64 KiB or 500 lines";

/// One reply of one or more lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// The lines' text without code and separator; the enhanced code, where there is one, is part of it.
    pub lines: Vec<String>,
}

impl Reply {
    /// A reply of one line: `Reply::new(250, "2.1.0 Ok")`.
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Self {
            code,
            lines: Vec::from([text.into()]),
        }
    }

    /// A reply of several lines (RFC 5321 §4.2.1).
    pub fn multi<T: Into<String>>(code: u16, lines: impl IntoIterator<Item = T>) -> Self {
        Self {
            code,
            lines: lines.into_iter().map(Into::into).collect(),
        }
    }

    /// Granted: 2yz or 3yz.
    pub fn is_positive(&self) -> bool {
        matches!(self.code / 100, 2 | 3)
    }

    /// 2yz: done.
    pub fn is_success(&self) -> bool {
        self.code / 100 == 2
    }

    /// 3yz: go on.
    pub fn is_intermediate(&self) -> bool {
        self.code / 100 == 3
    }

    /// 5yz: not at all.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// The enhanced code (RFC 2034 §3) of the first line, where it has one of the reply's class.
    pub fn enhanced(&self) -> Option<&str> {
        let word = self.lines.first()?.split(' ').next()?;
        let number = |part: &str| {
            (1..=3).contains(&part.len()) && part.bytes().all(|octet| octet.is_ascii_digit())
        };
        match word.split('.').collect::<Vec<_>>()[..] {
            [class, subject, detail] if number(subject) && number(detail) => {
                (class.parse() == Ok(self.code / 100)).then_some(word)
            }
            _ => None,
        }
    }

    /// The octets that go to the client.
    pub fn to_wire(&self) -> Vec<u8> {
        let code = self.code.clamp(200, 599).to_string();
        let mut wire = String::new();
        let mut lines = self.lines.iter().map(String::as_str);
        let mut next = lines.next().or(Some(""));
        while let Some(line) = next {
            next = lines.next();
            wire.push_str(&code);
            wire.push(if next.is_some() { '-' } else { ' ' });
            wire.extend(line.chars().take(TEXT_LIMIT).map(|letter| match letter {
                ' '..='~' => letter,
                _ => '?',
            }));
            wire.push_str("\r\n");
        }
        wire.into_bytes()
    }
}

/// On one line, as logs and notices show it: `550 5.1.1 No such user`.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}", self.code)?;
        self.lines.iter().try_for_each(|line| write!(f, " {line}"))
    }
}

/// Reads replies from what a server sends, in any pieces.
///
/// Feed, then ask for replies until there is none; after an error the connection is of no use.
#[derive(Debug, Default)]
pub struct ReplyReader {
    /// What was fed and is not yet a whole line.
    pending: Vec<u8>,
    /// How much of it was searched for a line end.
    searched: usize,
    /// The lines so far of the reply that is being read.
    lines: Vec<String>,
    /// Their octets.
    size: usize,
    /// Their code; without meaning while there are none.
    code: u16,
}

impl ReplyReader {
    /// A reader at the beginning of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// The server sent these octets.
    pub fn feed(&mut self, octets: &[u8]) {
        self.pending.extend_from_slice(octets);
    }

    /// The next whole reply, or `None` when more must be fed; an error says why it is none.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, &'static str> {
        while let Some(line) = self.next_line() {
            self.size = self.size.saturating_add(line.len());
            let line = line.trim_ascii_end();
            let (code, last, text) = read_line(line).ok_or(NO_CODE)?;
            if !self.lines.is_empty() && self.code / 100 != code / 100 {
                return Err(MIXED);
            }
            if self.size > SIZE_LIMIT || self.lines.len() >= LINES_LIMIT {
                return Err(TOO_LONG);
            }
            self.code = code;
            self.lines.push(String::from_utf8_lossy(text).into_owned());
            if last {
                self.size = 0;
                let lines = core::mem::take(&mut self.lines);
                return Ok(Some(Reply { code, lines }));
            }
        }
        if self.size.saturating_add(self.pending.len()) > SIZE_LIMIT {
            return Err(TOO_LONG);
        }
        Ok(None)
    }

    /// A line with its end; each octet is looked at once, however it was cut.
    fn next_line(&mut self) -> Option<Vec<u8>> {
        let mut unsearched = self.pending.iter().skip(self.searched);
        let Some(end) = unsearched.position(|&octet| octet == b'\n') else {
            self.searched = self.pending.len();
            return None;
        };
        let end = self.searched.saturating_add(end);
        self.searched = 0;
        Some(self.pending.drain(..=end).collect())
    }
}

/// One line: its code, whether it is the last, its text.
fn read_line(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (digits, rest) = line.split_at_checked(3)?;
    let code = core::str::from_utf8(digits).ok()?.parse::<u16>().ok()?;
    // `parse` would take "+25" too.
    if !(200..=599).contains(&code) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    match rest.split_first() {
        None => Some((code, true, rest)),
        Some((b' ' | b'\t', text)) => Some((code, true, text)),
        Some((b'-', text)) => Some((code, false, text)),
        Some(_) => None,
    }
}
