//! What may come next, and what is true because of what came before.
//!
//! ```text
//!              line                         granted
//!   Ready ───────────────► Asked(Begin) ───────────────► Data ──── end of data ──► Asked(Store)
//!   │ ▲ │                  Asked(Sender), …               Chunk ── LAST ──────────► Asked(Store)
//!   │ │ │ AUTH                   │ answer                   │ not LAST                   │
//!   │ │ └──────► Sasl ─► Asked(Password) ─┐                 │                            │
//!   │ └──────────────────────────┴────────┴─────────────────┴────────────────────────────┘
//!   └ STARTTLS ─► Handshake ─► Ready            QUIT, an error that ends it: Closed
//! ```
//!
//! A state owns what is true in it, is consumed by what happens, and returns the next one.
use alloc::boxed::Box;
use alloc::string::String;

use super::commands::{authenticate, obey};
use super::content::{Chunk, Message};
use super::link::Link;
use crate::command::foreign;
use crate::data::Bare;
use crate::line::{Input, Line};
use crate::reply::Reply;
use crate::sasl::Exchange;
use crate::session::{Action, Envelope, Recipient};

/// What the session waits for.
#[derive(Debug)]
pub(super) enum State {
    /// A command.
    Ready(Stage),
    /// A line of an AUTH exchange.
    Sasl(Exchange),
    /// The answer to an [`Ask`].
    Asked(Asked),
    /// Content after DATA.
    Data(Box<Message>),
    /// Octets of a BDAT chunk.
    Chunk(Chunk),
    /// The TLS handshake.
    Handshake,
    /// Nothing any more.
    Closed,
}

/// How far a transaction is (RFC 5321 §3.3).
#[derive(Debug, Default)]
pub(super) enum Stage {
    /// There is none.
    #[default]
    Idle,
    /// MAIL was granted.
    Open(Transaction),
    /// BDAT was granted, LAST did not come yet.
    Chunks(Box<Message>),
    /// A chunk failed: nothing but RSET, EHLO or the rest of the chunks (RFC 3030 §2).
    Failed,
}

/// An open transaction.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) envelope: Envelope,
    /// Recipients over the limit so far.
    pub(super) overshoot: u32,
}

/// What was asked, and what it would make true.
#[derive(Debug)]
pub(super) enum Asked {
    Sender(Envelope),
    Recipient(Transaction, Recipient),
    /// VRFY, ETRN: nothing becomes true.
    Nothing(Stage),
    Password(String),
    Data(Transaction),
    /// The first chunk: its size, and whether it is the last.
    Chunk(Transaction, u64, bool),
    Store,
}

/// What came of a step.
pub(super) enum Progress {
    /// There may be more to do at once.
    Made(State),
    /// More must be fed.
    Waits(State),
}

impl State {
    pub(super) fn begin() -> Self {
        Self::Ready(Stage::Idle)
    }

    /// Whether an [`Ask`] is open.
    pub(super) fn is_asked(&self) -> bool {
        matches!(self, Self::Asked(_))
    }

    /// Whether what is fed is meant for the session.
    pub(super) fn listens(&self) -> bool {
        !matches!(self, Self::Handshake | Self::Closed)
    }

    /// Goes on with what was fed.
    pub(super) fn step(self, input: &mut Input, link: &mut Link) -> Progress {
        match self {
            Self::Ready(_) if link.is_exhausted() => {
                link.pause();
                let farewell = link.named(421, "4.7.0", "Error: too many errors");
                Progress::Made(self.end(Some(farewell), link))
            }
            Self::Ready(_) | Self::Sasl(_) => match input.next_line() {
                None => Progress::Waits(self),
                Some(Line::Whole { octets, cut }) => {
                    Progress::Made(self.line(&octets, cut, input, link))
                }
                Some(Line::BareLf) => {
                    let farewell = link.bare(Bare::Lf);
                    Progress::Made(self.end(Some(farewell), link))
                }
                Some(Line::ClientHello) => Progress::Made(self.end(Some(foreign()), link)),
            },
            Self::Data(data) => data.step(input, link),
            Self::Chunk(chunk) => chunk.step(input, link),
            Self::Asked(_) | Self::Handshake | Self::Closed => Progress::Waits(self),
        }
    }

