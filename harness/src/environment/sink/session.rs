//! One connection to a sink: takes what a client says, as tolerantly as can be.
//!
//! A message is remembered when, and only when, the end of its data was answered 2xx.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Shared;
use crate::environment::Sunk;

/// Longer lines and larger messages end the connection: a sink is not a place to fill memory.
const LONGEST_LINE: u64 = 1 << 20;
const LARGEST_MESSAGE: usize = 128 << 20;

struct Session {
    stream: BufReader<TcpStream>,
    shared: Arc<Shared>,
    refusals: watch::Receiver<usize>,
    number: usize,
    helo: String,
    message: Option<Sunk>,
}

/// What was sent for a verb.
enum Sent {
    /// The first digit of its code.
    Reply(u8),
    /// The connection is to be dropped.
    Over,
}

pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>, number: usize) {
    let refusals = shared.refusals.subscribe();
    let mut over = refusals.clone();
    let stream = BufReader::new(stream);
    let mut session = Session {
        stream,
        shared,
        refusals,
        number,
        helo: String::new(),
        message: None,
    };
    // A client that hangs up is no event here: the ledger sees what is missing.
    tokio::select! {
        _ = session.run() => {}
        _ = over.wait_for(|count| *count == super::OVER) => {}
    }
}

impl Session {
    async fn run(&mut self) -> io::Result<()> {
        let greeting = format!("220 {} ESMTP sink", self.shared.name);
        if matches!(self.say("CONNECT", None, &greeting).await?, Sent::Over) {
            return Ok(());
        }
        while let Some(line) = self.line().await? {
            let line = String::from_utf8_lossy(&line).into_owned();
            self.shared.note(self.number, 'C', &line);
            if matches!(self.command(&line).await?, Sent::Over) {
                break;
            }
        }
        Ok(())
    }

