//! A target with its tables: configuration written, server started, the canary's mailbox seeded.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::certs::Identity;
use super::database::Store;
use super::database::local::find;
use super::description::Start;
use super::disk::Disks;
use super::dns::Dns;
use super::mirror::Mirror;
use super::names::HOSTNAME;
use super::queue::Queue;
use super::secrets::Secrets;
use super::server::Server;
use super::target::{Kind, Recipe, Target};
use super::template::{self, Settings};
use super::{Description, TargetFacts, random};
use crate::plan::needs::ALWAYS;
use crate::wire::Trust;

/// Cases with a target of their own at once: each is a process with a database file or gate, or a
/// container full of processes.
const OWN_PROCESSES: usize = 12;
const OWN_CONTAINERS: usize = 4;
/// An engine of this machine answers in milliseconds.
const ENGINE_LIMIT: Duration = Duration::from_secs(10);
/// A container that says one line, on a busy machine.
const VERSION_LIMIT: Duration = Duration::from_mins(1);
/// The capabilities that are this machine's and this database's, besides the target's.
pub(super) const DISK: &str = "disk";
const GATE: &str = "gate";
pub(super) const NO_GATE: &str =
    "SQLite is no server: there are no connections to it that could be cut or slow";
const NO_DISK: &str = "a disk of a case's own has to be mounted, which needs root";
const LISTEN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// In `mynetworks`, as the template has it.
pub(super) const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Not in it. Not 127.0.0.1 either: Postfix takes its own addresses for local.
pub(super) const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// A sender's and a recipient's domain that nobody has (RFC 2606).
pub(super) const FOREIGN: [&str; 2] = ["vantage.example", "elsewhere.example"];

/// A target with its tables.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) target: Server,
    pub(super) store: Store,
    pub(super) queue: Queue,
    /// A copy of Maildirs that are far away.
    pub(super) mirror: Option<Mirror>,
    pub(super) facts: TargetFacts,
}

/// The way to start targets on this machine, known to be there.
#[derive(Debug)]
pub(super) enum Way {
    Reference {
        /// `VMAILSPEC_SERVE_EXE`, or this program.
        program: PathBuf,
    },
    Command {
        program: PathBuf,
        arguments: Vec<String>,
        /// The run's, on port 53 where it can be.
        name_server: SocketAddr,
    },
    Container {
        docker: PathBuf,
        image: String,
        arguments: Vec<String>,
        /// The run's, on port 53.
        name_server: SocketAddr,
    },
}

impl Way {
    /// What a description asks for; an error says what is missing.
    async fn to(description: &Description, dns: &mut Dns) -> Result<Self, String> {
        if let Some(template) = &description.template {
            template::own_files(template)?;
        }
        match &description.start {
            Start::Reference => {
                let program = match std::env::var_os("VMAILSPEC_SERVE_EXE") {
                    Some(program) => program.into(),
                    None => std::env::current_exe()
                        .map_err(|error| format!("this program's own file: {error}"))?,
                };
                Ok(Self::Reference { program })
            }
            Start::Command { program, arguments } => {
                let named = program.to_string_lossy();
                let here = if named.contains('/') {
                    program.is_file().then(|| program.clone())
                } else {
                    find(&named)
                };
                Ok(Self::Command {
                    program: here.ok_or_else(|| format!("there is no program {named} here"))?,
                    arguments: arguments.clone(),
                    name_server: if rustix::process::geteuid().is_root() {
                        on_port_53(dns)?
                    } else {
                        dns.address()
                    },
                })
            }
            Start::Nothing(_) => Err("it is not ours to start".to_owned()),
            Start::Container { image, arguments } => {
                if !rustix::process::geteuid().is_root() {
                    return Err(
                        "its name server has to be on port 53, and its Maildirs belong to another account: run as root"
                            .to_owned(),
                    );
                }
                let docker = engine_with(image).await?;
                Ok(Self::Container {
                    docker,
                    image: image.clone(),
                    arguments: arguments.clone(),
                    name_server: on_port_53(dns)?,
                })
            }
        }
    }

    /// The way, and what reports call the server: its name, and its version where it says one.
    pub(super) async fn named(
        description: &Description,
        dns: &mut Dns,
    ) -> Result<(Self, String), String> {
        let way = Self::to(description, dns).await?;
        let name = description.name.clone();
        Ok(match &description.version {
            Some(line) => {
                let version = way.version(line).await?;
                (way, format!("{name} {version}"))
            }
            None => (way, name),
        })
    }

