//! Ports: bound before privileges are given up, then served until the server goes down.
//!
//! A client outside mynetworks may have smtpd_client_connection_count_limit connections to a service, and all
//! clients together vmaild_session_limit; one more hears 421. When the process has no file
//! descriptors left, connections wait in the kernel until it has.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::Service;
use crate::connection::{self, Port};
use crate::log;

/// How many clients the kernel holds until they are accepted, where it lets so many wait. One for which
/// it has no place may take itself for connected, and wait for a greeting that never comes.
const BACKLOG: i32 = 4096;
/// Wait after accept(2) failed for want of file descriptors or memory.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// A port that was bound.
pub struct Bound {
    /// The service's name in master.cf.
    pub service: String,
    /// Where it really listens: port 0 has become a number.
    pub address: SocketAddr,
    socket: StdListener,
}

fn listen_on(address: SocketAddr) -> io::Result<StdListener> {
    let socket = StdListener::bind(address)?;
    // The standard library lets 128 wait.
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Binds every address of a service.
pub fn bind(service: &Service) -> Result<Vec<Bound>, String> {
    let mut bound = Vec::new();
    for address in &service.addresses {
        let socket = listen_on(*address)
            .or_else(|error| {
                // [::] stands for all addresses; on a machine without IPv6 that is 0.0.0.0.
                let fallback = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
                if address.ip().is_unspecified() && address.is_ipv6() {
                    listen_on(fallback)
                } else {
                    Err(error)
                }
            })
            .map_err(|error| format!("{}: cannot listen on {address}: {error}", service.place))?;
        let ready = socket
            .set_nonblocking(true)
            .and_then(|()| socket.local_addr());
        let address = ready.map_err(|error| format!("{}: {address}: {error}", service.place))?;
        bound.push(Bound {
            service: service.name.clone(),
            address,
            socket,
        });
    }
    Ok(bound)
}

/// How many connections there are.
#[derive(Debug, Default)]
pub struct Crowd {
    counts: Mutex<HashMap<Client, usize>>,
}

/// A client of one service: its limit counts for each by itself, as Postfix counts.
type Client = (String, IpAddr);

/// One connection's place; given back when dropped.
struct Seat {
    crowd: Arc<Crowd>,
    client: Client,
}

impl Crowd {
    /// `None` where the client has `per_client` connections, or all have `in_all`.
    fn enter(
        self: &Arc<Self>,
        client: Client,
        per_client: usize,
        in_all: usize,
    ) -> Result<Seat, Full> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.values().sum::<usize>() >= in_all {
            return Err(Full::All);
        }
        let count = counts.entry(client.clone()).or_default();
        if *count >= per_client {
            return Err(Full::Client);
        }
        *count += 1;
        Ok(Seat {
            crowd: Arc::clone(self),
            client,
        })
    }
}

enum Full {
    Client,
    All,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self
            .crowd
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

/// Accepts connections until `down`; returns when the last of them has ended.
pub async fn serve(
    bound: Bound,
    port: watch::Receiver<Arc<Port>>,
    crowd: Arc<Crowd>,
    mut down: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(bound.socket)?;
    let mut sessions = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = down.wait_for(|down| *down) => break,
        };
        // Those that have ended are forgotten.
        while sessions.try_join_next().is_some() {}
        match accepted {
            Ok((stream, client)) => {
                let client = SocketAddr::new(client.ip().to_canonical(), client.port());
                let port = Arc::clone(&port.borrow());
                sessions.spawn(admit(
                    port,
                    Arc::clone(&crowd),
                    stream,
                    client,
                    down.clone(),
                ));
            }
            Err(error) => {
                log!("smtpd", "warning: accept on {}: {error}", bound.address);
                tokio::time::sleep(EXHAUSTED).await;
            }
        }
    }
    drop(listener);
    while sessions.join_next().await.is_some() {}
    Ok(())
}

async fn admit(
    port: Arc<Port>,
    crowd: Arc<Crowd>,
    mut stream: TcpStream,
    client: SocketAddr,
    down: watch::Receiver<bool>,
) {
    let params = &port.service.params;
    let ip = client.ip();
    let limited = params.smtpd_client_connection_count_limit > 0 && !params.is_neighbour(ip);
    let per_client = if limited {
        params.smtpd_client_connection_count_limit
    } else {
        usize::MAX
    };
    let text = match crowd.enter(
        (port.service.name.clone(), ip),
        per_client,
        params.vmaild_session_limit,
    ) {
        Ok(_seat) => return connection::serve(port, stream, client, down).await,
        Err(Full::Client) => format!(
            "421 4.7.0 {} Error: too many connections from {ip}\r\n",
            params.myhostname
        ),
        Err(Full::All) => format!(
            "421 4.3.2 {} Error: all server ports are busy\r\n",
            params.myhostname
        ),
    };
    log!(
        "smtpd",
        "warning: connection refused from unknown[{ip}]: {}",
        text.trim_end()
    );
    // Who expects TLS could not read it.
    if !params.smtpd_tls_wrappermode {
        let _ =
            tokio::time::timeout(Duration::from_secs(5), stream.write_all(text.as_bytes())).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as StdStream;

    use super::*;

    #[test]
    fn a_burst_of_clients_waits_in_the_kernel_until_each_is_accepted() {
        let socket = listen_on((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = socket.local_addr().unwrap();
        let connect = |_| StdStream::connect_timeout(&address, Duration::from_secs(10)).unwrap();
        let burst: Vec<StdStream> = (0..500).map(connect).collect();
        for _ in &burst {
            socket.accept().unwrap();
        }
    }
}
