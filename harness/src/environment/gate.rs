//! The way from a target to its database, which can be shut.
//!
//! A TCP proxy before MySQL for targets of a case's own. *Open*: octets pass. *Stopped*: new
//! connections are refused by the kernel, those that stood are cut. *Paused*: connections are taken
//! and stand, and no octet passes in either direction; it passes when the gate is open again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::random;

/// Gates have an address of their own, so that no outgoing connection takes the port of a shut one.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 2);

/// A gate. Dropping it cuts everything.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    backend: Arc<str>,
    paused: watch::Sender<bool>,
    /// Takes connections and holds those that stand; `None`: stopped.
    accepting: Option<JoinHandle<()>>,
}

impl Gate {
    /// An open gate before `backend` (host:port).
    pub fn open(backend: &str) -> io::Result<Self> {
        let address = SocketAddr::new(ADDRESS.into(), random::free_port(ADDRESS.into())?);
        let mut gate = Self {
            address,
            backend: backend.into(),
            paused: watch::Sender::new(false),
            accepting: None,
        };
        gate.listen()?;
        Ok(gate)
    }

    /// Where targets find their database.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Refuses new connections and cuts those that stand.
    pub async fn stop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            // The port is closed and the connections are cut when the task is gone.
            let _ = accepting.await;
        }
    }

    /// Lets everything stand.
    pub fn pause(&mut self) -> io::Result<()> {
        self.paused.send_replace(true);
        self.listen()
    }

    /// Opens again after `stop` or `pause`.
    pub fn resume(&mut self) -> io::Result<()> {
        self.paused.send_replace(false);
        self.listen()
    }

    fn listen(&mut self) -> io::Result<()> {
        if self.accepting.is_none() {
            let listener = listener(self.address)?;
            let (backend, paused) = (Arc::clone(&self.backend), self.paused.subscribe());
            self.accepting = Some(tokio::spawn(accept(listener, backend, paused)));
        }
        Ok(())
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(accepting) = &self.accepting {
            accepting.abort();
        }
    }
}

/// Listens at once (SO_REUSEADDR is set by the standard library on Unix).
pub(super) fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = StdListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

async fn accept(listener: TcpListener, backend: Arc<str>, paused: watch::Receiver<bool>) {
    // Aborted with the task that holds it.
    let mut passing = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                passing.spawn(pass(client, Arc::clone(&backend), paused.clone()));
            }
            Some(_) = passing.join_next() => {}
        }
    }
}

async fn pass(client: TcpStream, backend: Arc<str>, mut paused: watch::Receiver<bool>) {
    if paused.wait_for(|paused| !paused).await.is_err() {
        return;
    }
    let Ok(server) = TcpStream::connect(&*backend).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // Both end when either does: a half-closed connection is of no use to the MySQL protocol.
    tokio::select! {
        () = carry(from_client, to_server, paused.clone()) => {}
        () = carry(from_server, to_client, paused) => {}
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut paused: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(octets @ 1..) = from.read(&mut buffer).await {
        if paused.wait_for(|paused| !paused).await.is_err()
            || to.write_all(&buffer[..octets]).await.is_err()
        {
            return;
        }
    }
}
