//! A session with one host, from the connection to QUIT: commands out, replies in, each with its
//! time limit (RFC 5321 §4.5.3.2).

use std::io::Read;
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
use crate::delivery::Verdict;
use crate::log;
use crate::queue::Content;
use crate::queue::file::Reason;
use crate::tls::Connector;

/// postconf(5) smtp_line_length_limit: longer lines are continued on the next (RFC 5321 §4.5.3.1.6).
const LINE_LIMIT: usize = 998;

/// A session; whoever gets it from `open` may say MAIL.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) host: Host,
    stream: Box<dyn Stream>,
    reader: ReplyReader,
    /// The keywords of its EHLO reply, in upper case.
    extensions: Vec<String>,
    /// SIZE's number (RFC 1870 §4).
    pub(super) size_limit: Option<u64>,
}

/// Why a session is of no more use.
pub(super) struct Broken {
    pub(super) status: String,
    pub(super) text: String,
    /// What the host said, if it was that.
    pub(super) reply: Option<Reply>,
    /// The end of the message was sent, and no answer came.
    pub(super) may_be_taken: bool,
}

impl Broken {
    pub(super) fn new(status: &str, text: impl Into<String>) -> Self {
        Self {
            status: status.to_owned(),
            text: text.into(),
            reply: None,
            may_be_taken: false,
        }
    }

    /// What it means for a recipient: put off, always.
    pub(super) fn verdict(&self, host: &Host) -> Verdict {
        let note = if self.may_be_taken {
            " -- message may be sent more than once"
        } else {
            ""
        };
        let said = self.reply.is_some();
        let reason = Reason {
            status: self.status.clone(),
            relay: if said || self.status == "4.4.2" {
                host.relay()
            } else {
                "none".to_owned()
            },
            mta: said.then(|| host.name.clone()),
            reply: self
                .reply
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            text: format!("{}{note}", self.text),
        };
        Verdict::PutOff {
            reason,
            soon: false,
        }
    }
}

impl Session {
    /// Connects, greets and, where both sides can, starts TLS.
    pub(super) async fn open(
        params: &Params,
        host: &Host,
        tls: Option<&Connector>,
    ) -> Result<Self, Broken> {
        let level = params.smtp_tls_security_level;
        let tls = tls.filter(|_| matches!(level, TlsLevel::May | TlsLevel::Encrypt));
        match Self::greet(params, host, tls).await {
            // Opportunistic: where TLS does not work the mail goes in clear.
            Err(broken) if broken.status == "4.7.5" && level == TlsLevel::May => {
                log!("smtp", "{}; retrying in clear", broken.text);
                Self::greet(params, host, None).await
            }
            result => result,
        }
    }

