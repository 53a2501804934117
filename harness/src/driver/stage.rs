//! What driver, probes and ledger need of the world, as a trait: so they can be tested on a stage
//! that a test builds, and so a proxy can stand between driver and target (`--wrong FILE.wire`).

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::environment::{Mail, Sunk, TargetFacts, World};
use crate::plan::needs::SIGHTS;
use crate::scenario::{DatabaseFault, Disk, Entry, TargetAction, Vantage};
use crate::wrong::Wrong;

/// The world of one case. Each method is as in [`World`].
pub trait Stage: Sync {
    /// The case's names.
    fn names(&self) -> &BTreeMap<String, String>;
    /// Facts about the target.
    fn facts(&self) -> TargetFacts;
    /// Where nobody can look here, of [`SIGHTS`].
    fn unseen(&self) -> Vec<&'static str> {
        Vec::new()
    }
    /// Where to connect.
    fn address(&self, entry: Entry) -> impl Future<Output = Result<SocketAddr, String>> + Send;
    /// The target itself, whatever stands before it: canaries and checks of the suite go there.
    fn direct(&self, entry: Entry) -> SocketAddr;
    /// From where to connect.
    fn source(&self, from: Vantage) -> IpAddr;
    /// Runs a statement.
    fn sql(&self, statement: &str) -> impl Future<Output = Result<(), String>> + Send;
    /// Counts rows.
    fn rows(&self, statement: &str) -> impl Future<Output = Result<usize, String>> + Send;
    /// Disturbs the database.
    fn database(&self, fault: DatabaseFault) -> impl Future<Output = Result<(), String>> + Send;
    /// Fills a disk, or makes room.
    fn disk(&self, _: Disk, _: bool) -> Result<(), String> {
        Err("there are no disks of the case's own here".into())
    }
    /// Restarts, kills, starts the target.
    fn target(&self, action: TargetAction) -> impl Future<Output = Result<(), String>> + Send;
    /// Tells the sink what to answer.
    fn sink_answers(&self, verb: &str, recipient: Option<&str>, reply: Option<&str>);
    /// Opens and closes the sink.
    fn sink_listens(&self, listens: bool) -> impl Future<Output = Result<(), String>> + Send;
    /// What was said at the sink, `#3 C: …` and `#3 S: …`.
    fn sink_dialogue(&self) -> Vec<String> {
        Vec::new()
    }
    /// What came to the sink.
    fn sunk(&self) -> Vec<Sunk>;
    /// Looks anew where Maildirs are that this machine cannot look into directly.
    fn refresh(&self) -> impl Future<Output = Result<(), String>> + Send {
        std::future::ready(Ok(()))
    }
    /// The folder of a Maildir.
    fn maildir(&self, address: &str) -> Option<PathBuf>;
    /// What lies in a Maildir.
    fn mails(&self, address: &str) -> impl Future<Output = Result<Vec<Mail>, String>> + Send;
    /// What the queue holds of a token.
    fn queued(&self, token: &str) -> impl Future<Output = Option<usize>> + Send;
    /// The target's log since the case began.
    fn log(&self) -> Vec<String>;
    /// Where canaries go.
    fn canary_mailbox(&self) -> String;
    /// An end of the target that nobody asked for: how it ended, and its last words.
    fn crashed(&self) -> Option<String> {
        None
    }
}

/// A world, and what stands before its target.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The case's world.
    pub world: &'a World,
    /// What breaks the wire, if anything.
    pub wrong: Option<&'a Wrong>,
}

impl Stage for Scene<'_> {
    fn names(&self) -> &BTreeMap<String, String> {
        &self.world.names
    }
    fn facts(&self) -> TargetFacts {
        self.world.facts()
    }
    fn unseen(&self) -> Vec<&'static str> {
        let sights = SIGHTS.into_iter();
        sights.filter(|word| !self.world.can(word)).collect()
    }
    async fn address(&self, entry: Entry) -> Result<SocketAddr, String> {
        let target = self.world.address(entry);
        match self.wrong {
            Some(wrong) => wrong.before(target).await,
            None => Ok(target),
        }
    }
    fn direct(&self, entry: Entry) -> SocketAddr {
        self.world.address(entry)
    }
    fn source(&self, from: Vantage) -> IpAddr {
        self.world.source(from)
    }
    async fn sql(&self, statement: &str) -> Result<(), String> {
        self.world.sql(statement).await
    }
    async fn rows(&self, statement: &str) -> Result<usize, String> {
        self.world.rows(statement).await
    }
    async fn database(&self, fault: DatabaseFault) -> Result<(), String> {
        self.world.database(fault).await
    }
    fn disk(&self, which: Disk, full: bool) -> Result<(), String> {
        self.world.disk(which, full)
    }
    async fn target(&self, action: TargetAction) -> Result<(), String> {
        self.world.target(action).await
    }
    fn sink_answers(&self, verb: &str, recipient: Option<&str>, reply: Option<&str>) {
        self.world.sink_answers(verb, recipient, reply);
    }
    async fn sink_listens(&self, listens: bool) -> Result<(), String> {
        self.world.sink_listens(listens).await
    }
    fn sink_dialogue(&self) -> Vec<String> {
        self.world.sink_dialogue()
    }
    fn sunk(&self) -> Vec<Sunk> {
        self.world.sunk()
    }
    async fn refresh(&self) -> Result<(), String> {
        self.world.refresh().await
    }
    fn maildir(&self, address: &str) -> Option<PathBuf> {
        self.world.maildir(address)
    }
    async fn mails(&self, address: &str) -> Result<Vec<Mail>, String> {
        self.world.mails(address).await
    }
    async fn queued(&self, token: &str) -> Option<usize> {
        self.world.queued(token).await
    }
    fn log(&self) -> Vec<String> {
        self.world.log()
    }
    fn canary_mailbox(&self) -> String {
        self.world.canary_mailbox()
    }
    fn crashed(&self) -> Option<String> {
        self.world.crashed()
    }
}
