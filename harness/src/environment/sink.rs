//! Where foreign mail goes: an SMTP server of our own for each case, on an address of its own.
//!
//! It takes everything by default and remembers it; a case can make it answer otherwise, verb by
//! verb, or refuse connections. It shares nothing with the servers that are judged and is tolerant
//! of them: judging what came is the business of probes.
//!
//! Answers are sent as written, `\n` (those two characters, or a line end) between the lines of one
//! reply. Two are no replies: `closes` drops the connection, `hangs` never answers.

mod session;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Sunk;
use super::gate::listener;

/// In `Shared::refusals`: the sink is gone, and every session with it.
const OVER: usize = usize::MAX;

/// The address of the `number`th sink, counted from 0; `None` when there are no more.
#[must_use]
pub fn address(number: usize) -> Option<Ipv4Addr> {
    let third = u8::try_from(number / 250 + 1).ok()?;
    let fourth = u8::try_from(number % 250 + 1).ok()?;
    Some(Ipv4Addr::new(127, 9, third, fourth))
}

/// A running sink. Dropping it ends it.
#[derive(Debug)]
pub struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

/// What its sessions share.
#[derive(Debug)]
struct Shared {
    /// The name in the greeting.
    name: String,
    /// By verb, and by recipient in lower case where the answer is for one only.
    answers: Mutex<BTreeMap<(String, Option<String>), String>>,
    sunk: Mutex<Vec<Sunk>>,
    /// How many came.
    count: watch::Sender<usize>,
    /// Goes up when the sink begins to refuse: idle sessions end.
    refusals: watch::Sender<usize>,
    dialogue: Mutex<Vec<String>>,
}

impl Sink {
    /// Listens on `address`; `name` is in the greeting.
    pub fn start(address: SocketAddr, name: &str) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            answers: Mutex::default(),
            sunk: Mutex::default(),
            count: watch::Sender::new(0),
            refusals: watch::Sender::new(0),
            dialogue: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener(address)?, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            accepting: tokio::sync::Mutex::new(Some(accepting)),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on `verb` (CONNECT, EHLO, MAIL, RCPT, DATA, DOT), for one recipient or for all, is
    /// answered so; `None`: as usual.
    pub fn answers(&self, verb: &str, recipient: Option<&str>, reply: Option<&str>) {
        let recipient =
            recipient.map(|address| address.trim_matches(['<', '>']).to_ascii_lowercase());
        let key = (verb.to_ascii_uppercase(), recipient);
        let mut answers = lock(&self.shared.answers);
        match reply {
            Some(reply) => answers.insert(key, reply.to_owned()),
            None => answers.remove(&key),
        };
    }

    /// Takes connections, or has the kernel refuse them. Refusing also ends sessions that are
    /// between two messages.
    pub async fn listens(&self, listens: bool) -> io::Result<()> {
        let mut accepting = self.accepting.lock().await;
        if listens && accepting.is_none() {
            *accepting = Some(tokio::spawn(accept(
                listener(self.address)?,
                Arc::clone(&self.shared),
            )));
        } else if !listens && let Some(task) = accepting.take() {
            task.abort();
            // The port is closed when the task is gone.
            let _ = task.await;
            self.shared.refusals.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    /// Everything that came so far.
    pub fn sunk(&self) -> Vec<Sunk> {
        lock(&self.shared.sunk).clone()
    }

    /// Waits until `enough` says so of what came, or the limit passes; false: it passed.
    pub async fn sunk_until(
        &self,
        limit: Duration,
        enough: impl Fn(&[Sunk]) -> bool + Send,
    ) -> bool {
        let mut count = self.shared.count.subscribe();
        let satisfied = count.wait_for(|_| enough(&lock(&self.shared.sunk)));
        tokio::time::timeout(limit, satisfied)
            .await
            .is_ok_and(|reached| reached.is_ok())
    }

    /// What was said on all its connections, `#3 C: …` and `#3 S: …`, without contents.
    pub fn dialogue(&self) -> Vec<String> {
        lock(&self.shared.dialogue).clone()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(task) = self.accepting.get_mut() {
            task.abort();
        }
        self.shared.refusals.send_replace(OVER);
    }
}

impl Shared {
    fn answer(&self, verb: &str, recipient: Option<&str>) -> Option<String> {
        let answers = lock(&self.answers);
        let one =
            recipient.and_then(|r| answers.get(&(verb.to_owned(), Some(r.to_ascii_lowercase()))));
        one.or_else(|| answers.get(&(verb.to_owned(), None)))
            .cloned()
    }

    fn keep(&self, message: Sunk) {
        let mut sunk = lock(&self.sunk);
        sunk.push(message);
        let count = sunk.len();
        drop(sunk);
        self.count.send_replace(count);
    }

    fn note(&self, session: usize, side: char, text: &str) {
        lock(&self.dialogue).push(format!("#{session} {side}: {text}"));
    }
}

/// A lock that another thread's panic does not spoil: what is in it stays true at every step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    for number in 1.. {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        // Not bound to this task: a message under way is finished though the sink refuses by now.
        tokio::spawn(session::serve(stream, Arc::clone(&shared), number));
    }
}