    async fn command(&mut self, line: &str) -> io::Result<Sent> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" | "LHLO" => {
                rest.trim().clone_into(&mut self.helo);
                self.message = None;
                let name = &self.shared.name;
                let usual = format!(
                    "250-{name}\n250-PIPELINING\n250-SIZE 104857600\n250-8BITMIME\n\
                     250-ENHANCEDSTATUSCODES\n250-DSN\n250 SMTPUTF8"
                );
                self.say("EHLO", None, &usual).await
            }
            "HELO" => {
                rest.trim().clone_into(&mut self.helo);
                self.message = None;
                let usual = format!("250 {}", self.shared.name);
                self.say("HELO", None, &usual).await
            }
            "MAIL" => self.mail(rest).await,
            "RCPT" => self.rcpt(rest).await,
            "DATA" => self.data().await,
            "RSET" => {
                self.message = None;
                self.say("RSET", None, "250 2.0.0 Ok").await
            }
            "NOOP" => self.say("NOOP", None, "250 2.0.0 Ok").await,
            "VRFY" => self.say("VRFY", None, "252 2.0.0 Perhaps").await,
            "QUIT" => {
                self.say("QUIT", None, "221 2.0.0 Bye").await?;
                Ok(Sent::Over)
            }
            other => self.say(other, None, "502 5.5.2 Not here").await,
        }
    }

    async fn mail(&mut self, rest: &str) -> io::Result<Sent> {
        let (from, parameters) = path(rest);
        if self.message.is_some() {
            return self.say("NESTED", None, "503 5.5.1 Nested MAIL").await;
        }
        let sent = self.say("MAIL", None, "250 2.1.0 Ok").await?;
        if matches!(sent, Sent::Reply(b'2')) {
            let helo = self.helo.clone();
            self.message = Some(Sunk {
                from,
                to: Vec::new(),
                helo,
                parameters: vec![parameters],
                content: Vec::new(),
                bare: 0,
            });
        }
        Ok(sent)
    }

    async fn rcpt(&mut self, rest: &str) -> io::Result<Sent> {
        if self.message.is_none() {
            return self.say("EARLY", None, "503 5.5.1 MAIL first").await;
        }
        let (to, parameters) = path(rest);
        let sent = self.say("RCPT", Some(&to), "250 2.1.5 Ok").await?;
        if let (Sent::Reply(b'2'), Some(message)) = (&sent, &mut self.message) {
            message.to.push(to);
            message.parameters.push(parameters);
        }
        Ok(sent)
    }

    async fn data(&mut self) -> io::Result<Sent> {
        if self
            .message
            .as_ref()
            .is_none_or(|message| message.to.is_empty())
        {
            return self.say("EARLY", None, "503 5.5.1 RCPT first").await;
        }
        let sent = self.say("DATA", None, "354 Go ahead").await?;
        if !matches!(sent, Sent::Reply(b'3')) {
            return Ok(sent);
        }
        let mut content = Vec::new();
        let mut bare = 0;
        loop {
            let Some((line, crlf)) = self.ended_line().await? else {
                return Ok(Sent::Over);
            };
            if line == b"." {
                break;
            }
            bare += line.split(|&octet| octet == b'\r').count() - usize::from(crlf);
            content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            content.extend_from_slice(b"\r\n");
            if content.len() > LARGEST_MESSAGE {
                return Ok(Sent::Over);
            }
        }
        self.shared.note(
            self.number,
            'C',
            &format!("({} octets of content)", content.len()),
        );
        let Some(mut message) = self.message.take() else {
            return Ok(Sent::Over);
        };
        message.content = content;
        message.bare = bare;
        self.dot(message).await
    }

    /// Remembers before it answers: whoever has read the 250 finds the message here.
    async fn dot(&mut self, message: Sunk) -> io::Result<Sent> {
        let reply = self
            .shared
            .answer("DOT", None)
            .unwrap_or_else(|| "250 2.0.0 Sunk".to_owned());
        if reply.starts_with('2') {
            self.shared.keep(message);
        }
        self.send(&reply).await
    }

    async fn say(&mut self, verb: &str, recipient: Option<&str>, usual: &str) -> io::Result<Sent> {
        match self.shared.answer(verb, recipient) {
            Some(reply) => self.send(&reply).await,
            None => self.send(usual).await,
        }
    }

    async fn send(&mut self, reply: &str) -> io::Result<Sent> {
        match reply.trim() {
            "closes" => {
                self.shared
                    .note(self.number, 'S', "(closes the connection)");
                return Ok(Sent::Over);
            }
            "hangs" => {
                self.shared.note(self.number, 'S', "(hangs)");
                // Until the client gives up.
                let mut nowhere = Vec::new();
                (&mut self.stream)
                    .take(LONGEST_LINE)
                    .read_to_end(&mut nowhere)
                    .await?;
                return Ok(Sent::Over);
            }
            _ => {}
        }
        let text = reply.replace("\\n", "\n");
        let mut octets = Vec::new();
        for line in text.lines() {
            self.shared.note(self.number, 'S', line);
            octets.extend_from_slice(line.as_bytes());
            octets.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&octets).await?;
        // RFC 5321 §3.8: after 421 the connection is closed.
        if text.starts_with("421") {
            return Ok(Sent::Over);
        }
        Ok(Sent::Reply(text.bytes().next().unwrap_or(b'?')))
    }

    /// A line without its end; `None`: the client closed, or this sink refuses and no message is
    /// under way.
    async fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.ended_line().await?.map(|(line, _)| line))
    }

    /// And whether its end was CRLF.
    async fn ended_line(&mut self) -> io::Result<Option<(Vec<u8>, bool)>> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(LONGEST_LINE);
        let read = limited.read_until(b'\n', &mut line);
        let octets = if self.message.is_some() {
            read.await?
        } else {
            tokio::select! {
                read = read => read?,
                _ = self.refusals.changed() => return Ok(None),
            }
        };
        if octets == 0 || line.pop() != Some(b'\n') {
            return Ok(None);
        }
        let crlf = line.last() == Some(&b'\r');
        if crlf {
            line.pop();
        }
        Ok(Some((line, crlf)))
    }
}

/// `FROM:<a@b> SIZE=10` → `a@b`, `SIZE=10`.
fn path(rest: &str) -> (String, String) {
    let after = rest
        .split_once(':')
        .map_or(rest, |(_, after)| after)
        .trim_start();
    if let Some(inner) = after.strip_prefix('<') {
        // A quoted local part may contain `>`.
        let mut quoted = false;
        let mut escaped = false;
        for (at, c) in inner.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '>' if !quoted => {
                    return (inner[..at].to_owned(), inner[at + 1..].trim().to_owned());
                }
                _ => {}
            }
        }
    }
    let (address, parameters) = after.split_once(' ').unwrap_or((after, ""));
    (
        address.trim_matches(['<', '>']).to_owned(),
        parameters.trim().to_owned(),
    )
}
