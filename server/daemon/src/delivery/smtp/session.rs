//! A session with one host, from the connection to QUIT: commands out, replies in, each with its
//! time limit (RFC 5321 §4.5.3.2).

use std::collections::HashMap;
use std::io::{self, Read};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use vmaild_protocol::Reply;
use vmaild_protocol::reply::ReplyReader;

use super::Stream;
use super::hosts::Host;
use crate::config::Params;
use crate::config::params::TlsLevel;
use crate::delivery::words;
use crate::log;
use crate::queue::Content;
use crate::queue::file::Reason;
use crate::tls::Connector;

/// postconf(5) smtp_line_length_limit: longer lines are continued on the next (RFC 5321 §4.5.3.1.6).
const LINE_LIMIT: usize = 998;

/// A session; whoever gets it from `open` may say MAIL. After an error it is of no more use.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) host: Host,
    stream: Box<dyn Stream>,
    reader: ReplyReader,
    /// The keywords of its EHLO reply, in upper case, and what follows each.
    extensions: HashMap<String, String>,
    /// The end of a message was sent, and no answer came yet.
    pub(super) may_be_taken: bool,
}

impl Session {
    /// Connects, greets and, where both sides can, starts TLS.
    pub(super) async fn open(
        params: &Params,
        host: &Host,
        tls: Option<&Connector>,
    ) -> Result<Self, Reason> {
        let level = params.smtp_tls_security_level;
        let tls = tls.filter(|_| matches!(level, TlsLevel::May | TlsLevel::Encrypt));
        match Self::greet(params, host, tls).await {
            // Opportunistic: where TLS does not work the mail goes in clear.
            Err(reason) if reason.status == "4.7.5" && level == TlsLevel::May => {
                log!("smtp", "{}; retrying in clear", reason.text);
                Self::greet(params, host, None).await
            }
            result => result,
        }
    }

    async fn greet(params: &Params, host: &Host, tls: Option<&Connector>) -> Result<Self, Reason> {
        let connecting = TcpStream::connect(host.address);
        let stream = timeout(params.smtp_connect_timeout, connecting).await;
        let stream = stream.unwrap_or_else(|_| Err(io::Error::other("Connection timed out")));
        let stream = stream.map_err(|error| {
            let text = format!("connect to {}: {}", host.relay(), words(&error));
            Reason::new("4.4.1", "none", text)
        })?;
        let _ = stream.set_nodelay(true);
        let mut session = Self {
            host: host.clone(),
            stream: Box::new(stream),
            reader: ReplyReader::new(),
            extensions: HashMap::new(),
            may_be_taken: false,
        };
        let what = "receiving the initial server greeting";
        let greeting = session.reply(params.smtp_helo_timeout, what).await?;
        if !greeting.is_success() {
            return Err(refused(host, &greeting, "greeting"));
        }
        session.hello(params, false).await?;
        match tls.filter(|_| session.offers("STARTTLS")) {
            None if params.smtp_tls_security_level == TlsLevel::Encrypt => {
                let text = format!("TLS is required, but was not offered by host {host}");
                Err(Reason::new("4.7.4", "none", text))
            }
            None => Ok(session),
            Some(tls) => session.start_tls(params, tls).await,
        }
    }

    /// STARTTLS, the handshake, and EHLO under TLS.
    async fn start_tls(mut self, params: &Params, tls: &Connector) -> Result<Self, Reason> {
        let what = "performing the STARTTLS handshake";
        let limit = params.smtp_helo_timeout;
        let reply = self.ask("STARTTLS", limit, what).await?;
        let host = &self.host;
        if !reply.is_success() {
            let text = format!("{host} refused STARTTLS: {reply}");
            return Err(Reason::new("4.7.5", "none", text));
        }
        let stream = timeout(limit, tls.connect(&host.name, self.stream)).await;
        let stream = stream.unwrap_or_else(|_| Err(io::Error::other("timed out")));
        self.stream = stream.map_err(|error| {
            let text = format!("Cannot start TLS with {host}: {error}");
            Reason::new("4.7.5", "none", text)
        })?;
        // What was said before TLS counts no more (RFC 3207 §4.2).
        self.reader = ReplyReader::new();
        self.hello(params, true).await?;
        Ok(self)
    }