    /// Goes on with a line: a command, or the answer to a challenge. A refusal with 221 or 521 ends
    /// the session.
    fn line(self, octets: &[u8], cut: bool, input: &mut Input, link: &mut Link) -> Self {
        let mut stage = Stage::Idle;
        let done = match self {
            Self::Sasl(exchange) => exchange
                .respond(octets, cut)
                .map(|step| authenticate(step, link)),
            Self::Ready(ready) => {
                stage = ready;
                obey(octets, &mut stage, input, link)
            }
            other => return other,
        };
        done.unwrap_or_else(|reply| {
            if matches!(reply.code, 221 | 521) {
                return Self::Ready(stage).end(Some(reply), link);
            }
            link.refuse(&reply);
            Self::Ready(stage)
        })
    }

    /// The answer to what was asked. 421 and 521 end the session (RFC 5321 §3.8, RFC 7504 §3).
    pub(super) fn answered(self, reply: Reply, link: &mut Link) -> Self {
        match self {
            Self::Asked(_) if matches!(reply.code, 421 | 521) => self.end(Some(reply), link),
            Self::Asked(asked) => asked.answered(reply, link),
            other => other,
        }
    }

    /// The handshake is done (RFC 3207 §4.2).
    pub(super) fn secured(self, link: &mut Link) -> Self {
        if !matches!(self, Self::Handshake) {
            return self;
        }
        link.tls = true;
        link.helo.clear();
        link.extended = false;
        link.user = None;
        Self::begin()
    }

    /// Ends the session: a message half received is discarded. Where a handshake is under way,
    /// nothing can be said.
    pub(super) fn end(self, farewell: Option<Reply>, link: &mut Link) -> Self {
        let farewell = match self {
            Self::Closed => return Self::Closed,
            Self::Handshake => None,
            _ => farewell,
        };
        let begun = match self {
            Self::Data(message)
            | Self::Ready(Stage::Chunks(message))
            | Self::Asked(Asked::Nothing(Stage::Chunks(message))) => Some(message),
            Self::Chunk(chunk) => chunk.message.ok(),
            _ => None,
        };
        if let Some(mut message) = begun {
            message.content.discard(&mut link.actions);
        }
        let farewell = farewell.map(|reply| Action::Send(reply.to_wire()));
        link.actions.extend(farewell);
        link.actions.push_back(Action::Close);
        Self::Closed
    }
}

impl Stage {
    /// Forgets the transaction; a message half received is discarded.
    pub(super) fn abandon(self, link: &mut Link) {
        if let Self::Chunks(mut message) = self {
            message.content.discard(&mut link.actions);
        }
    }
}

impl Asked {
    fn answered(self, reply: Reply, link: &mut Link) -> State {
        match self {
            Self::Sender(envelope) => {
                let overshoot = 0;
                State::Ready(if link.pass(&reply) {
                    Stage::Open(Transaction {
                        envelope,
                        overshoot,
                    })
                } else {
                    Stage::Idle
                })
            }
            Self::Recipient(mut transaction, recipient) => {
                if link.pass(&reply) {
                    transaction.envelope.recipients.push(recipient);
                }
                State::Ready(Stage::Open(transaction))
            }
            Self::Nothing(stage) => {
                link.pass(&reply);
                State::Ready(stage)
            }
            Self::Password(user) => {
                if link.pass(&reply) {
                    link.user = Some(user);
                }
                State::begin()
            }
            Self::Data(transaction) => {
                if link.pass(&reply) {
                    State::Data(Message::begin(transaction.envelope, true, link))
                } else {
                    State::Ready(Stage::Open(transaction))
                }
            }
            Self::Chunk(transaction, size, last) => {
                let message = if reply.is_positive() {
                    Ok(Message::begin(transaction.envelope, false, link))
                } else {
                    Err(reply)
                };
                Chunk::begin(message, size, last, link)
            }
            Self::Store => {
                if link.pass(&reply) {
                    link.forgive();
                }
                State::begin()
            }
        }
    }
}
