//! The queue: a message on disk from its 250 until nothing is left to do for any recipient.
//!
//! It promises: when `commit` returns, the message survives a power cut (file and folder were
//! flushed; several messages may share one flush). What is on disk when the server starts is
//! taken up again. Every recipient ends as delivered, bounced or discarded, each once.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use vmaild_protocol::Envelope;

use crate::config::Params;
use crate::delivery::smtp::Handshake;

/// Ten or so upper-case hexadecimal digits, as in `queued as 3F2A9C01B7`.
pub type QueueId = String;

/// What the connection knows about where a message came from, for Received and the log.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The client's address.
    pub client: IpAddr,
    /// The client's name, `unknown` where it was not looked up.
    pub client_name: String,
    /// TLS version and cipher, for the Received header.
    pub tls: Option<String>,
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Untaken {
    /// No space, no permission, ...: 452 4.3.1.
    #[error("{0}")]
    Storage(#[from] io::Error),
    /// Aliases could not be expanded: 451 4.3.0 or 451 4.6.0.
    #[error(transparent)]
    Aliases(#[from] crate::aliases::Unexpanded),
    /// Too many Received headers: 554 5.4.0 (postconf(5) hopcount_limit).
    #[error("too many hops")]
    TooManyHops,
    /// The message outgrew message_size_limit.
    #[error("message too big")]
    TooBig,
}

/// What the queue and its deliveries need from the rest of the server.
#[derive(Debug, Clone)]
pub struct Services {
    /// The configuration; a reload counts from the next message.
    pub params: watch::Receiver<Arc<Params>>,
    /// `--resolver`: ask this name server instead of those of /etc/resolv.conf.
    pub resolver: Option<SocketAddr>,
    /// Puts TLS on connections to next hops; `None`: they stay in clear.
    pub tls: Option<Arc<dyn Handshake>>,
    /// Addresses at which this server listens: mail for them would loop (5.4.6).
    pub listening: Vec<SocketAddr>,
}

/// The queue of a running server. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {}

/// A message that is being received; dropped before `commit`, it leaves nothing behind.
#[derive(Debug)]
pub struct Incoming {}

impl Queue {
    /// Opens queue_directory (made where it is missing), takes up what is in it and begins to
    /// deliver. Must be called inside the tokio runtime.
    pub async fn open(services: Services) -> Result<Self, io::Error> {
        let _ = services;
        Ok(Self {})
    }

    /// Retries everything that is put off, now.
    pub fn flush(&self) {}

    /// Starts no more deliveries, and waits for those under way for `limit` at most. What is not
    /// finished stays on disk and is taken up at the next start.
    pub async fn drain(&self, limit: Duration) {
        let _ = limit;
    }

    /// Begins a message: assigns its queue id.
    pub async fn begin(&self, origin: Origin, envelope: &Envelope) -> Result<Incoming, Untaken> {
        let _ = (origin, envelope);
        Ok(Incoming {})
    }
}

impl Incoming {
    /// The queue id, for the log and for `queued as`.
    #[must_use]
    pub fn id(&self) -> &str {
        ""
    }

    /// Appends content (lines ended by CRLF, cut anywhere).
    pub async fn write(&mut self, content: &[u8]) -> Result<(), Untaken> {
        let _ = content;
        Ok(())
    }

    /// Expands aliases, makes the message durable and hands it to delivery. Only now may the
    /// client hear 250.
    pub async fn commit(self, envelope: &Envelope) -> Result<QueueId, Untaken> {
        let _ = envelope;
        Ok(String::new())
    }
}
