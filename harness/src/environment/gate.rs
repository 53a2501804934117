//! The way from a target to its database, which can be shut.
//!
//! A TCP proxy before MySQL for targets of a case's own. *Open*: octets pass. *Stopped*: new
//! connections are refused by the kernel, those that stood are cut. *Paused*: connections are taken
//! and stand, and no octet passes in either direction; it passes when the gate is open again.
//! *Slow*: each answer of the database comes late. *Cut*: the connections that stand are reset, new
//! ones are taken.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::random;

/// Gates have an address of their own, so that no outgoing connection takes the port of a shut one.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 2);

/// How late an answer comes through a slow gate. A login and a few lookups stay within the seconds
/// that servers give their databases.
const LATE: Duration = Duration::from_millis(200);

/// What its connections obey.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    paused: bool,
    slow: bool,
    /// Connections that were there before the last cut end.
    cuts: usize,
}

/// A gate. Dropping it cuts everything.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    backend: Arc<str>,
    state: watch::Sender<State>,
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
            state: watch::Sender::default(),
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
        self.state.send_modify(|state| state.paused = true);
        self.listen()
    }

    /// Lets answers come late.
    pub fn slow(&mut self) -> io::Result<()> {
        self.state.send_modify(|state| state.slow = true);
        self.listen()
    }

    /// Resets the connections that stand, whatever is under way on them; new ones are as before.
    pub fn cut(&mut self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Opens again after `stop`, `pause` or `slow`.
    pub fn resume(&mut self) -> io::Result<()> {
        self.state.send_modify(|state| {
            state.paused = false;
            state.slow = false;
        });
        self.listen()
    }

    fn listen(&mut self) -> io::Result<()> {
        if self.accepting.is_none() {
            let listener = listener(self.address)?;
            let (backend, state) = (Arc::clone(&self.backend), self.state.subscribe());
            self.accepting = Some(tokio::spawn(accept(listener, backend, state)));
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

async fn accept(listener: TcpListener, backend: Arc<str>, state: watch::Receiver<State>) {
    // Aborted with the task that holds it.
    let mut passing = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                passing.spawn(pass(client, Arc::clone(&backend), state.clone()));
            }
            Some(_) = passing.join_next() => {}
        }
    }
}

async fn pass(mut client: TcpStream, backend: Arc<str>, state: watch::Receiver<State>) {
    let born = state.borrow().cuts;
    let cut = async |mut state: watch::Receiver<State>| {
        let _ = state.wait_for(|state| state.cuts != born).await;
    };
    let mut opened = state.clone();
    let connected = async {
        opened.wait_for(|state| !state.paused).await.ok()?;
        TcpStream::connect(&*backend).await.ok()
    };
    let server = tokio::select! {
        server = connected => server,
        () = cut(state.clone()) => return reset(&client),
    };
    let Some(mut server) = server else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let was_cut = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        // Both end when either does: a half-closed connection is of no use to the MySQL protocol.
        tokio::select! {
            () = carry(from_client, to_server, state.clone(), false) => false,
            () = carry(from_server, to_client, state.clone(), true) => false,
            () = cut(state) => true,
        }
    };
    if was_cut {
        reset(&client);
    }
}

/// Its end, when it is dropped, is an RST.
fn reset(stream: &TcpStream) {
    let _ = set_socket_linger(stream, Some(Duration::ZERO));
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
    answers: bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(octets @ 1..) = from.read(&mut buffer).await {
        if answers && state.borrow().slow {
            tokio::time::sleep(LATE).await;
        }
        if state.wait_for(|state| !state.paused).await.is_err()
            || to.write_all(&buffer[..octets]).await.is_err()
        {
            return;
        }
    }
}
