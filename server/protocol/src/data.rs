//! Message content: after DATA (RFC 5321 §4.5.2) and in BDAT chunks (RFC 3030 §2).
//!
//! Only CRLF.CRLF ends content after DATA, and only CRLF ends a line. A bare LF or a bare CR is an
//! error in both: what one server takes for a line end and the next one does not is how messages
//! are smuggled. What passes is handed out in blocks of one size, so that neither the cuts of the
//! network nor the length of a line shows in the actions.
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::session::Action;

/// Octets of one [`Action::Content`], but for the last of a message.
pub const BLOCK: usize = 16 * 1024;

/// An octet that only makes sense in CRLF stood alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bare {
    /// LF without CR in front of it.
    Lf,
    /// CR without LF behind it.
    Cr,
}

/// Where a reader of content after DATA stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    /// At the beginning of a line.
    #[default]
    LineStart,
    /// Behind the dot that begins a line.
    Dot,
    /// Behind that dot and CR.
    DotCr,
    /// Within a line.
    Within,
    /// Behind CR.
    Cr,
}

/// Takes the dots off content after DATA and finds its end.
#[derive(Debug, Default)]
pub struct Unstuffer {
    place: Place,
}

impl Unstuffer {
    /// Reads octets until the end of data or their own end: how many were read, and whether the
    /// end of data is behind them.
    pub fn read(
        &mut self,
        octets: &[u8],
        body: &mut Body,
        actions: &mut VecDeque<Action>,
    ) -> Result<(usize, bool), Bare> {
        let mut rest = octets;
        loop {
            if self.place == Place::Within {
                // The bulk of a message: everything up to the next octet that matters.
                let end = rest.iter().position(|octet| matches!(octet, b'\r' | b'\n'));
                let (text, behind) = rest
                    .split_at_checked(end.unwrap_or(rest.len()))
                    .unwrap_or_default();
                body.write(text, actions);
                rest = behind;
            }
            let Some((&octet, behind)) = rest.split_first() else {
                return Ok((octets.len(), false));
            };
            rest = behind;
            self.place = match (self.place, octet) {
                (Place::Cr, b'\n') => {
                    body.write(b"\r\n", actions);
                    Place::LineStart
                }
                (Place::DotCr, b'\n') => {
                    self.place = Place::LineStart;
                    return Ok((octets.len().saturating_sub(rest.len()), true));
                }
                (Place::Cr | Place::DotCr, _) => return Err(Bare::Cr),
                (_, b'\n') => return Err(Bare::Lf),
                (Place::Dot, b'\r') => Place::DotCr,
                (_, b'\r') => Place::Cr,
                (Place::LineStart, b'.') => Place::Dot,
                _ => {
                    body.write(&[octet], actions);
                    Place::Within
                }
            };
        }
    }
}

/// Checks the line ends of BDAT chunks; a chunk may be cut between CR and LF.
#[derive(Debug, Default)]
pub struct ChunkReader {
    /// The last octet so far is CR.
    after_cr: bool,
    /// The last octet so far is not LF.
    within_line: bool,
}

impl ChunkReader {
    /// Reads octets of a chunk.
    pub fn read(
        &mut self,
        octets: &[u8],
        body: &mut Body,
        actions: &mut VecDeque<Action>,
    ) -> Result<(), Bare> {
        let mut rest = octets;
        loop {
            if self.after_cr {
                let Some((&octet, behind)) = rest.split_first() else {
                    return Ok(());
                };
                if octet != b'\n' {
                    return Err(Bare::Cr);
                }
                rest = behind;
                body.write(b"\r\n", actions);
                (self.after_cr, self.within_line) = (false, false);
            }
            let end = rest.iter().position(|octet| matches!(octet, b'\r' | b'\n'));
            let (text, behind) = rest
                .split_at_checked(end.unwrap_or(rest.len()))
                .unwrap_or_default();
            self.within_line |= !text.is_empty();
            body.write(text, actions);
            match behind.split_first() {
                None => return Ok(()),
                Some((b'\n', _)) => return Err(Bare::Lf),
                Some((_, behind)) => {
                    self.after_cr = true;
                    rest = behind;
                }
            }
        }
    }

    /// The last chunk has been read: a last line without its CRLF gets one.
    pub fn finish(&self, body: &mut Body, actions: &mut VecDeque<Action>) -> Result<(), Bare> {
        if self.after_cr {
            return Err(Bare::Cr);
        }
        if self.within_line {
            body.append(b"\r\n", actions);
        }
        Ok(())
    }
}

/// The message that is being received: handed out in blocks, given up when it grows too big.
#[derive(Debug)]
pub struct Body {
    block: Vec<u8>,
    /// Octets so far, those of a message given up included.
    size: u64,
    limit: u64,
    kept: bool,
}

impl Body {
    /// An empty message of at most `limit` octets; 0 means no limit.
    pub fn new(limit: u64) -> Self {
        let limit = if limit == 0 { u64::MAX } else { limit };
        Self {
            block: Vec::new(),
            size: 0,
            limit,
            kept: true,
        }
    }

    /// Whether so many octets more would still be within the limit.
    pub fn has_room(&self, octets: u64) -> bool {
        self.size
            .checked_add(octets)
            .is_some_and(|size| size <= self.limit)
    }

    /// Whether the message is still wanted.
    pub fn is_kept(&self) -> bool {
        self.kept
    }

    /// More text. Beyond the limit the message is discarded, once, and the rest only counted.
    pub fn write(&mut self, text: &[u8], actions: &mut VecDeque<Action>) {
        let room = usize::try_from(self.limit.saturating_sub(self.size)).unwrap_or(usize::MAX);
        self.size = self
            .size
            .saturating_add(u64::try_from(text.len()).unwrap_or(u64::MAX));
        if self.kept {
            self.append(text.get(..room).unwrap_or(text), actions);
            if text.len() > room {
                self.discard(actions);
            }
        }
    }

    /// Hands out what is still held back.
    pub fn finish(&mut self, actions: &mut VecDeque<Action>) {
        if self.kept && !self.block.is_empty() {
            actions.push_back(Action::Content(core::mem::take(&mut self.block)));
        }
    }

    /// Gives the message up.
    pub fn discard(&mut self, actions: &mut VecDeque<Action>) {
        if core::mem::take(&mut self.kept) {
            self.block = Vec::new();
            actions.push_back(Action::Discard);
        }
    }

    fn append(&mut self, mut text: &[u8], actions: &mut VecDeque<Action>) {
        while !text.is_empty() {
            let room = BLOCK.saturating_sub(self.block.len()).min(text.len());
            let (piece, behind) = text.split_at_checked(room).unwrap_or((text, &[]));
            self.block.extend_from_slice(piece);
            text = behind;
            if self.block.len() >= BLOCK {
                actions.push_back(Action::Content(core::mem::take(&mut self.block)));
            }
        }
    }
}
