//! The states in which octets are a message: after DATA, in a BDAT chunk, in a chunk refused.
use alloc::boxed::Box;
use alloc::format;

use super::link::Link;
use super::state::{Asked, Progress, Stage, State};
use crate::data::{BLOCK, Bare, Content};
use crate::line::Input;
use crate::reply::Reply;
use crate::session::{Ask, Envelope};

/// A message that was begun.
#[derive(Debug)]
pub(super) struct Message {
    envelope: Envelope,
    pub(super) content: Content,
}

impl Message {
    /// Begins one; `dots` are taken off its lines where it comes by DATA.
    pub(super) fn begin(envelope: Envelope, dots: bool, link: &Link) -> Box<Self> {
        let content = Content::new(link.settings.message_size_limit, dots);
        Box::new(Self { envelope, content })
    }

    /// Goes on after DATA (RFC 5321 §4.1.1.4).
    pub(super) fn step(mut self: Box<Self>, input: &mut Input, link: &mut Link) -> Progress {
        let piece = up_to(u64::MAX, input.rest());
        if piece.is_empty() {
            return Progress::Waits(State::Data(self));
        }
        let (count, ended) = match self.content.read(piece, &mut link.actions) {
            Ok(read) => read,
            Err(bare) => return self.reject(bare, link),
        };
        input.consume(count);
        if !ended {
            return Progress::Made(State::Data(self));
        }
        if self.content.is_kept() {
            return self.store(link);
        }
        link.refuse(&Reply::new(552, "5.3.4 Error: message file too big"));
        Progress::Made(State::begin())
    }

    /// A further chunk (RFC 3030 §2); one that is too big ends the message.
    pub(super) fn chunk(mut self: Box<Self>, size: u64, last: bool, link: &mut Link) -> State {
        if self.content.has_room(size) {
            return State::Chunk(Chunk {
                message: self,
                size,
                left: size,
                last,
            });
        }
        self.content.discard(&mut link.actions);
        let reply = Reply::new(552, "5.3.4 Chunk exceeds message size limit");
        Skip::chunk(size, last, reply)
    }

    /// All of it has come.
    fn store(mut self: Box<Self>, link: &mut Link) -> Progress {
        match self.content.finish(&mut link.actions) {
            Ok(()) => Progress::Made(link.ask(Ask::Store(self.envelope), Asked::Store)),
            Err(bare) => self.reject(bare, link),
        }
    }

    /// As Postfix with smtpd_forbid_bare_newline = reject: what follows cannot be trusted.
    fn reject(self: Box<Self>, bare: Bare, link: &mut Link) -> Progress {
        let farewell = link.bare(bare);
        Progress::Made(State::Data(self).end(Some(farewell), link))
    }
}

/// The octets of one chunk.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) message: Box<Message>,
    size: u64,
    left: u64,
    last: bool,
}

impl Chunk {
    pub(super) fn step(mut self, input: &mut Input, link: &mut Link) -> Progress {
        let piece = up_to(self.left, input.rest());
        let (count, _) = match self.message.content.read(piece, &mut link.actions) {
            Ok(read) => read,
            Err(bare) => return self.message.reject(bare, link),
        };
        input.consume(count);
        self.left = self.left.saturating_sub(count as u64);
        match (self.left, self.last) {
            (0, true) => self.message.store(link),
            (0, false) => {
                link.send(&Reply::new(250, format!("2.0.0 Ok: {} bytes", self.size)));
                Progress::Made(State::Ready(Stage::Chunks(self.message)))
            }
            _ if count == 0 => Progress::Waits(State::Chunk(self)),
            _ => Progress::Made(State::Chunk(self)),
        }
    }
}

/// A chunk that was refused: its octets are read all the same, they are no commands.
#[derive(Debug)]
pub(super) struct Skip {
    pub(super) left: u64,
    /// What the client hears once they are gone.
    pub(super) reply: Reply,
    pub(super) then: Stage,
}

impl Skip {
    /// A chunk within a transaction, which is over with LAST, and of no use before.
    pub(super) fn chunk(size: u64, last: bool, reply: Reply) -> State {
        State::Skip(Self {
            left: size,
            reply,
            then: if last { Stage::Idle } else { Stage::Failed },
        })
    }

    pub(super) fn step(mut self, input: &mut Input, link: &mut Link) -> Progress {
        let count = up_to(self.left, input.rest()).len();
        input.consume(count);
        self.left = self.left.saturating_sub(count as u64);
        match (self.left, count) {
            (0, _) => {
                link.refuse(&self.reply);
                Progress::Made(State::Ready(self.then))
            }
            (_, 0) => Progress::Waits(State::Skip(self)),
            _ => Progress::Made(State::Skip(self)),
        }
    }
}

/// The first `left` octets, but not more than a block at a time.
fn up_to(left: u64, octets: &[u8]) -> &[u8] {
    let count = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK);
    octets.get(..count).unwrap_or(octets)
}