    /// What the server says of its version: the first line that `line`, a line of sh(1), says where
    /// the server's program is.
    pub(super) async fn version(&self, line: &str) -> Result<String, String> {
        let mut command = if let Self::Container { docker, image, .. } = self {
            let mut command = Command::new(docker);
            command.args(["run", "--rm", "--network", "none", "--log-driver", "none"]);
            command.args(["--entrypoint", "sh", image]);
            command
        } else {
            Command::new("sh")
        };
        command.args(["-c", line]).stdin(Stdio::null());
        let asked = tokio::time::timeout(VERSION_LIMIT, command.kill_on_drop(true).output()).await;
        let asked = asked
            .map_err(|_| format!("`{line}` did not end within {} s", VERSION_LIMIT.as_secs()))?
            .map_err(|error| format!("`{line}`: {error}"))?;
        let said = String::from_utf8_lossy(&asked.stdout);
        let first = said.lines().next().unwrap_or_default().trim();
        if !asked.status.success() || first.is_empty() {
            let why = String::from_utf8_lossy(&asked.stderr);
            return Err(format!(
                "`{line}`: expected a version, but it ended with {} and said \"{}\"",
                asked.status,
                why.trim().replace('\n', " ")
            ));
        }
        Ok(first.to_owned())
    }

    /// Whether such a target can use such tables.
    pub(super) fn takes(&self, store: &Store) -> Result<(), &'static str> {
        match (self, store) {
            (Self::Container { .. } | Self::Command { .. }, Store::Sqlite(_)) => {
                Err("it needs MySQL or MariaDB: choose another --database than embedded")
            }
            _ => Ok(()),
        }
    }
}

/// The run's name server for those that know no other port.
fn on_port_53(dns: &mut Dns) -> Result<SocketAddr, String> {
    let address = dns.also_on_port_53().map_err(|error| {
        format!("no name server on port 53 of 127.9.0.53 and following: {error}")
    })?;
    Ok(SocketAddr::new(address.into(), 53))
}

/// The docker command of an engine that has `image`.
async fn engine_with(image: &str) -> Result<PathBuf, String> {
    let docker = find("docker").ok_or("there is no docker command here")?;
    let inspected = Command::new(&docker)
        .args(["image", "inspect", "--format", "{{.Id}}", image])
        .stdin(Stdio::null())
        .output();
    let inspected = tokio::time::timeout(ENGINE_LIMIT, inspected).await;
    let inspected = inspected
        .map_err(|_| format!("no engine answers within {} s", ENGINE_LIMIT.as_secs()))?
        .map_err(|error| format!("{}: {error}", docker.display()))?;
    if !inspected.status.success() {
        let said = String::from_utf8_lossy(&inspected.stderr);
        return Err(format!(
            "the image {image} is not here, none is pulled (vmailspec's own are made by ci/images): {}",
            said.trim()
        ));
    }
    Ok(docker)
}

/// Of a target that is about to be made.
pub(super) struct Plan<'a> {
    pub(super) folder: &'a Path,
    pub(super) store: &'a Store,
    pub(super) gate: Option<SocketAddr>,
    pub(super) main_cf: Vec<String>,
    pub(super) master_cf: Vec<(String, String, String)>,
    /// Mailboxes and queue lie on disks of their own.
    pub(super) disks: bool,
}

/// What is needed to make a target.
pub(super) struct Making<'a> {
    pub(super) identity: &'a Identity,
    pub(super) authority: &'a [u8],
    pub(super) way: &'a Way,
    pub(super) description: &'a Description,
    pub(super) dns: &'a Dns,
    pub(super) next_hop: &'a TcpListener,
    pub(super) owner: (u32, u32),
}

