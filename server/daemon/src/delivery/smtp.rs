//! Delivery to a next hop by SMTP.

use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection to a next hop, in clear or under TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What puts TLS on a connection to a next hop after STARTTLS (`tls` has it; smtp does not name rustls).
pub trait Handshake: std::fmt::Debug + Send + Sync {
    /// Does the handshake with `host`; the certificate is not verified (postconf(5)
    /// smtp_tls_security_level = may).
    fn connect(
        &self,
        host: String,
        plain: TcpStream,
    ) -> Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;
}
