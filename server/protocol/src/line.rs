//! What the client sent and nobody has read yet, cut into lines with a limit.
//!
//! A command line ends with CRLF and nothing else (RFC 5321 §2.3.8); a bare LF is reported, not
//! guessed about, and a bare CR is a character of the line. Of a line over the limit its beginning
//! is kept and the rest is skipped, so that one line never needs more memory than the limit.
use alloc::vec::Vec;

/// How a TLS handshake record begins: a client that expected TLS from the first byte.
const CLIENT_HELLO: &[u8] = &[0x16, 0x03];

/// One line of input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A line without its CRLF.
    Whole {
        /// Its octets, at most the limit.
        octets: Vec<u8>,
        /// It was longer; the rest was skipped.
        cut: bool,
    },
    /// A LF without CR in front of it.
    BareLf,
    /// The beginning of a TLS handshake.
    ClientHello,
}

/// What was fed and not yet consumed.
#[derive(Debug, Default)]
pub struct Input {
    octets: Vec<u8>,
    /// How much of `octets` was consumed.
    consumed: usize,
    /// The beginning of the line that is being read.
    line: Vec<u8>,
    /// Whether the last octet of that line, kept or skipped, is CR.
    ends_with_cr: bool,
    /// Whether a part of that line was not kept.
    skipped: bool,
    /// The longest line that is kept.
    limit: usize,
}

impl Input {
    /// Nothing fed yet; lines up to `limit` octets without CRLF are kept whole.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// More octets.
    pub fn feed(&mut self, octets: &[u8]) {
        self.octets.drain(..self.consumed);
        self.consumed = 0;
        self.octets.extend_from_slice(octets);
    }

    /// Throws away everything that was fed, half a line included.
    pub fn clear(&mut self) {
        *self = Self::new(self.limit);
    }

    /// What was not consumed.
    pub fn rest(&self) -> &[u8] {
        self.octets.get(self.consumed..).unwrap_or_default()
    }

    /// So much of `rest` was dealt with.
    pub fn consume(&mut self, count: usize) {
        self.consumed = self.consumed.saturating_add(count).min(self.octets.len());
    }

    /// The next line, or `None` when its end was not fed yet.
    pub fn next_line(&mut self) -> Option<Line> {
        let rest = self.octets.get(self.consumed..).unwrap_or_default();
        let end = rest.iter().position(|&octet| octet == b'\n');
        let piece = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        if let Some(&last) = piece.last() {
            self.ends_with_cr = last == b'\r';
        }
        // CR has room besides the limit.
        let room = self.limit.saturating_add(1).saturating_sub(self.line.len());
        self.line.extend(piece.iter().take(room));
        self.skipped |= piece.len() > room;
        let count = piece.len().saturating_add(usize::from(end.is_some()));
        self.consume(count);
        if self.line.starts_with(CLIENT_HELLO) {
            return Some(Line::ClientHello);
        }
        end.map(|_| self.finish())
    }

    /// The line that a LF has just ended.
    fn finish(&mut self) -> Line {
        let mut octets = core::mem::take(&mut self.line);
        let cut = core::mem::take(&mut self.skipped);
        if !core::mem::take(&mut self.ends_with_cr) {
            return Line::BareLf;
        }
        if !cut {
            octets.pop();
        }
        octets.truncate(self.limit);
        Line::Whole { octets, cut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(fed: &[u8]) -> Vec<Line> {
        let mut input = Input::new(4);
        input.feed(fed);
        core::iter::from_fn(|| input.next_line()).take(3).collect()
    }

    fn whole(octets: &[u8], cut: bool) -> Line {
        Line::Whole {
            octets: octets.into(),
            cut,
        }
    }

    #[test]
    fn lines_end_with_crlf_and_are_cut_at_the_limit() {
        for (fed, expected) in [
            (
                &b"abcd\r\n\r\na"[..],
                &[whole(b"abcd", false), whole(b"", false)][..],
            ),
            (b"ab\r\r\n", &[whole(b"ab\r", false)]),
            (
                b"abcde\r\nf\r\n",
                &[whole(b"abcd", true), whole(b"f", false)],
            ),
            (
                b"abcd\refg\r\nh\r\n",
                &[whole(b"abcd", true), whole(b"h", false)],
            ),
            (b"\nabcdefgh\n", &[Line::BareLf, Line::BareLf]),
        ] {
            assert_eq!(lines(fed), expected);
        }
    }
}
