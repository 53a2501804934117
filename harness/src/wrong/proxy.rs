//! The proxy that obeys the rules of a `*.wire` file.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{Change, Rule, What, apply};

/// Listens on `listen` and passes connections on to `target`.
pub(super) async fn start(
    listen: SocketAddr,
    target: SocketAddr,
    rules: Arc<Vec<Rule>>,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((client, from)) = listener.accept().await {
            let rules = Arc::clone(&rules);
            tokio::spawn(async move {
                // A connection that breaks is what the driver is there to see.
                let _ = pass(client, from, target, rules).await;
            });
        }
    });
    Ok(address)
}

/// What both directions know of the dialogue.
#[derive(Debug, Default)]
struct Dialogue {
    /// Commands whose answers are still to come; first the greeting.
    waiting: VecDeque<String>,
    /// 354 was answered: what the client sends is content.
    content: bool,
    /// What the client has said since MAIL, to the end of the content.
    transaction: Vec<Vec<u8>>,
    /// TLS, or something that is not lines: nothing is changed any more.
    opaque: bool,
}

type Shared = Arc<Mutex<Dialogue>>;

fn with<T>(shared: &Shared, act: impl FnOnce(&mut Dialogue) -> T) -> T {
    let mut dialogue = shared
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    act(&mut dialogue)
}

async fn pass(
    client: TcpStream,
    from: SocketAddr,
    target: SocketAddr,
    rules: Arc<Vec<Rule>>,
) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from.ip(), 0))?;
    let server = socket.connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let shared = Shared::default();
    with(&shared, |dialogue| {
        dialogue.waiting.push_back("GREETING".into());
    });
    let again = Again {
        from: from.ip(),
        target,
    };
    let up = commands(from_client, to_server, &rules, &shared);
    let down = replies(from_server, to_client, &rules, &shared, &again);
    let (up, down) = tokio::join!(up, down);
    up.and(down)
}

/// Lines of a stream; what is not a line yet stays behind.
struct Lines {
    from: OwnedReadHalf,
    buffer: Vec<u8>,
}

impl Lines {
    /// Whether more has come than was handed out: then what goes out waits for it, so that lines
    /// which came in one segment leave in one.
    fn has_more(&self) -> bool {
        self.buffer.contains(&b'\n')
    }

    /// The next line with its end, or whatever there is when the stream is opaque; `None`: ended.
    async fn next(&mut self, shared: &Shared) -> io::Result<Option<Vec<u8>>> {
        self.next_of(shared, usize::MAX).await
    }

    /// As `next`, but no more than `most` octets: a chunk (RFC 3030 §2) need not end with a line.
    async fn next_of(&mut self, shared: &Shared, most: usize) -> io::Result<Option<Vec<u8>>> {
        loop {
            let opaque = with(shared, |dialogue| dialogue.opaque);
            if opaque && !self.buffer.is_empty() {
                return Ok(Some(std::mem::take(&mut self.buffer)));
            }
            let end = self.buffer.iter().position(|&octet| octet == b'\n');
            let end = end.map_or(usize::MAX, |end| end + 1).min(most);
            if end <= self.buffer.len() {
                return Ok(Some(self.buffer.drain(..end).collect()));
            }
            // Room for everything that has come: a segment must not be read in parts.
            self.buffer.reserve(64 * 1024);
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                let rest = std::mem::take(&mut self.buffer);
                return Ok((!rest.is_empty()).then_some(rest));
            }
            // A TLS record on 465 begins with 22, which no SMTP line does.
            if self.buffer.first() == Some(&22) {
                with(shared, |dialogue| dialogue.opaque = true);
            }
        }
    }
}

async fn commands(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    rules: &[Rule],
    shared: &Shared,
) -> io::Result<()> {
    let mut lines = Lines {
        from,
        buffer: Vec::new(),
    };
    let mut segment = Vec::new();
    let mut chunk = 0;
    loop {
        let most = if chunk > 0 { chunk } else { usize::MAX };
        let Some(mut line) = lines.next_of(shared, most).await? else {
            break;
        };
        let (opaque, content) = with(shared, |dialogue| (dialogue.opaque, dialogue.content));
        let in_chunk = chunk > 0;
        chunk = chunk.saturating_sub(line.len());
        let content = content || in_chunk;
        if opaque {
            to.write_all(&line).await?;
            continue;
        }
        let kind = if content {
            What::Content
        } else {
            What::Command
        };
        let dropped = match apply(rules, |what| *what == kind, &line) {
            Some((Change::Text(text), place)) => {
                line.splice(place, text);
                false
            }
            Some((Change::Drop, _)) => true,
            Some((Change::Close, _)) => break,
            Some((Change::Again, _)) | None => false,
        };
        if content && let Some((Change::Text(text), place)) = apply(rules, is_ending, &line) {
            line.splice(place, text);
        }
        if !dropped {
            if !in_chunk {
                note(shared, content, &line);
            }
            if !content {
                chunk = chunk_size(&line);
            }
            segment.extend_from_slice(&line);
        }
        if !lines.has_more() {
            to.write_all(&segment).await?;
            segment.clear();
        }
    }
    to.write_all(&segment).await?;
    to.shutdown().await
}

