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

/// The octets of one chunk (RFC 3030 §2). Those of one that is refused are read all the same, for
/// they are no commands.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The message that it is a part of, or what the client hears once the octets are gone.
    pub(super) message: Result<Box<Message>, Reply>,
    size: u64,
    left: u64,
    last: bool,
}

impl Chunk {
    /// Begins one; if it is too big, that is the end of its message.
    pub(super) fn begin(
        mut message: Result<Box<Message>, Reply>,
        size: u64,
        last: bool,
        link: &mut Link,
    ) -> State {
        if let Ok(begun) = &mut message
            && !begun.content.has_room(size)
        {
            begun.content.discard(&mut link.actions);
            message = Err(Reply::new(552, "5.3.4 Chunk exceeds message size limit"));
        }
        State::Chunk(Self {
            message,
            size,
            left: size,
            last,
        })
    }

    pub(super) fn step(mut self, input: &mut Input, link: &mut Link) -> Progress {
        let piece = up_to(self.left, input.rest());
        let count = piece.len();
        if let Ok(message) = &mut self.message
            && let Err(bare) = message.content.read(piece, &mut link.actions)
        {
            let farewell = link.bare(bare);
            return Progress::Made(State::Chunk(self).end(Some(farewell), link));
        }
        input.consume(count);
        self.left = self.left.saturating_sub(count as u64);
        match self.left {
            0 => {}
            _ if count == 0 => return Progress::Waits(State::Chunk(self)),
            _ => return Progress::Made(State::Chunk(self)),
        }
        let stage = match self.message {
            Ok(message) if self.last => return message.store(link),
            Ok(message) => {
                link.send(&Reply::new(250, format!("2.0.0 Ok: {} bytes", self.size)));
                Stage::Chunks(message)
            }
            // The transaction is over with LAST, and of no use before.
            Err(reply) => {
                link.refuse(&reply);
                if self.last {
                    Stage::Idle
                } else {
                    Stage::Failed
                }
            }
        };
        Progress::Made(State::Ready(stage))
    }
}

/// The first `left` octets, but not more than a block at a time.
fn up_to(left: u64, octets: &[u8]) -> &[u8] {
    let count = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK);
    octets.get(..count).unwrap_or(octets)
}
