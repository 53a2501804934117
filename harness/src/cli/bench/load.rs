//! Load: SMTP sessions that send one message after another, and the moment the last one was in a Maildir.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// No server that is worth measuring is silent for so long.
const REPLY_LIMIT: Duration = Duration::from_mins(2);
/// From the last 250 to the last file.
const DELIVERY_LIMIT: Duration = Duration::from_mins(5);

/// One session, past EHLO.
#[derive(Debug)]
pub(super) struct Session {
    stream: BufReader<TcpStream>,
}

impl Session {
    /// Connects from `source` and says EHLO.
    pub(super) async fn open(source: std::net::IpAddr, server: SocketAddr) -> Result<Self, String> {
        let connect = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(source, 0))?;
            let stream = socket.connect(server).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        };
        let stream = timeout(REPLY_LIMIT, connect)
            .await
            .map_err(|_| format!("{server} takes no connection"))?
            .map_err(|error| format!("{server}: {error}"))?;
        let mut session = Self {
            stream: BufReader::with_capacity(1024, stream),
        };
        session.heard("220").await?;
        session.said(b"EHLO client.example\r\n", &["250"]).await?;
        Ok(session)
    }

    /// Sends octets and reads one reply for each code, which it has to have.
    pub(super) async fn said(&mut self, octets: &[u8], codes: &[&str]) -> Result<(), String> {
        let sent = self.stream.write_all(octets).await;
        sent.map_err(|error| format!("a session broke: {error}"))?;
        for code in codes {
            self.heard(code).await?;
        }
        Ok(())
    }

    async fn heard(&mut self, code: &str) -> Result<(), String> {
        let mut line = String::new();
        loop {
            line.clear();
            let read = timeout(REPLY_LIMIT, self.stream.read_line(&mut line)).await;
            match read {
                Err(_) => return Err(format!("no reply within {} s", REPLY_LIMIT.as_secs())),
                Ok(Err(error)) => return Err(format!("a session broke: {error}")),
                Ok(Ok(0)) => return Err("the server closed a session".to_owned()),
                Ok(Ok(_)) if !line.starts_with(code) => {
                    return Err(format!("expected {code}, heard {}", line.trim_end()));
                }
                Ok(Ok(_)) if line.as_bytes().get(3) == Some(&b'-') => {}
                Ok(Ok(_)) => return Ok(()),
            }
        }
    }

    /// MAIL and RCPT, whose replies come together (RFC 2920), with what follows them.
    pub(super) async fn envelope(
        &mut self,
        recipient: &str,
        then: &str,
        codes: &[&str],
    ) -> Result<(), String> {
        let commands =
            format!("MAIL FROM:<sender@sender.example>\r\nRCPT TO:<{recipient}>\r\n{then}");
        self.said(commands.as_bytes(), codes).await
    }

    /// One message to one recipient, until its 250.
    pub(super) async fn message(&mut self, recipient: &str, content: &[u8]) -> Result<(), String> {
        self.envelope(recipient, "DATA\r\n", &["250", "250", "354"])
            .await?;
        self.said(content, &["250"]).await
    }
}

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) source: std::net::IpAddr,
    pub(super) server: SocketAddr,
    /// Below it `domain/local part/new`.
    pub(super) maildirs: PathBuf,
    pub(super) sessions: usize,
    pub(super) messages: usize,
    /// In turn.
    pub(super) recipients: Vec<String>,
}

/// A message of `octets`, with the dot that ends it.
pub(super) fn content(octets: usize) -> Vec<u8> {
    let mut text = "From: <sender@sender.example>\r\nTo: <user@bench.test>\r\n\
         Subject: a message of the benchmark\r\nMessage-ID: <bench@sender.example>\r\n\r\n"
        .to_owned();
    let line = "A line of text as people write them, and then another one of the same kind.\r\n";
    while text.len() + line.len() <= octets {
        text.push_str(line);
    }
    text.push_str(&"x".repeat(octets.saturating_sub(text.len() + 2)));
    text.push_str("\r\n.\r\n");
    text.into_bytes()
}

