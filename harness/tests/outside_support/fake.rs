//! A server that takes everything, and says back what it was told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64ct::{Base64, Encoding as _};

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Each login but the first few is refused, with what was sent in the reply.
    SaysBack { logins: usize },
    /// Everything is taken, from everybody for everybody.
    TakesAll,
}

/// It runs until the test ends.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    /// The recipients of each message for which data was taken.
    pub(crate) taken: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    pub(crate) fn start(kind: Kind) -> Self {
        Self::logging(kind, None)
    }

    /// What is said to it at a login stands in this file as well.
    pub(crate) fn logging(kind: Kind, log: Option<PathBuf>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Self {
            address: listener.local_addr().unwrap(),
            taken: Arc::default(),
        };
        let taken = Arc::clone(&fake.taken);
        let logins = Arc::new(Mutex::new(0));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (taken, logins, log) = (Arc::clone(&taken), Arc::clone(&logins), log.clone());
                // A client that goes away ends its session.
                std::thread::spawn(move || session(stream, kind, log.as_deref(), &taken, &logins));
            }
        });
        fake
    }
}

fn session(
    mut stream: TcpStream,
    kind: Kind,
    log: Option<&Path>,
    taken: &Mutex<Vec<String>>,
    logins: &Mutex<usize>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).split(b'\n');
    let mut line = move || -> Option<String> {
        let line = lines.next()?.ok()?;
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    };
    stream.write_all(b"220 fake.example ESMTP\r\n")?;
    let mut recipients = Vec::new();
    while let Some(said) = line() {
        let verb = said.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" => "250-fake.example\r\n250-AUTH PLAIN LOGIN\r\n250 CHUNKING".to_owned(),
            "AUTH" => {
                let mut answers = vec![said.clone()];
                if said.split(' ').count() < 3 {
                    let asked = if said.ends_with("PLAIN") { 1 } else { 2 };
                    for _ in 0..asked {
                        stream.write_all(b"334 \r\n")?;
                        answers.push(line().unwrap_or_default());
                    }
                }
                let words = answers
                    .iter()
                    .filter_map(|answer| answer.split(' ').next_back());
                let decoded = words.filter_map(|word| Base64::decode_vec(word).ok());
                let decoded = decoded.map(|word| String::from_utf8_lossy(&word).replace('\0', " "));
                let heard: Vec<String> = answers.iter().cloned().chain(decoded).collect();
                let heard = heard.join(" and ");
                if let Some(log) = log {
                    let mut log = std::fs::OpenOptions::new().append(true).open(log)?;
                    writeln!(log, "me@mail.example said {heard}")?;
                }
                let mut count = logins.lock().unwrap();
                *count += 1;
                match kind {
                    Kind::SaysBack { logins } if *count > logins => {
                        format!("535 5.7.8 refused, for it said {heard}")
                    }
                    _ => "235 welcome".to_owned(),
                }
            }
            "RCPT" => {
                recipients.push(said.clone());
                match kind {
                    Kind::SaysBack { .. } if !said.contains("@mail.example>") => {
                        "554 5.7.1 no relaying".to_owned()
                    }
                    _ => "250 ok".to_owned(),
                }
            }
            "MAIL" | "RSET" => {
                recipients.clear();
                "250 ok".to_owned()
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n")?;
                while line().is_some_and(|line| line != ".") {}
                taken.lock().unwrap().append(&mut recipients);
                "250 taken".to_owned()
            }
            "BDAT" => {
                taken.lock().unwrap().append(&mut recipients);
                "250 taken".to_owned()
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n")?;
                return Ok(());
            }
            _ if matches!(kind, Kind::SaysBack { .. }) => format!("500 what is {said}"),
            _ => "250 ok".to_owned(),
        };
        stream.write_all(format!("{reply}\r\n").as_bytes())?;
    }
    Ok(())
}
