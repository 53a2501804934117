//! The states in which octets are a message: after DATA, in a BDAT chunk, in a chunk refused.
use alloc::boxed::Box;
use alloc::format;

use super::link::Link;
use super::state::{Asked, Progress, Stage, State};
use crate::data::{BLOCK, Bare, Body, ChunkReader, Unstuffer};
use crate::line::Input;
use crate::reply::Reply;
use crate::session::{Ask, Envelope};

/// Content after DATA (RFC 5321 §4.1.1.4).
#[derive(Debug)]
pub(super) struct Data {
    envelope: Envelope,
    unstuffer: Unstuffer,
    body: Body,
}

impl Data {
    pub(super) fn new(envelope: Envelope, link: &Link) -> Self {
        let body = Body::new(link.settings.message_size_limit);
        Self {
            envelope,
            unstuffer: Unstuffer::default(),
            body,
        }
    }

    pub(super) fn body_mut(&mut self) -> &mut Body {
        &mut self.body
    }

    pub(super) fn step(mut self: Box<Self>, input: &mut Input, link: &mut Link) -> Progress {
        let rest = input.rest();
        let piece = rest.get(..BLOCK).unwrap_or(rest);
        if piece.is_empty() {
            return Progress::Waits(State::Data(self));
        }
        match self
            .unstuffer
            .read(piece, &mut self.body, &mut link.actions)
        {
            Err(bare) => Progress::Made(bare_octet(bare, State::Data(self), link)),
            Ok((count, ended)) => {
                input.consume(count);
                Progress::Made(if ended {
                    self.ended(link)
                } else {
                    State::Data(self)
                })
            }
        }
    }

    fn ended(mut self, link: &mut Link) -> State {
        if self.body.is_kept() {
            return store(self.envelope, &mut self.body, link);
        }
        link.refuse(&Reply::new(552, "5.3.4 Error: message file too big"));
        State::Ready(Stage::Idle)
    }
}

/// A message of which at least one chunk was granted (RFC 3030 §2).
#[derive(Debug)]
pub(super) struct Chunks {
    envelope: Envelope,
    reader: ChunkReader,
    pub(super) body: Body,
}

impl Chunks {
    pub(super) fn new(envelope: Envelope, link: &Link) -> Self {
        let body = Body::new(link.settings.message_size_limit);
        Self {
            envelope,
            reader: ChunkReader::default(),
            body,
        }
    }

    /// A further chunk; one that is too big ends the message.
    pub(super) fn chunk(mut self: Box<Self>, size: u64, last: bool, link: &mut Link) -> State {
        if self.body.has_room(size) {
            return State::Chunk(Chunk {
                chunks: self,
                size,
                left: size,
                last,
            });
        }
        self.body.discard(&mut link.actions);
        let reply = Reply::new(552, "5.3.4 Chunk exceeds message size limit");
        State::Skip(Skip {
            left: size,
            reply,
            then: Stage::after_failure(last),
        })
    }
}

/// The octets of one chunk.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) chunks: Box<Chunks>,
    size: u64,
    left: u64,
    last: bool,
}

impl Chunk {
    pub(super) fn step(mut self, input: &mut Input, link: &mut Link) -> Progress {
        let piece = up_to(self.left, input.rest());
        let count = piece.len();
        let Chunks { reader, body, .. } = &mut *self.chunks;
        let mut read = reader.read(piece, body, &mut link.actions);
        self.left = self.left.saturating_sub(count as u64);
        let done = self.left == 0;
        if read.is_ok() && done && self.last {
            read = reader.finish(body, &mut link.actions);
        }
        if let Err(bare) = read {
            return Progress::Made(bare_octet(bare, State::Chunk(self), link));
        }
        input.consume(count);
        match (done, self.last) {
            (false, _) if count == 0 => Progress::Waits(State::Chunk(self)),
            (false, _) => Progress::Made(State::Chunk(self)),
            (true, false) => {
                link.send(&Reply::new(250, format!("2.0.0 Ok: {} bytes", self.size)));
                Progress::Made(State::Ready(Stage::Chunks(self.chunks)))
            }
            (true, true) => {
                let mut chunks = *self.chunks;
                Progress::Made(store(chunks.envelope, &mut chunks.body, link))
            }
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

fn store(envelope: Envelope, body: &mut Body, link: &mut Link) -> State {
    body.finish(&mut link.actions);
    link.ask(Ask::Store(envelope));
    State::Asked(Asked::Store)
}

/// As Postfix with smtpd_forbid_bare_newline = reject: what follows cannot be trusted.
fn bare_octet(bare: Bare, state: State, link: &mut Link) -> State {
    let text = match bare {
        Bare::Lf => BARE_LF,
        Bare::Cr => "Error: bare <CR> received",
    };
    let farewell = link.named(550, "5.5.2", text);
    state.end(Some(farewell), link)
}

/// The answer to a LF without CR, in commands and in content.
pub(super) const BARE_LF: &str = "Error: bare <LF> received";