impl Load {
    /// Sends everything; from the first connection until the last file was in `new/`.
    pub(super) async fn run(&self) -> Result<Duration, String> {
        let folders = self.folders();
        let before = files(&folders)?;
        let (began, began_at) = (Instant::now(), SystemTime::now());
        self.send().await?;
        let sent = began.elapsed();
        let deadline = Instant::now() + DELIVERY_LIMIT;
        while files(&folders)? < before + self.messages {
            if Instant::now() > deadline {
                return Err(format!(
                    "{} of {} messages did not come to {} within {} s",
                    before + self.messages - files(&folders)?,
                    self.messages,
                    self.maildirs.display(),
                    DELIVERY_LIMIT.as_secs()
                ));
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        // The files themselves say when they came, to some milliseconds; looking takes longer.
        let last = last_change(&folders)?.duration_since(began_at);
        Ok(last.unwrap_or_default().max(sent))
    }

    async fn send(&self) -> Result<(), String> {
        let content: std::sync::Arc<[u8]> = content(super::compare::MESSAGE_OCTETS).into();
        let mut running = JoinSet::new();
        for session in 0..self.sessions {
            let (source, server, content) = (self.source, self.server, content.clone());
            let recipients: Vec<String> = (session..self.messages)
                .step_by(self.sessions)
                .map(|number| self.recipients[number % self.recipients.len()].clone())
                .collect();
            running.spawn(async move {
                let mut session = Session::open(source, server).await?;
                for recipient in recipients {
                    session.message(&recipient, &content).await?;
                }
                session.said(b"QUIT\r\n", &["221"]).await
            });
        }
        while let Some(ended) = running.join_next().await {
            ended.map_err(|error| error.to_string())??;
        }
        Ok(())
    }

    /// The `new/` of each recipient, once.
    fn folders(&self) -> Vec<PathBuf> {
        let mut folders: Vec<_> = self
            .recipients
            .iter()
            .filter_map(|address| address.split_once('@'))
            .map(|(local, domain)| self.maildirs.join(domain).join(local).join("new"))
            .collect();
        folders.sort();
        folders.dedup();
        folders
    }
}

fn entries(
    folder: &Path,
) -> Result<impl Iterator<Item = std::io::Result<std::fs::DirEntry>>, String> {
    match std::fs::read_dir(folder) {
        Ok(entries) => Ok(Some(entries).into_iter().flatten()),
        // The first message makes it.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(None.into_iter().flatten())
        }
        Err(error) => Err(format!("{}: {error}", folder.display())),
    }
}

fn files(folders: &[PathBuf]) -> Result<usize, String> {
    folders
        .iter()
        .try_fold(0, |sum, folder| Ok(sum + entries(folder)?.count()))
}

/// When the last file came to its place: renaming or linking it is a change of it.
fn last_change(folders: &[PathBuf]) -> Result<SystemTime, String> {
    use std::os::unix::fs::MetadataExt as _;
    let mut last = Duration::ZERO;
    for folder in folders {
        for entry in entries(folder)? {
            let metadata = entry
                .and_then(|entry| entry.metadata())
                .map_err(|error| format!("{}: {error}", folder.display()))?;
            let (seconds, nanoseconds) = (metadata.ctime(), metadata.ctime_nsec());
            last = last.max(Duration::new(
                u64::try_from(seconds).unwrap_or_default(),
                u32::try_from(nanoseconds).unwrap_or_default(),
            ));
        }
    }
    Ok(SystemTime::UNIX_EPOCH + last)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_message_has_the_octets_that_were_asked_for_and_ends_with_a_dot() {
        let content = super::content(4096);
        assert_eq!(content.len(), 4096 + b".\r\n".len());
        assert!(content.ends_with(b"\r\n.\r\n"));
    }
}