    /// EHLO, and HELO where EHLO is not known (RFC 5321 §3.2); under TLS it was known already.
    async fn hello(&mut self, params: &Params, tls: bool) -> Result<(), Reason> {
        let limit = params.smtp_helo_timeout;
        let mut verb = "EHLO";
        loop {
            let what = format!("performing the {verb} handshake");
            let command = format!("{verb} {}", params.myhostname);
            let reply = self.ask(&command, limit, &what).await?;
            match verb {
                "EHLO" if reply.is_success() => {
                    self.learn(&reply);
                    return Ok(());
                }
                // Extensions are EHLO's.
                _ if reply.is_success() => return Ok(()),
                "EHLO" if reply.is_permanent() && !tls => verb = "HELO",
                _ => return Err(refused(&self.host, &reply, &format!("{verb} command"))),
            }
        }
    }

    fn learn(&mut self, ehlo: &Reply) {
        self.extensions.clear();
        for line in ehlo.lines.iter().skip(1) {
            let (keyword, rest) = line.split_once([' ', '=']).unwrap_or((line, ""));
            let parameter = rest.trim_start_matches([' ', '=']).trim();
            let known = self.extensions.entry(keyword.to_ascii_uppercase());
            known.or_insert_with(|| parameter.to_owned());
        }
    }

    /// Whether the host offers an extension.
    pub(super) fn offers(&self, keyword: &str) -> bool {
        self.extensions.contains_key(keyword)
    }

    /// SIZE's number (RFC 1870 §4).
    pub(super) fn size_limit(&self) -> Option<u64> {
        self.extensions.get("SIZE")?.parse().ok()
    }

    /// Sends a command and waits for its reply.
    pub(super) async fn ask(
        &mut self,
        command: &str,
        limit: Duration,
        what: &str,
    ) -> Result<Reply, Reason> {
        self.send(&[command], limit, what).await?;
        self.reply(limit, what).await
    }

    /// Sends commands, in one piece.
    pub(super) async fn send(
        &mut self,
        commands: &[impl AsRef<str>],
        limit: Duration,
        what: &str,
    ) -> Result<(), Reason> {
        let mut octets = Vec::new();
        for command in commands {
            // Nothing that came from elsewhere may begin a command of its own.
            let command = command.as_ref().bytes();
            octets.extend(command.filter(|octet| !octet.is_ascii_control()));
            octets.extend_from_slice(b"\r\n");
        }
        self.write(&octets, limit, what).await
    }

    async fn write(&mut self, octets: &[u8], limit: Duration, what: &str) -> Result<(), Reason> {
        let sending = async {
            self.stream.write_all(octets).await?;
            self.stream.flush().await
        };
        let sent = timeout(limit, sending).await;
        let sent = sent.map_err(|_| timed_out(&self.host, what))?;
        sent.map_err(|_: io::Error| lost(&self.host, what))
    }

    /// The next reply.
    pub(super) async fn reply(&mut self, limit: Duration, what: &str) -> Result<Reply, Reason> {
        let receiving = async {
            let mut chunk = [0; 4096];
            loop {
                match self.reader.next_reply() {
                    Ok(Some(reply)) => return Ok(reply),
                    Ok(None) => {}
                    Err(error) => {
                        let host = &self.host;
                        let text = format!("Protocol error: host {host}: {error} while {what}");
                        return Err(Reason::new("4.5.0", "none", text));
                    }
                }
                match self.stream.read(&mut chunk).await {
                    Ok(0) | Err(_) => return Err(lost(&self.host, what)),
                    Ok(count) => self.reader.feed(chunk.get(..count).unwrap_or_default()),
                }
            }
        };
        let received = timeout(limit, receiving).await;
        received.map_err(|_| timed_out(&self.host, what))?
    }

    /// Sends a message and its end, and waits for the reply to it.
    pub(super) async fn content(
        &mut self,
        content: &Content,
        seven_bit: bool,
        params: &Params,
    ) -> Result<Reply, Reason> {
        let mut encoder = Encoder {
            seven_bit,
            ..Encoder::default()
        };
        // For each piece.
        let limit = params.smtp_data_xfer_timeout;
        let what = "sending message body";
        let mut reader = content.reader();
        let mut octets = Vec::new();
        loop {
            let read = spawn_blocking(move || {
                let mut chunk = vec![0; 64 * 1024];
                let count = reader.read(&mut chunk)?;
                chunk.truncate(count);
                Ok::<_, io::Error>((reader, chunk))
            });
            let unreadable = |error: io::Error| {
                // No dot is sent: the host must not take half a message for a whole one.
                Reason::new("4.3.0", "none", format!("cannot read the message: {error}"))
            };
            let (back, chunk) = read
                .await
                .map_err(io::Error::from)
                .flatten()
                .map_err(unreadable)?;
            reader = back;
            octets.clear();
            if chunk.is_empty() {
                break;
            }
            encoder.encode(&chunk, &mut octets);
            self.write(&octets, limit, what).await?;
        }
        encoder.end(&mut octets);
        self.may_be_taken = true;
        self.write(&octets, limit, what).await?;
        let limit = params.smtp_data_done_timeout;
        let reply = self.reply(limit, "sending end of data").await?;
        self.may_be_taken = false;
        Ok(reply)
    }