/// How many octets follow a command that are none.
fn chunk_size(line: &[u8]) -> usize {
    let text = String::from_utf8_lossy(line);
    let mut words = text.split_ascii_whitespace();
    let is_chunk = words
        .next()
        .is_some_and(|verb| verb.eq_ignore_ascii_case("BDAT"));
    let size = words.next().filter(|_| is_chunk);
    size.and_then(|size| size.parse().ok()).unwrap_or(0)
}

fn is_ending(what: &What) -> bool {
    *what == What::Ending
}

/// Remembers what a line from the client means for the dialogue.
fn note(shared: &Shared, content: bool, line: &[u8]) {
    with(shared, |dialogue| {
        if !content
            && line
                .get(..5)
                .is_some_and(|verb| verb.eq_ignore_ascii_case(b"MAIL "))
        {
            dialogue.transaction.clear();
        }
        dialogue.transaction.push(line.to_vec());
        if !content {
            let command = String::from_utf8_lossy(line).to_ascii_uppercase();
            dialogue.waiting.push_back(command);
        } else if line == b".\r\n" {
            dialogue.content = false;
            dialogue.waiting.push_back("CONTENT".into());
        }
    });
}

async fn replies(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    rules: &[Rule],
    shared: &Shared,
    again: &Again,
) -> io::Result<()> {
    let mut lines = Lines {
        from,
        buffer: Vec::new(),
    };
    if let Some((Change::Text(text), _)) = apply(rules, |what| *what == What::Connection, b"") {
        to.write_all(&text).await?;
    }
    while let Some(mut line) = lines.next(shared).await? {
        let (opaque, command) = with(shared, |dialogue| {
            (
                dialogue.opaque,
                dialogue.waiting.front().cloned().unwrap_or_default(),
            )
        });
        if opaque {
            to.write_all(&line).await?;
            continue;
        }
        let last = line.get(3) != Some(&b'-');
        let code: [u8; 3] = line
            .get(..3)
            .and_then(|code| code.try_into().ok())
            .unwrap_or_default();
        let fits = |what: &What| match what {
            What::Reply(None) => true,
            What::Reply(Some(after)) => command.starts_with(after),
            _ => false,
        };
        let change = apply(rules, fits, &line);
        if last {
            with(shared, |dialogue| {
                dialogue.waiting.pop_front();
                dialogue.content |= command.starts_with("DATA") && code == *b"354";
            });
        }
        match change {
            Some((Change::Text(text), place)) => {
                line.splice(place, text);
            }
            Some((Change::Drop, _)) => continue,
            Some((Change::Close, _)) => break,
            Some((Change::Again, _)) => {
                let transaction = with(shared, |dialogue| dialogue.transaction.clone());
                again.say(&transaction).await?;
            }
            None => {}
        }
        to.write_all(&line).await?;
        if last && command.starts_with("STARTTLS") && code == *b"220" {
            with(shared, |dialogue| dialogue.opaque = true);
        }
    }
    to.shutdown().await
}

/// Where a message is handed over once more, and from where.
struct Again {
    from: std::net::IpAddr,
    target: SocketAddr,
}

impl Again {
    /// A session of its own, step by step; what the server answers is of no interest.
    async fn say(&self, transaction: &[Vec<u8>]) -> io::Result<()> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(self.from, 0))?;
        let (from, mut to) = socket.connect(self.target).await?.into_split();
        let shared = Shared::default();
        let mut replies = Lines {
            from,
            buffer: Vec::new(),
        };
        let mut content = false;
        replies.reply(&shared).await?;
        for line in std::iter::once(&b"EHLO again.example\r\n".to_vec()).chain(transaction) {
            to.write_all(line).await?;
            if content && line != b".\r\n" {
                continue;
            }
            let code = replies.reply(&shared).await?;
            content = code == b"354";
        }
        Ok(())
    }
}

impl Lines {
    /// The code of the next reply.
    async fn reply(&mut self, shared: &Shared) -> io::Result<Vec<u8>> {
        while let Some(line) = self.next(shared).await? {
            if line.get(3) != Some(&b'-') {
                return Ok(line.get(..3).unwrap_or_default().to_vec());
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
