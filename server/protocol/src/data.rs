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

/// Where a reader of content stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// At the beginning of a line.
    LineStart,
    /// Behind the dot that begins a line after DATA.
    Dot,
    /// Behind that dot and CR.
    DotCr,
    /// Within a line.
    Within,
    /// Behind CR.
    Cr,
}

/// The content of a message as it comes: its line ends are checked, dots are taken off, it is
/// handed out in blocks, and given up when it grows too big.
#[derive(Debug)]
pub struct Content {
    /// It comes after DATA: a dot may begin a line to be taken off, or be the end.
    dots: bool,
    place: Place,
    block: Vec<u8>,
    /// Octets so far, those of a message given up included.
    size: u64,
    limit: u64,
    kept: bool,
}

impl Content {
    /// An empty message of at most `limit` octets, 0 means no limit; with `dots` after DATA,
    /// without in chunks.
    pub fn new(limit: u64, dots: bool) -> Self {
        let limit = if limit == 0 { u64::MAX } else { limit };
        Self {
            dots,
            place: Place::LineStart,
            block: Vec::new(),
            size: 0,
            limit,
            kept: true,
        }
    }

    /// Reads octets until the end of data or their own end: how many were read, and whether the
    /// end of data is behind them. Chunks may be cut between CR and LF.
    pub fn read(
        &mut self,
        octets: &[u8],
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
                self.write(text, actions);
                rest = behind;
            }
            let Some((&octet, behind)) = rest.split_first() else {
                return Ok((octets.len(), false));
            };
            rest = behind;
            self.place = match (self.place, octet) {
                (Place::Cr, b'\n') => {
                    self.write(b"\r\n", actions);
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
                (Place::LineStart, b'.') if self.dots => Place::Dot,
                _ => {
                    self.write(&[octet], actions);
                    Place::Within
                }
            };
        }
    }

    /// All of it was read: a last line without its CRLF gets one, and what is held back is handed
    /// out.
    pub fn finish(&mut self, actions: &mut VecDeque<Action>) -> Result<(), Bare> {
        match self.place {
            Place::Cr | Place::DotCr => return Err(Bare::Cr),
            // No octet of the client's, so it counts for no limit.
            Place::Within => self.append(b"\r\n", actions),
            Place::LineStart | Place::Dot => {}
        }
        if self.kept && !self.block.is_empty() {
            actions.push_back(Action::Content(core::mem::take(&mut self.block)));
        }
        Ok(())
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

    /// Gives the message up.
    pub fn discard(&mut self, actions: &mut VecDeque<Action>) {
        if core::mem::take(&mut self.kept) {
            self.block = Vec::new();
            actions.push_back(Action::Discard);
        }
    }

    /// More text. Beyond the limit the message is discarded, once, and the rest only counted.
    fn write(&mut self, text: &[u8], actions: &mut VecDeque<Action>) {
        let room = usize::try_from(self.limit.saturating_sub(self.size)).unwrap_or(usize::MAX);
        self.size = self.size.saturating_add(text.len() as u64);
        if self.kept {
            self.append(text.get(..room).unwrap_or(text), actions);
            if text.len() > room {
                self.discard(actions);
            }
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