    /// Whether it is ready for another message.
    pub(super) async fn reset(&mut self) -> bool {
        let reply = self.ask("RSET", Duration::from_secs(10), "sending RSET");
        reply.await.is_ok_and(|reply| reply.is_success())
    }

    /// Says goodbye; nobody waits for the answer.
    pub(super) fn quit(mut self, limit: Duration) {
        tokio::spawn(async move {
            let _ = self.ask("QUIT", limit, "sending QUIT").await;
            let _ = timeout(limit, self.stream.shutdown()).await;
        });
    }
}

/// A host that does not want to talk: put off, whatever the class (postconf(5)
/// smtp_skip_5xx_greeting).
fn refused(host: &Host, reply: &Reply, to: &str) -> Reason {
    let status = reply
        .enhanced()
        .map_or_else(|| "4.0.0".to_owned(), |code| format!("4{}", &code[1..]));
    let text = format!("host {host} refused to talk to me: {reply} (in reply to {to})");
    host.reason(&status, reply, text)
}

fn lost(host: &Host, what: &str) -> Reason {
    let text = format!("lost connection with {host} while {what}");
    Reason::new("4.4.2", &host.relay(), text)
}

fn timed_out(host: &Host, what: &str) -> Reason {
    let text = format!("conversation with {host} timed out while {what}");
    Reason::new("4.4.2", &host.relay(), text)
}

/// Stored content as it goes over the wire: CRLF, dots doubled, long lines continued.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    /// Octets of the line so far.
    column: usize,
    /// What has eight bits is `?`.
    seven_bit: bool,
}

impl Encoder {
    pub(crate) fn encode(&mut self, stored: &[u8], wire: &mut Vec<u8>) {
        for piece in stored.split_inclusive(|&octet| octet == b'\n') {
            let (mut line, ended) = match piece.strip_suffix(b"\n") {
                Some(line) => (line, true),
                None => (piece, false),
            };
            while !line.is_empty() {
                if self.column >= LINE_LIMIT {
                    wire.extend_from_slice(b"\r\n ");
                    self.column = 1;
                }
                if self.column == 0 && line.first() == Some(&b'.') {
                    wire.push(b'.');
                }
                let (now, later) = line.split_at(line.len().min(LINE_LIMIT - self.column));
                // The queue stores no CR; should one have come in otherwise, it ends no line here.
                wire.extend(now.iter().map(|&octet| match octet {
                    b'\r' => b' ',
                    0x80.. if self.seven_bit => b'?',
                    octet => octet,
                }));
                self.column += now.len();
                line = later;
            }
            if ended {
                wire.extend_from_slice(b"\r\n");
                self.column = 0;
            }
        }
    }

    pub(crate) fn end(&mut self, wire: &mut Vec<u8>) {
        if self.column > 0 {
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b".\r\n");
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn encoded(stored: &str) -> String {
        let (mut encoder, mut wire) = (Encoder::default(), Vec::new());
        encoder.encode(stored.as_bytes(), &mut wire);
        encoder.end(&mut wire);
        String::from_utf8(wire).unwrap()
    }

    #[rstest]
    #[case("no end", "no end\r\n.\r\n")]
    #[case("a\rb\n", "a b\r\n.\r\n")]
    fn a_line_is_ended_and_a_cr_is_a_blank(#[case] stored: &str, #[case] wire: &str) {
        assert_eq!(encoded(stored), wire);
    }

    #[test]
    fn long_lines_are_continued_as_postfix_does() {
        let wire = encoded(&("x".repeat(2048) + "\n"));
        let lengths: Vec<usize> = wire.split('\n').map(str::len).collect();
        // Without the CRs: 998, 998, 54 (oracle D04), the dot.
        assert_eq!(lengths, [999, 999, 55, 2, 0]);
    }
}
