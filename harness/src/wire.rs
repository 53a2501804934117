//! Our own SMTP client: octets out, replies in, nothing added, nothing forgiven silently.
//!
//! It promises: what is sent leaves exactly as given, one segment a call; a reply is read whole or
//! not at all; the ways in which a connection can end are told apart; octets that came in clear
//! behind the reply to STARTTLS are kept and shown, not mixed into what TLS brings.

pub mod reply;
mod trust;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub use reply::{Fault, Reply};
pub use trust::Trust;

use crate::scenario::Handshake;

/// What came when a reply was awaited.
#[derive(Debug, Clone)]
pub enum Heard {
    /// One whole reply.
    Reply(Reply),
    /// A TLS alert in clear where SMTP was spoken: its level and description (RFC 8446 §6).
    Alert(u8, u8),
    /// The connection ended; what had come of an unfinished reply.
    Closed(End, Vec<u8>),
    /// The limit passed; what had come of an unfinished reply.
    Silence(Vec<u8>),
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// FIN: the peer closed in order.
    Eof,
    /// RST: the peer dropped it.
    Reset,
    /// FIN within TLS, without the peer's close_notify.
    Truncated,
    /// Anything else the system said.
    Error(String),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Eof => f.write_str("closed"),
            Self::Reset => f.write_str("closed by a reset"),
            Self::Truncated => f.write_str("closed without TLS close_notify"),
            Self::Error(why) => write!(f, "connection failed: {why}"),
        }
    }
}

#[derive(Debug)]
enum Stream {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// One connection to the target.
#[derive(Debug)]
pub struct Wire {
    stream: Stream,
    buffer: Vec<u8>,
    ended: Option<End>,
}

impl Wire {
    /// Connects from `source` to `target`.
    pub async fn connect(source: IpAddr, target: SocketAddr, limit: Duration) -> io::Result<Self> {
        let socket = if target.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.bind(SocketAddr::new(source, 0)).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("this machine cannot connect from {source}: {error}"),
            )
        })?;
        let stream = timeout(limit, socket.connect(target)).await.map_err(|_| {
            io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer from {target} in {limit:?}"),
            )
        })??;
        // Each `C:` group leaves at once, in a segment of its own.
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: Stream::Clear(stream),
            buffer: Vec::new(),
            ended: None,
        })
    }

    /// Whether the connection is inside TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// The TLS handshake. Returns what had come in clear and was not read: a server that speaks
    /// between its 220 and the handshake answers things that an attacker may have slipped in.
    pub async fn handshake(
        self,
        trust: &Trust,
        name: &str,
        how: Handshake,
        limit: Duration,
    ) -> io::Result<(Self, Vec<u8>)> {
        let Stream::Clear(stream) = self.stream else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the connection is in TLS already",
            ));
        };
        let connector = TlsConnector::from(trust.client(how)?);
        let name = ServerName::try_from(name.to_owned()).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{name}: no host name"))
        })?;
        let stream = timeout(limit, connector.connect(name, stream))
            .await
            .map_err(|_| {
                io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no handshake in {limit:?}"),
                )
            })??;
        let wire = Self {
            stream: Stream::Tls(Box::new(stream)),
            buffer: Vec::new(),
            ended: None,
        };
        Ok((wire, self.buffer))
    }

    /// Sends one segment. An error is remembered and shows when the next reply is awaited, since
    /// what the server said before it closed is still to be read.
    pub async fn send(&mut self, octets: &[u8], limit: Duration) {
        let write = async {
            match &mut self.stream {
                Stream::Clear(stream) => {
                    stream.write_all(octets).await?;
                    stream.flush().await
                }
                Stream::Tls(stream) => {
                    stream.write_all(octets).await?;
                    stream.flush().await
                }
            }
        };
        match timeout(limit, write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.ended = Some(end_of(&error)),
            Err(_) => self.ended = Some(End::Error("the server does not read what is sent".into())),
        }
    }

    /// Reads one whole reply.
    pub async fn hear(&mut self, limit: Duration) -> Heard {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(&[21, 3, _, 0, 2, level, what]) = self.buffer.first_chunk() {
                self.buffer.drain(..7);
                return Heard::Alert(level, what);
            }
            // The first octets of an alert are no reply, whatever its last one is.
            let alert = self.buffer.first() == Some(&21) && self.buffer.len() < 7;
            if let Some(reply) = (!alert).then(|| reply::take(&mut self.buffer)).flatten() {
                return Heard::Reply(reply);
            }
            let mut chunk = [0_u8; 8192];
            let read = async {
                match &mut self.stream {
                    Stream::Clear(stream) => stream.read(&mut chunk).await,
                    Stream::Tls(stream) => stream.read(&mut chunk).await,
                }
            };
            match timeout_at(deadline, read).await {
                Err(_) => return Heard::Silence(self.buffer.clone()),
                Ok(Ok(0)) => {
                    let end = self
                        .ended
                        .take()
                        .filter(|end| *end != End::Eof)
                        .unwrap_or(End::Eof);
                    return Heard::Closed(end, std::mem::take(&mut self.buffer));
                }
                Ok(Err(error)) => {
                    return Heard::Closed(end_of(&error), std::mem::take(&mut self.buffer));
                }
                Ok(Ok(octets)) => self
                    .buffer
                    .extend_from_slice(chunk.get(..octets).unwrap_or(&[])),
            }
        }
    }

    /// Ends the connection as a broken line does: FIN, and nothing before it.
    pub fn cut(self) {}

    /// Ends the connection by RST.
    pub fn reset(self) {
        let stream = match &self.stream {
            Stream::Clear(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
        };
        // Where that cannot be said, dropping it is an end all the same.
        let _ = set_socket_linger(stream, Some(Duration::ZERO));
    }

    /// Nothing more will be sent: close_notify within TLS, then FIN. What the server still says can
    /// be read.
    pub async fn finish(&mut self) {
        let end = async {
            match &mut self.stream {
                Stream::Clear(stream) => stream.shutdown().await,
                Stream::Tls(stream) => stream.shutdown().await,
            }
        };
        // The peer may be gone already; there is nobody left to tell.
        let _ = timeout(Duration::from_secs(1), end).await;
    }

    /// Ends the connection in order: close_notify within TLS, then FIN.
    pub async fn close(mut self) {
        self.finish().await;
    }
}

fn end_of(error: &io::Error) -> End {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionAborted => End::Reset,
        io::ErrorKind::UnexpectedEof => End::Truncated,
        _ => End::Error(error.to_string()),
    }
}