impl Making<'_> {
    /// Writes the configuration and starts the server.
    pub(super) async fn target(
        &self,
        plan: Plan<'_>,
    ) -> Result<(Server, TargetFacts, Option<Disks>), String> {
        let at =
            |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        std::fs::create_dir(plan.folder).map_err(|error| at(plan.folder, &error))?;
        let passable = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(plan.folder, passable).map_err(|error| at(plan.folder, &error))?;
        let (queue, mailboxes) = (plan.folder.join("queue"), plan.folder.join("vmail"));
        for folder in [&queue, &mailboxes] {
            std::fs::create_dir(folder).map_err(|error| at(folder, &error))?;
            if rustix::process::geteuid().is_root() {
                chown(folder, Some(self.owner.0), Some(self.owner.1))
                    .map_err(|error| at(folder, &error))?;
            }
        }
        let disks = if plan.disks {
            Some(Disks::mount(&mailboxes, &queue, self.owner)?)
        } else {
            None
        };
        let next_hop = self
            .next_hop
            .local_addr()
            .map_err(|error| error.to_string())?
            .port();
        let tables = plan.store.tables(plan.gate).ok_or("there is no database")?;
        let mut why = String::new();
        for _ in 0..3 {
            let port = || {
                random::free_port(LISTEN).map_err(|error| format!("a port on 127.0.0.1: {error}"))
            };
            let (smtp, smtps) = (
                SocketAddr::new(LISTEN, port()?),
                SocketAddr::new(LISTEN, port()?),
            );
            let settings = Settings {
                config: plan.folder.join("config"),
                queue: queue.clone(),
                mailboxes: mailboxes.clone(),
                smtp,
                smtps,
                next_hop_port: next_hop,
                name_server: match self.way {
                    Way::Container { name_server, .. } | Way::Command { name_server, .. } => {
                        *name_server
                    }
                    Way::Reference { .. } => self.dns.address(),
                },
                owner: self.owner,
                tables: tables.clone(),
                main_cf: plan.main_cf.clone(),
                master_cf: plan.master_cf.clone(),
            };
            template::write(
                &settings,
                self.identity,
                self.description.template.as_deref(),
            )?;
            let target = Target::new(self.recipe(plan.folder, &settings)?);
            match target.start().await {
                Ok(()) => {
                    let target = Server::Ours(Box::new(target));
                    let facts = self.facts(smtp, smtps, mailboxes, plan.store);
                    return Ok((target, facts, disks));
                }
                Err(said) => why = said,
            }
            // Somebody may have taken a port in between; any other reason stays one.
            if !why.contains("in use") {
                break;
            }
        }
        Err(why)
    }

    fn recipe(&self, folder: &Path, settings: &Settings) -> Result<Recipe, String> {
        let filled = |arguments: &[String]| {
            let filled = arguments
                .iter()
                .map(|text| template::argument(text, settings).map(OsString::from));
            filled.collect::<Result<Vec<OsString>, String>>()
        };
        let kind = match self.way {
            Way::Reference { program } => Kind::Process {
                program: program.clone(),
                arguments: vec![
                    "serve".into(),
                    "--config".into(),
                    settings.config.clone().into(),
                    "--resolver".into(),
                    self.dns.address().to_string().into(),
                ],
            },
            Way::Command {
                program, arguments, ..
            } => Kind::Process {
                program: program.clone(),
                arguments: filled(arguments)?,
            },
            Way::Container {
                docker,
                image,
                arguments,
                name_server,
            } => Kind::Container {
                docker: docker.clone(),
                image: image.clone(),
                arguments: filled(arguments)?,
                folder: folder.to_owned(),
                name_server: name_server.ip(),
            },
        };
        Ok(Recipe {
            kind,
            ready: self.description.ready.clone(),
            within: self.description.within,
            listens: [settings.smtp, settings.smtps],
        })
    }

    fn facts(
        &self,
        plain: SocketAddr,
        smtps: SocketAddr,
        mailboxes: PathBuf,
        store: &Store,
    ) -> TargetFacts {
        let mut unavailable = Vec::new();
        if matches!(store, Store::Sqlite(_)) {
            unavailable.push((GATE, NO_GATE));
        }
        if !rustix::process::geteuid().is_root() {
            unavailable.push((DISK, NO_DISK));
        }
        TargetFacts {
            plain,
            smtps,
            trust: Trust::Authorities(vec![self.authority.to_vec()]),
            hostname: HOSTNAME.to_owned(),
            stranger: STRANGER.into(),
            neighbour: NEIGHBOUR.into(),
            maildir_root: Some(mailboxes),
            owner: Some(self.owner),
            capabilities: {
                let always = ALWAYS.iter().map(|&word| word.to_owned());
                self.description
                    .capabilities
                    .iter()
                    .cloned()
                    .chain(always)
                    .collect()
            },
            unavailable,
            profiles: self.description.profiles.clone(),
            own_targets: match self.way {
                Way::Reference { .. } | Way::Command { .. } => OWN_PROCESSES,
                Way::Container { .. } => OWN_CONTAINERS,
            },
            at_once: None,
            manners: None,
            secrets: Secrets::default(),
            foreign: FOREIGN.map(str::to_owned),
        }
    }
}

pub(super) async fn seed_canary(store: &Store, canary: &str) -> Result<(), String> {
    let domain = domain_of(canary);
    let rows = format!(
        "INSERT INTO domains (domain) VALUES ('{domain}');\n\
         INSERT INTO users (email, password, quota) VALUES ('{canary}', '*', 0)"
    );
    store.seed(&rows).await
}

pub(super) async fn remove_canary(store: &Store, canary: &str) -> Result<(), String> {
    store.clear(&[domain_of(canary)]).await
}

/// What is behind the `@`.
pub(super) fn domain_of(address: &str) -> &str {
    address.rsplit('@').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_says_its_version_in_a_line_or_why_it_does_not() {
        let way = Way::Reference {
            program: "vmailspec".into(),
        };
        let said = way.version("echo ' 3.7.11'; echo and more").await;
        assert_eq!(said.as_deref(), Ok("3.7.11"));
        for line in ["echo 1; exit 3", "true", "echo no such thing >&2; exit 3"] {
            let why = way.version(line).await.unwrap_err();
            assert!(why.contains("expected a version"), "{line}: {why}");
        }
    }
}
