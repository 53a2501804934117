//! Ports: bound before privileges are given up, then served until the server goes down.
//!
//! A client outside mynetworks may have smtpd_client_connection_count_limit connections to a service, and all
//! clients together vmaild_session_limit; one more hears 421. When the process has no file
//! descriptors left, connections wait in the kernel until it has.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::config::Service;
use crate::connection::{self, Port};
use crate::log;

/// How many clients the kernel holds until they are accepted, where it lets so many wait. One for which
/// it has no place may take itself for connected, and wait for a greeting that never comes.
const BACKLOG: i32 = 4096;
/// Wait after accept(2) failed for want of file descriptors or memory.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// A port that was bound.
#[derive(Debug)]
pub struct Bound {
    /// Where it really listens: port 0 has become a number.
    pub address: SocketAddr,
    /// What is served.
    pub socket: StdListener,
}

fn listen_on(address: SocketAddr) -> io::Result<Bound> {
    let socket = StdListener::bind(address)?;
    // The standard library lets 128 wait.
    rustix::net::listen(&socket, BACKLOG)?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    Ok(Bound { address, socket })
}

/// Binds every address of a service.
pub fn bind(service: &Service) -> Result<Vec<Bound>, String> {
    let bound = service.addresses.iter().map(|address| {
        listen_on(*address)
            .or_else(|error| {
                // [::] stands for all addresses; on a machine without IPv6 that is 0.0.0.0.
                if address.ip() == Ipv6Addr::UNSPECIFIED {
                    listen_on((Ipv4Addr::UNSPECIFIED, address.port()).into())
                } else {
                    Err(error)
                }
            })
            .map_err(|error| format!("{}: cannot listen on {address}: {error}", service.place))
    });
    bound.collect()
}

/// How many connections each client has.
#[derive(Debug, Default)]
pub struct Crowd(Mutex<HashMap<Client, usize>>);

/// A client of one service: its limit counts for each by itself, as Postfix counts.
type Client = (String, IpAddr);

/// One connection's place; given back when dropped.
struct Seat {
    crowd: Arc<Crowd>,
    client: Client,
}

impl Crowd {
    fn counts(&self) -> MutexGuard<'_, HashMap<Client, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more connection, or the reply where there is none.
    fn enter(self: &Arc<Self>, port: &Port, ip: IpAddr) -> Result<Seat, String> {
        let params = &port.service.params;
        let client = (port.service.name.clone(), ip);
        let mut counts = self.counts();
        let has = counts.get(&client).copied().unwrap_or(0);
        let host = &params.myhostname;
        let limit = params.smtpd_client_connection_count_limit;
        let why = if counts.values().sum::<usize>() >= params.vmaild_session_limit {
            format!("4.3.2 {host} Error: all server ports are busy")
        } else if limit > 0 && has >= limit && !params.is_neighbour(ip) {
            format!("4.7.0 {host} Error: too many connections from {ip}")
        } else {
            counts.insert(client.clone(), has + 1);
            return Ok(Seat {
                crowd: Arc::clone(self),
                client,
            });
        };
        Err(format!("421 {why}\r\n"))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.crowd.counts();
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
    listener: TcpListener,
    port: watch::Receiver<Arc<Port>>,
    crowd: Arc<Crowd>,
    mut down: watch::Receiver<bool>,
) {
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
                let (port, ip) = (Arc::clone(&port.borrow()), client.ip().to_canonical());
                sessions.spawn(admit(port, Arc::clone(&crowd), stream, ip, down.clone()));
            }
            Err(error) => {
                let name = port.borrow().service.name.clone();
                log!("smtpd", "warning: accept on {name}: {error}");
                sleep(EXHAUSTED).await;
            }
        }
    }
    drop(listener);
    while sessions.join_next().await.is_some() {}
}

async fn admit(
    port: Arc<Port>,
    crowd: Arc<Crowd>,
    mut stream: TcpStream,
    ip: IpAddr,
    down: watch::Receiver<bool>,
) {
    let refusal = match crowd.enter(&port, ip) {
        Ok(_seat) => return connection::serve(&port, stream, ip, down).await,
        Err(refusal) => refusal,
    };
    let said = refusal.trim_end();
    log!(
        "smtpd",
        "warning: connection refused from unknown[{ip}]: {said}"
    );
    // Who expects TLS could not read it.
    if !port.service.params.smtpd_tls_wrappermode {
        let _ = timeout(Duration::from_secs(5), stream.write_all(refusal.as_bytes())).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as StdStream;

    use super::*;

    #[test]
    fn a_burst_of_clients_waits_in_the_kernel_until_each_is_accepted() {
        let bound = listen_on((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let limit = Duration::from_secs(10);
        let connect = |_| StdStream::connect_timeout(&bound.address, limit).unwrap();
        let burst: Vec<StdStream> = (0..500).map(connect).collect();
        bound.socket.set_nonblocking(false).unwrap();
        for _ in &burst {
            bound.socket.accept().unwrap();
        }
    }
}
