//! SMTP as a pure state machine (RFC 5321): bytes and answers go in, actions come out.
//!
//! There is no I/O here and no clock; the crate is `no_std`, so breaking that does not compile.
//! A decision that is not the protocol's (may this recipient, is this password right, store this
//! message) is an [`Ask`]; the session stands still until it is answered.
//!
//! | file | what it holds |
//! |---|---|
//! | `address` | paths and mailboxes of the envelope (RFC 5321 §4.1.2) |
//! | `command` | one command line, parsed |
//! | `data` | message content: dot-unstuffing, the end of data, bare CR and LF, the size |
//! | `line` | bytes cut into command lines, with a limit |
//! | `reply` | a reply: written by the server, read by the client that delivers |
//! | `sasl` | AUTH PLAIN and LOGIN (RFC 4954, RFC 4616) |
//! | `session` | the session: its states, what is true in each |
//! | `xtext` | how ENVID=, ORCPT= and AUTH= are encoded (RFC 3461 §4) |
#![no_std]
// It reads hostile octets: no index, no sum and no cast that could panic or lie.
#![warn(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss
)]

extern crate alloc;

pub mod address;
pub mod command;
pub mod data;
pub mod line;
pub mod reply;
pub mod sasl;
pub mod session;
pub mod xtext;

pub use address::{Mailbox, ReversePath};
pub use reply::{Reply, ReplyReader};
pub use session::{Action, Ask, Envelope, Recipient, Session, Settings};
