//! Everything a run needs around the target: database, target, sinks, name server, certificates.
//!
//! It promises: whatever is started is gone at the end, also after Ctrl-C and SIGKILL of the
//! harness; nothing listens beyond loopback; what could not be had is said in one line.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::plan::Case;
use crate::scenario::{DatabaseFault, Entry, TargetAction, Vantage};

/// What the command line asks for.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--database`: auto, docker, local, embedded or a mysql:// URL.
    pub database: String,
    /// `--database-image`
    pub database_image: String,
    /// `--keep`: leave the temporary folder for a look.
    pub keep: bool,
    /// `--wrong FILE…`: `main.cf` lines that make a wrong server of the reference (`fixtures/wrong`).
    pub wrong: Vec<PathBuf>,
}

/// Why no environment could be made: exit code 2 (the user's words) or 3 (the machine's fault).
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// The words of the command line are off.
    #[error("{0}")]
    Usage(String),
    /// Something could not be started or reached; what to do about it.
    #[error("{0}")]
    Unavailable(String),
}

/// What one case sees of the world.
///
/// Made by `Environment::world`: names chosen, rows seeded, sink listening, target running.
/// `dispose` removes rows and Maildirs by name.
#[derive(Debug)]
pub struct World {
    /// domain, transport, sender, elsewhere, hostname, sinkaddress, sinkport.
    pub names: BTreeMap<String, String>,
    // target, sink, database: private
}

/// The facts about the target that driver and probes need.
#[derive(Debug, Clone)]
pub struct TargetFacts {
    /// Port 25 and port 465 as they are here.
    pub plain: SocketAddr,
    /// Port 465.
    pub smtps: SocketAddr,
    /// The authority that signed its certificate, DER.
    pub ca: Vec<u8>,
    /// The name in its certificate.
    pub hostname: String,
    /// The source address of a stranger.
    pub stranger: IpAddr,
    /// The source address of a neighbour.
    pub neighbour: IpAddr,
    /// virtual_mailbox_base
    pub maildir_root: Option<PathBuf>,
    /// uid and gid that Maildirs must have.
    pub owner: Option<(u32, u32)>,
    /// What the target can: `quota`, `faults`, `maildir`, `queue`, `owner`, `own-target`, `sink`, `database`.
    pub capabilities: Vec<String>,
    /// `tutorial`, `vda` …
    pub profiles: Vec<String>,
}

/// A message that came to the sink.
#[derive(Debug, Clone)]
pub struct Sunk {
    /// MAIL FROM, without brackets.
    pub from: String,
    /// RCPT TO that were granted, without brackets.
    pub to: Vec<String>,
    /// EHLO or HELO name.
    pub helo: String,
    /// The parameters after MAIL and RCPT, as sent.
    pub parameters: Vec<String>,
    /// The content, unstuffed, CRLF.
    pub content: Vec<u8>,
}

/// A message in a Maildir.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub content: Vec<u8>,
}

#[allow(unused_variables, clippy::unused_async, missing_docs, reason = "the seams; bodies follow")]
impl World {
    pub fn facts(&self) -> TargetFacts { unimplemented!() }
    pub fn address(&self, entry: Entry) -> SocketAddr { unimplemented!() }
    pub fn source(&self, from: Vantage) -> IpAddr { unimplemented!() }
    /// Runs a statement with all rights on the target's database.
    pub async fn sql(&self, statement: &str) -> Result<(), String> { unimplemented!() }
    /// Counts the rows of a SELECT.
    pub async fn rows(&self, statement: &str) -> Result<usize, String> { unimplemented!() }
    pub async fn database(&self, fault: DatabaseFault) -> Result<(), String> { unimplemented!() }
    pub async fn target(&self, action: TargetAction) -> Result<(), String> { unimplemented!() }
    /// The sink answers so from now on; `None` reply: as usual.
    pub fn sink_answers(&self, verb: &str, recipient: Option<&str>, reply: Option<&str>) { unimplemented!() }
    pub async fn sink_listens(&self, listens: bool) -> Result<(), String> { unimplemented!() }
    /// Everything that came to this case's sink so far.
    pub fn sunk(&self) -> Vec<Sunk> { unimplemented!() }
    /// Waits until `enough` says so of what came to the sink, or the limit passes; false: it passed.
    pub async fn sunk_until(&self, limit: Duration, enough: impl Fn(&[Sunk]) -> bool + Send) -> bool { unimplemented!() }
    /// The Maildir of an address: below virtual_mailbox_base by the tutorial's expression, domain/local/.
    pub fn maildir(&self, address: &str) -> Option<PathBuf> { unimplemented!() }
    /// The messages in new/ and cur/ of an address's Maildir (and `tmp/` count).
    pub async fn mails(&self, address: &str) -> Result<Vec<Mail>, String> { unimplemented!() }
    /// What the target's queue holds of messages that contain `token`; `None`: cannot be seen.
    pub async fn queued(&self, token: &str) -> Option<usize> { unimplemented!() }
    /// The target's log lines since the case began.
    pub fn log(&self) -> Vec<String> { unimplemented!() }
    /// The address of a mailbox that always exists and is never full, for canaries, and of a sink
    /// domain for canaries (`canary@<domain>`), on the same target.
    pub fn canary_mailbox(&self) -> String { unimplemented!() }
    /// Removes the case's rows and Maildirs; ends what it had of its own.
    pub async fn dispose(self) -> Result<(), String> { unimplemented!() }
}

/// The environment of a run.
#[derive(Debug)]
pub struct Environment {}

#[allow(unused_variables, clippy::unused_async, missing_docs, reason = "the seams; bodies follow")]
impl Environment {
    /// Starts everything; `say` hears one line a fact (which database and why, what is not there).
    pub async fn start(options: &Options, say: &(dyn Fn(String) + Sync)) -> Result<Self, EnvironmentError> { unimplemented!() }
    /// `MySQL 9.7.4 in a container (image …)`, `SQLite 3.51 embedded` …
    pub fn database_name(&self) -> String { unimplemented!() }
    /// `vmaild 0.1.0 (reference server)`
    pub fn target_name(&self) -> String { unimplemented!() }
    pub fn facts(&self) -> TargetFacts { unimplemented!() }
    /// Names, rows, sink and target of one case.
    pub async fn world(&self, case: &Case) -> Result<World, String> { unimplemented!() }
    /// Ends everything; also done when dropped.
    pub async fn stop(self) {}
}
