//! Everything a run needs around the target: database, target, sinks, name server, certificates.
//!
//! It promises: whatever is started is gone at the end, also after Ctrl-C and SIGKILL of the
//! harness; nothing listens beyond loopback; what could not be had is said in one line.
//!
//! | module | what it is |
//! |---|---|
//! | `database` | Docker, a private server of the machine, SQLite, or one that exists |
//! | `description` | what the target is: how it is started, what it can |
//! | `target`, `template`, `certs` | the server as a child or a container, its configuration, its certificate |
//! | `gate` | the way from a target to its database, which can be shut |
//! | `disk` | small disks of a case's own, which can be full |
//! | `sink`, `dns` | where foreign mail goes, and how the target finds it |
//! | `names` | what a case calls its own, and its rows |
//! | `queue` | which of a run's messages the target has not delivered yet |
//! | `outside`, `manners`, `mirror` | servers that run already: where they are, what they are spared, Maildirs that are far away |
//! | `run`, `standing`, `world` | what cases share, a target with its tables, what one case sees |
//! | `secrets` | what no report may show |
//! | `reaper` | ends it all |

pub mod certs;
pub mod checks;
pub mod database;
pub mod description;
mod disk;
pub mod dns;
pub mod gate;
pub mod manners;
mod mirror;
pub mod names;
pub mod outside;
mod queue;
pub mod random;
pub mod reaper;
mod run;
pub mod secrets;
mod server;
pub mod sink;
mod standing;
pub mod target;
pub mod template;
mod visit;
mod world;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use crate::plan::{Case, PORT_25};
use crate::scenario::Entry;
use crate::wire::Trust;

pub use self::description::Description;
use self::manners::Manners;
pub use self::queue::Left;
use self::secrets::Secrets;
pub use self::world::World;

/// What the command line asks for.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--target`: which server, and what it can.
    pub target: Description,
    /// `--database`: auto, docker, local, embedded or a mysql:// URL.
    pub database: String,
    /// `--database-image`
    pub database_image: String,
    /// `--keep`: leave the temporary folder for a look.
    pub keep: bool,
    /// Spare a server of somebody else's nothing but mail for foreign domains: `--intrusive`.
    pub intrusive: bool,
    /// Begins the token of every message.
    pub run: String,
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

/// The facts about the target that driver and probes need.
#[derive(Debug, Clone)]
pub struct TargetFacts {
    /// Port 25 and port 465 as they are here.
    pub plain: SocketAddr,
    /// Port 465.
    pub smtps: SocketAddr,
    /// Which certificates are its own.
    pub trust: Trust,
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
    /// What it cannot on this machine or with this database, and why.
    pub unavailable: Vec<(&'static str, &'static str)>,
    /// `tutorial`, `vda` …
    pub profiles: Vec<String>,
    /// How many cases may have a target of their own at the same time.
    pub own_targets: usize,
    /// How many cases there may be at once at all; `None`: as many as the run likes.
    pub at_once: Option<usize>,
    /// What a server of somebody else's is spared.
    pub manners: Option<Manners>,
    /// Texts that no report may show.
    pub secrets: Secrets,
    /// Where a stranger's mail comes from and goes to when relaying is asked about.
    pub foreign: [String; 2],
}

impl TargetFacts {
    /// Port 25, or 465 where that is the only one.
    #[must_use]
    pub fn way_in(&self) -> (SocketAddr, Entry) {
        if self.capabilities.iter().any(|word| word == PORT_25) {
            (self.plain, Entry::Plain)
        } else {
            (self.smtps, Entry::Smtps)
        }
    }
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
    /// CRs and LFs that did not stand together.
    pub bare: usize,
}

/// A message in a Maildir.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub content: Vec<u8>,
}

/// The environment of a run. Dropping it ends everything, too, without waiting for anybody.
#[derive(Debug)]
pub struct Environment {
    run: Arc<run::Run>,
}

impl Environment {
    /// Starts everything; `say` hears one line a fact (which database and why, what is not there).
    pub async fn start(
        options: &Options,
        say: &(dyn Fn(String) + Sync),
    ) -> Result<Self, EnvironmentError> {
        let started = run::Run::start(options, say).await;
        let run = started.map_err(|error| Secrets::of(options).hidden_in(error))?;
        Ok(Self { run: Arc::new(run) })
    }

    /// Looks whether the target's description fits the server, key by key, and leaves nothing behind.
    /// An error: the words of the command line are off.
    pub async fn examine(
        options: &Options,
        say: &(dyn Fn(String) + Sync),
    ) -> Result<Vec<checks::Finding>, EnvironmentError> {
        let secrets = Secrets::of(options);
        let findings = Box::pin(Self::look(options, say))
            .await
            .map_err(|error| secrets.hidden_in(error))?;
        Ok(findings
            .into_iter()
            .map(|finding| finding.without(&secrets))
            .collect())
    }

    async fn look(
        options: &Options,
        say: &(dyn Fn(String) + Sync),
    ) -> Result<Vec<checks::Finding>, EnvironmentError> {
        let (mut findings, entered) = match options.target.outside() {
            None => (Vec::new(), run::Run::start(options, say).await),
            Some(outside) => {
                let (findings, doors) = checks::doors(outside).await;
                if doors.smtp.or(doors.smtps).is_none() || checks::first_problem(&findings).is_err()
                {
                    return Ok(findings);
                }
                (findings, visit::enter(options, outside, doors, say).await)
            }
        };
        match entered {
            Ok(run) => {
                findings.extend(checks::house(&run).await);
                run.stop().await;
            }
            Err(EnvironmentError::Unavailable(why)) => findings.push(checks::not_entered(why)),
            Err(usage) => return Err(usage),
        }
        Ok(findings)
    }

    /// `MySQL 9.7.4 in a container (image …)`, `SQLite 3.51 embedded` …
    #[must_use]
    pub fn database_name(&self) -> String {
        self.run.database_name().to_owned()
    }

    /// `vmaild 0.1.0 (reference server)`
    #[must_use]
    pub fn target_name(&self) -> String {
        self.run.target_name().to_owned()
    }

    /// The facts about the target that cases share.
    #[must_use]
    pub fn facts(&self) -> TargetFacts {
        self.run.shared.facts.clone()
    }

    /// The process of the target that cases share; of a container the first one.
    pub async fn target_process(&self) -> Result<u32, String> {
        self.run.shared.target.process().await
    }

    /// Names, rows, sink and target of one case.
    pub async fn world(&self, case: &Case) -> Result<World, String> {
        self.run.world(case).await
    }

    /// Whether the database was there before the run, and stays.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.run.database_is_given
    }

    /// Why the run's database is gone; `None`: it answers. What is seen without it says nothing of
    /// the target.
    pub async fn database_gone(&self) -> Option<String> {
        self.run.database_gone().await
    }

    /// Takes mail of this run out of the queue of a server that was there before, and goes on, where
    /// its description says how; what is left it delivers, or gives up by itself.
    pub async fn clear_queue(&self) -> Left {
        self.run.clear_queue().await
    }

    /// Ends everything, in order: target, database, folder.
    pub async fn stop(self) {
        self.run.stop().await;
    }
}

/// A file of `fixtures/`.
fn fixture(name: &str) -> Result<&'static str, String> {
    crate::fixtures::file(name)
        .ok_or_else(|| format!("fixtures/{name} is not in this program: a defect of vmailspec"))
}
