//! Names, passwords and ports that nobody else has.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Mutex;

use super::sink::lock;

/// Every port that was given out in this run: worlds are made side by side, and one may not have
/// begun to listen when the next one looks for a port.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// `octets` of the kernel's randomness, two lower-case hexadecimal digits each.
pub fn hex(octets: usize) -> io::Result<String> {
    let mut text = String::with_capacity(octets * 2);
    for octet in bytes(octets)? {
        let _ = write!(text, "{octet:02x}");
    }
    Ok(text)
}

fn bytes(octets: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; octets];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut buffer)?;
    Ok(buffer)
}

/// A TCP port that is free on `address` now, and that nobody was given before in this run.
///
/// Taken from below the range that kernels use for outgoing connections, so that it stays free
/// while a server is down between two starts.
pub fn free_port(address: IpAddr) -> io::Result<u16> {
    for pair in bytes(64)?.chunks_exact(2) {
        let port = 20_000 + u16::from_be_bytes([pair[0], pair[1]]) % 12_000;
        let fresh = lock(&GIVEN).insert(port);
        if fresh && TcpListener::bind(SocketAddr::new(address, port)).is_ok() {
            return Ok(port);
        }
    }
    // Unusually crowded: whatever the kernel has.
    Ok(TcpListener::bind(SocketAddr::new(address, 0))?
        .local_addr()?
        .port())
}
