//! TLS: after STARTTLS and from the first byte.
#![allow(
    clippy::unwrap_used,
    reason = "a set-up that fails is a test that fails"
)]

mod front;

use front::Setup;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use vmaild::delivery::smtp::Stream;
use vmaild::tls::Connector;

const PLAIN: &str = "AUTH PLAIN AGFkZHJlc3NAbXlkb21haW4uY29tAG15cGFzc3dvcmQ=";

struct Client<S>(BufReader<S>);

impl<S: Stream> Client<S> {
    /// Sends a line and checks how the reply begins.
    async fn says(&mut self, line: &str, expected: &str) {
        let reply = self.asks(&format!("{line}\r\n")).await;
        assert!(reply.starts_with(expected), "{line}: {reply}");
    }

    /// Sends `octets` and gives the lines of one reply, joined by `|`.
    async fn asks(&mut self, octets: &str) -> String {
        self.0.get_mut().write_all(octets.as_bytes()).await.unwrap();
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(
                self.0.read_line(&mut line).await.unwrap(),
                0,
                "the server closed"
            );
            let last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line.trim_end().to_owned());
            if last {
                return lines.join("|");
            }
        }
    }
}

async fn secured(plain: TcpStream) -> Client<Box<dyn Stream>> {
    let connector = Connector::new().unwrap();
    Client(BufReader::new(
        connector
            .connect("server.domain.com", Box::new(plain))
            .await
            .unwrap(),
    ))
}

#[tokio::test]
async fn what_was_said_before_starttls_is_forgotten_and_what_was_pipelined_never_done() {
    let server = Setup::new().certificate().start();
    let mut clear = Client(BufReader::new(
        TcpStream::connect(server.smtp()).await.unwrap(),
    ));
    clear.asks("").await;
    assert!(
        clear
            .asks("EHLO client.example\r\n")
            .await
            .contains("STARTTLS")
    );
    clear.says(PLAIN, "235").await;
    let injected = "STARTTLS\r\nEHLO evil.example\r\nMAIL FROM:<evil@ext.example>\r\n";
    assert!(clear.asks(injected).await.starts_with("220 2.0.0"));
    assert!(clear.0.buffer().is_empty());
    let mut client = secured(clear.0.into_inner()).await;
    let extensions = client.asks("EHLO client.example\r\n").await;
    assert!(extensions.starts_with("250-server.domain.com|") && !extensions.contains("STARTTLS"));
    client.says("MAIL FROM:<a@ext.example>", "250").await;
    client.says("RCPT TO:<x@ext.example>", "554 5.7.1").await;
    client.says("RCPT TO:<address@mydomain.com>", "250").await;
    client.says("QUIT", "221").await;
}

#[tokio::test]
async fn port_465_takes_mail_from_users_only() {
    let server = Setup::new().certificate().start();
    let mut client = secured(TcpStream::connect(server.smtps()).await.unwrap()).await;
    assert!(client.asks("").await.starts_with("220 "));
    client.asks("EHLO client.example\r\n").await;
    client.says("MAIL FROM:<a@ext.example>", "250").await;
    for recipient in ["address@mydomain.com", "x@ext.example", "postmaster"] {
        assert_eq!(
            client.asks(&format!("RCPT TO:<{recipient}>\r\n")).await,
            "554 5.7.1 <unknown[127.0.0.1]>: Client host rejected: Access denied"
        );
    }
    client.says("RSET", "250").await;
    client.says(PLAIN, "235").await;
    client.says("MAIL FROM:<a@ext.example>", "250").await;
    client.says("RCPT TO:<x@ext.example>", "250").await;
}

#[tokio::test]
async fn a_port_that_demands_tls_takes_no_mail_in_clear() {
    let server = Setup::new()
        .certificate()
        .main_cf("smtpd_tls_security_level = encrypt")
        .start();
    let mut clear = Client(BufReader::new(
        TcpStream::connect(server.smtp()).await.unwrap(),
    ));
    clear.asks("").await;
    assert!(!clear.asks("EHLO client.example\r\n").await.contains("AUTH"));
    clear.says("MAIL FROM:<a@ext.example>", "530 5.7.0").await;
    clear.says("VRFY address@mydomain.com", "530 5.7.0").await;
    clear.says("STARTTLS", "220").await;
    let mut client = secured(clear.0.into_inner()).await;
    assert!(
        client
            .asks("EHLO client.example\r\n")
            .await
            .contains("AUTH PLAIN LOGIN")
    );
    client.says("MAIL FROM:<a@ext.example>", "250").await;
}