    async fn greet(params: &Params, host: &Host, tls: Option<&Connector>) -> Result<Self, Broken> {
        let port = host.address.port();
        let connecting = timeout(
            params.smtp_connect_timeout,
            TcpStream::connect(host.address),
        );
        let stream = match connecting.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let error = error.to_string();
                let error = error.split(" (os error").next().unwrap_or_default();
                return Err(Broken::new(
                    "4.4.1",
                    format!("connect to {host}:{port}: {error}"),
                ));
            }
            Err(_) => {
                let text = format!("connect to {host}:{port}: Connection timed out");
                return Err(Broken::new("4.4.1", text));
            }
        };
        let _ = stream.set_nodelay(true);
        let mut session = Self {
            host: host.clone(),
            stream: Box::new(stream),
            reader: ReplyReader::new(),
            extensions: Vec::new(),
            size_limit: None,
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
                Err(Broken::new("4.7.4", text))
            }
            None => Ok(session),
            Some(tls) => session.start_tls(params, tls).await,
        }
    }

    /// STARTTLS, the handshake, and EHLO under TLS.
    async fn start_tls(mut self, params: &Params, tls: &Connector) -> Result<Self, Broken> {
        let what = "performing the STARTTLS handshake";
        let limit = params.smtp_helo_timeout;
        self.send(&["STARTTLS".to_owned()], limit, what).await?;
        let reply = self.reply(limit, what).await?;
        let host = &self.host;
        if !reply.is_success() {
            let text = format!("{host} refused STARTTLS: {reply}");
            return Err(Broken::new("4.7.5", text));
        }
        let failed =
            |why: String| Broken::new("4.7.5", format!("Cannot start TLS with {host}: {why}"));
        let stream = timeout(limit, tls.connect(&host.name, self.stream));
        let stream = stream.await.map_err(|_| failed("timed out".to_owned()))?;
        self.stream = stream.map_err(|error| failed(error.to_string()))?;
        // What was said before TLS counts no more (RFC 3207 §4.2).
        self.reader = ReplyReader::new();
        self.hello(params, true).await?;
        Ok(self)
    }

    /// EHLO, and HELO where EHLO is not known (RFC 5321 §3.2); under TLS it was known already.
    async fn hello(&mut self, params: &Params, tls: bool) -> Result<(), Broken> {
        let limit = params.smtp_helo_timeout;
        let mut verb = "EHLO";
        loop {
            let what = format!("performing the {verb} handshake");
            let command = format!("{verb} {}", params.myhostname);
            self.send(&[command], limit, &what).await?;
            let reply = self.reply(limit, &what).await?;
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
        let lines = ehlo.lines.iter().skip(1);
        self.extensions = lines
            .filter_map(|line| line.split([' ', '=']).next())
            .map(str::to_ascii_uppercase)
            .collect();
        self.size_limit = offered(ehlo, "SIZE").and_then(|number| number.trim().parse().ok());
    }

    /// Whether the host offers an extension.
    pub(super) fn offers(&self, keyword: &str) -> bool {
        self.extensions.iter().any(|extension| extension == keyword)
    }

    /// Sends commands, in one piece.
    pub(super) async fn send(
        &mut self,
        commands: &[String],
        limit: Duration,
        what: &str,
    ) -> Result<(), Broken> {
        let mut octets = Vec::new();
        for command in commands {
            // Nothing that came from elsewhere may begin a command of its own.
            octets.extend(command.bytes().filter(|octet| !octet.is_ascii_control()));
            octets.extend_from_slice(b"\r\n");
        }
        self.write(&octets, limit, what).await
    }

    async fn write(&mut self, octets: &[u8], limit: Duration, what: &str) -> Result<(), Broken> {
        let sending = async {
            self.stream.write_all(octets).await?;
            self.stream.flush().await
        };
        match timeout(limit, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(lost(&self.host, what)),
            Err(_) => Err(timed_out(&self.host, what)),
        }
    }

    /// The next reply.
    pub(super) async fn reply(&mut self, limit: Duration, what: &str) -> Result<Reply, Broken> {
        let receiving = async {
            let mut chunk = [0; 4096];
            loop {
                match self.reader.next_reply() {
                    Ok(Some(reply)) => return Ok(reply),
                    Ok(None) => {}
                    Err(error) => {
                        let host = &self.host;
                        let text = format!("Protocol error: host {host}: {error} while {what}");
                        return Err(Broken::new("4.5.0", text));
                    }
                }
                match self.stream.read(&mut chunk).await {
                    Ok(0) | Err(_) => return Err(lost(&self.host, what)),
                    Ok(count) => self.reader.feed(chunk.get(..count).unwrap_or_default()),
                }
            }
        };
        timeout(limit, receiving)
            .await
            .unwrap_or_else(|_| Err(timed_out(&self.host, what)))
    }

    /// Sends a message and its end; `limit` is for each piece.
    pub(super) async fn content(
        &mut self,
        content: &Content,
        mut encoder: Encoder,
        limit: Duration,
    ) -> Result<(), Broken> {
        let what = "sending message body";
        let mut reader = content.reader();
        let mut octets = Vec::new();
        loop {
            let read = spawn_blocking(move || {
                let mut chunk = vec![0; 64 * 1024];
                let count = reader.read(&mut chunk)?;
                chunk.truncate(count);
                Ok::<_, std::io::Error>((reader, chunk))
            });
            let unreadable = |error: std::io::Error| {
                // No dot is sent: the host must not take half a message for a whole one.
                Broken::new("4.3.0", format!("cannot read the message: {error}"))
            };
            let (back, chunk) = read
                .await
                .map_err(std::io::Error::from)
                .flatten()
                .map_err(unreadable)?;
            reader = back;
            octets.clear();
            if chunk.is_empty() {
                encoder.end(&mut octets);
                let result = self.write(&octets, limit, what).await;
                return result.map_err(|broken| Broken {
                    may_be_taken: true,
                    ..broken
                });
            }
            encoder.encode(&chunk, &mut octets);
            self.write(&octets, limit, what).await?;
        }
    }

    /// Whether it is ready for another message.
    pub(super) async fn reset(&mut self) -> bool {
        let limit = Duration::from_secs(10);
        self.send(&["RSET".to_owned()], limit, "sending RSET")
            .await
            .is_ok()
            && self
                .reply(limit, "sending RSET")
                .await
                .is_ok_and(|reply| reply.is_success())
    }

    /// Says goodbye; nobody waits for the answer.
    pub(super) fn quit(mut self, limit: Duration) {
        tokio::spawn(async move {
            if self
                .send(&["QUIT".to_owned()], limit, "sending QUIT")
                .await
                .is_ok()
            {
                let _ = self.reply(limit, "sending QUIT").await;
                let _ = timeout(limit, self.stream.shutdown()).await;
            }
        });
    }
}

/// The parameter of an extension that is offered.
fn offered<'a>(ehlo: &'a Reply, keyword: &str) -> Option<&'a str> {
    ehlo.lines.iter().skip(1).find_map(|line| {
        let (word, rest) = line.split_at(line.find([' ', '=']).unwrap_or(line.len()));
        word.eq_ignore_ascii_case(keyword)
            .then(|| rest.trim_start_matches([' ', '=']))
    })
}

/// A host that does not want to talk: put off, whatever the class (postconf(5)
/// smtp_skip_5xx_greeting).
fn refused(host: &Host, reply: &Reply, to: &str) -> Broken {
    let status = reply
        .enhanced()
        .map_or_else(|| "4.0.0".to_owned(), |code| format!("4{}", &code[1..]));
    let text = format!("host {host} refused to talk to me: {reply} (in reply to {to})");
    Broken {
        reply: Some(reply.clone()),
        ..Broken::new(&status, text)
    }
}

fn lost(host: &Host, what: &str) -> Broken {
    Broken::new("4.4.2", format!("lost connection with {host} while {what}"))
}

fn timed_out(host: &Host, what: &str) -> Broken {
    Broken::new(
        "4.4.2",
        format!("conversation with {host} timed out while {what}"),
    )
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
    pub(crate) fn new(seven_bit: bool) -> Self {
        Self {
            column: 0,
            seven_bit,
        }
    }

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

    fn encoded(pieces: &[&[u8]]) -> Vec<u8> {
        let (mut encoder, mut wire) = (Encoder::default(), Vec::new());
        for piece in pieces {
            encoder.encode(piece, &mut wire);
        }
        encoder.end(&mut wire);
        wire
    }

    #[rstest]
    #[case("no end", "no end\r\n.\r\n")]
    #[case("a\rb\n", "a b\r\n.\r\n")]
    fn a_line_is_ended_and_a_cr_is_a_blank(#[case] stored: &str, #[case] wire: &str) {
        assert_eq!(
            String::from_utf8(encoded(&[stored.as_bytes()])).unwrap(),
            wire
        );
    }

    #[test]
    fn long_lines_are_continued_as_postfix_does() {
        let wire = encoded(&[&[b'x'; 2048], b"\n"]);
        let lengths: Vec<usize> = wire.split(|&o| o == b'\n').map(<[u8]>::len).collect();
        // Without the CRs: 998, 998, 54 (oracle D04), the dot.
        assert_eq!(lengths, [999, 999, 55, 2, 0]);
    }
}
