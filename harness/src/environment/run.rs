//! What the cases of one run share, and how a case gets its world.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Mutex;

use super::certs::{Authority, Identity};
use super::database::{Choice, Database, Store};
use super::dns::Dns;
use super::gate::{self, Gate};
use super::names::{self, HOSTNAME, LITERAL_DOMAIN, LITERAL_TRANSPORT, Names};
use super::reaper::RunFolder;
use super::sink::{self, Sink};
use super::target::{Recipe, Target};
use super::template::{self, Settings};
use super::world::{Own, World};
use super::{EnvironmentError, Options, TargetFacts, random};
use crate::plan::Case;

const LISTEN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// Holds the sinks' port for the run.
const RESERVED: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);
/// Of `vmail`, where we are root and can give files away.
const VMAIL: u32 = 5000;

/// What the cases of one run share.
#[derive(Debug)]
pub(super) struct Run {
    /// In the names of this run.
    id: String,
    pub(super) keep: bool,
    pub(super) dns: Dns,
    pub(super) canary: String,
    /// The target that cases share which have none of their own.
    pub(super) shared: Arc<Standing>,
    pub(super) database: Mutex<Option<Database>>,
    database_name: String,
    database_is_given: bool,
    seed: Vec<String>,
    identity: Identity,
    authority: Vec<u8>,
    program: PathBuf,
    wrong: Vec<String>,
    owner: (u32, u32),
    next_hop: TcpListener,
    cases: AtomicUsize,
    literal: Arc<Mutex<()>>,
    /// Last: removed when everything that writes into it is gone.
    folder: RunFolder,
}

/// A target with its tables.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) target: Target,
    pub(super) store: Store,
    pub(super) queue: PathBuf,
    pub(super) facts: TargetFacts,
}

/// Of a target that is about to be made.
struct Plan<'a> {
    folder: &'a Path,
    store: &'a Store,
    gate: Option<SocketAddr>,
    main_cf: Vec<String>,
    master_cf: Vec<(String, String, String)>,
}

/// The sources of clients and the sinks need addresses besides 127.0.0.1.
fn preflight() -> Result<(), EnvironmentError> {
    for address in [NEIGHBOUR, STRANGER, RESERVED, gate::ADDRESS] {
        TcpListener::bind((address, 0)).map_err(|error| {
            EnvironmentError::Unavailable(format!(
                "{address} cannot be used on this machine ({error}): the suite needs all of 127.0.0.0/8. \
                 Linux has it; on macOS and BSD each address is added by: sudo ifconfig lo0 alias {address} up"
            ))
        })?;
    }
    Ok(())
}

impl Run {
    pub(super) async fn start(
        options: &Options,
        say: &(dyn Fn(String) + Sync),
    ) -> Result<Self, EnvironmentError> {
        let choice = Choice::parse(&options.database)?;
        let wrong = wrong_lines(&options.wrong)?;
        preflight()?;
        let unavailable = |what: &str, why: &dyn std::fmt::Display| {
            EnvironmentError::Unavailable(format!("{what}: {why}"))
        };
        let program = match std::env::var_os("VMAILSPEC_SERVE_EXE") {
            Some(program) => program.into(),
            None => std::env::current_exe()
                .map_err(|error| unavailable("this program's own file", &error))?,
        };
        let folder = RunFolder::new(options.keep)
            .map_err(|error| unavailable("the temporary folder", &error))?;
        if options.keep {
            say(format!("everything is kept in {}", folder.path().display()));
        }
        let owner = if rustix::process::geteuid().is_root() {
            (VMAIL, VMAIL)
        } else {
            (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            )
        };
        let id = random::hex(3).map_err(|error| unavailable("/dev/urandom", &error))?;
        let authority = Authority::new().map_err(|error| unavailable("certificates", &error))?;
        let identity = authority
            .sign(HOSTNAME)
            .map_err(|error| unavailable("certificates", &error))?;
        let dns = Dns::start().map_err(|error| unavailable("name server on 127.0.0.1", &error))?;
        dns.add_host(HOSTNAME, Ipv4Addr::LOCALHOST);
        let next_hop =
            random::free_port(RESERVED.into()).and_then(|port| TcpListener::bind((RESERVED, port)));
        let next_hop = next_hop.map_err(|error| unavailable("a port for the sinks", &error))?;
        let seed = super::fixture("sql/seed.sql").map_err(|why| unavailable("the seed", &why))?;

        let image = &options.database_image;
        let database = Database::start(choice, image, folder.path(), owner.1, say).await?;
        let (name, is_given) = (database.name().to_owned(), database.is_given());
        let why = |why: String| EnvironmentError::Unavailable(why);
        let store = database.shared(owner.1).await.map_err(why)?;
        let canary = format!("canary@canary.{id}.test");
        let shared = folder.path().join("shared");
        let plan = Plan {
            folder: &shared,
            store: &store,
            gate: None,
            main_cf: wrong.clone(),
            master_cf: Vec::new(),
        };
        let making = Making {
            identity: &identity,
            authority: &authority.der(),
            program: &program,
            dns: &dns,
            next_hop: &next_hop,
            owner,
        };
        seed_canary(&store, &canary).await.map_err(why)?;
        let made = making.target(plan).await;
        let (target, facts) = match made {
            Ok(made) => made,
            Err(why) => {
                // A database that was given has our canary in it.
                let _ = remove_canary(&store, &canary).await;
                return Err(EnvironmentError::Unavailable(why));
            }
        };
        let shared = Arc::new(Standing {
            target,
            store,
            queue: shared.join("queue"),
            facts,
        });
        Ok(Self {
            id,
            keep: options.keep,
            dns,
            canary,
            shared,
            database: Mutex::new(Some(database)),
            database_name: name,
            database_is_given: is_given,
            seed: names::statements(seed),
            identity,
            authority: authority.der(),
            program,
            wrong,
            owner,
            next_hop,
            cases: AtomicUsize::new(0),
            literal: Arc::default(),
            folder,
        })
    }

    pub(super) fn database_name(&self) -> &str {
        &self.database_name
    }

    /// Names, rows, sink and target of one case.
    pub(super) async fn world(self: &Arc<Self>, case: &Case) -> Result<World, String> {
        let number = self.cases.fetch_add(1, Ordering::Relaxed);
        let literal = if case.literal_names {
            Some(Arc::clone(&self.literal).lock_owned().await)
        } else {
            None
        };
        let own_names = Names::new(number, &self.id, case.literal_names);
        let address =
            sink::address(number).ok_or("more cases than there are addresses for sinks")?;
        let port = self.next_hop_port();
        let sink = Sink::start(
            SocketAddr::new(address.into(), port),
            &format!("sink.{}.test", self.id),
        )
        .map_err(|error| format!("sink {address}:{port}: {error}"))?;
        let names = own_names.table(address, port);

        let (standing, own) = if case.own_target {
            let (standing, own) = self.own_target(number, case, &names).await?;
            (Arc::new(standing), Some(own))
        } else {
            // Ended by another case's doing: for this one it runs again.
            self.shared.target.start().await?;
            (Arc::clone(&self.shared), None)
        };
        if case.literal_names {
            self.clear_literal(&standing, &own_names).await?;
        }
        standing
            .store
            .execute(&own_names.seed(&self.seed).join(";\n"))
            .await?;
        for name in own_names.all() {
            self.dns.add(name, address);
        }
        let (log_start, crash_start) = match own {
            Some(_) => (0, 0),
            None => (standing.target.log_length(), standing.target.crashes()),
        };
        let run = Arc::clone(self);
        Ok(World {
            names,
            own_names,
            run,
            sink,
            standing,
            own,
            _literal: literal,
            log_start,
            crash_start,
        })
    }

    fn next_hop_port(&self) -> u16 {
        self.next_hop
            .local_addr()
            .map_or(0, |address| address.port())
    }

    /// The tutorial's names start without rows and without mail, whatever the case before left.
    async fn clear_literal(&self, standing: &Standing, names: &Names) -> Result<(), String> {
        if self.database_is_given {
            let mut rows = 0;
            for select in [
                format!("SELECT domain FROM domains WHERE domain = '{LITERAL_DOMAIN}'"),
                format!("SELECT email FROM users WHERE email LIKE '%@{LITERAL_DOMAIN}'"),
                format!("SELECT email FROM forwardings WHERE email LIKE '%@{LITERAL_DOMAIN}'"),
                format!("SELECT domain FROM transport WHERE domain = '{LITERAL_TRANSPORT}'"),
            ] {
                rows += standing.store.count(&select).await?;
            }
            if rows > 0 {
                return Err(format!(
                    "the database that was given has rows for {LITERAL_DOMAIN} or {LITERAL_TRANSPORT} already, and \
                     somebody else's rows are not touched: remove them, or choose another --database"
                ));
            }
        } else {
            standing.store.execute(&names.removal().join(";\n")).await?;
        }
        if let Some(root) = &standing.facts.maildir_root {
            super::world::remove(&root.join(LITERAL_DOMAIN)).await?;
        }
        Ok(())
    }

    async fn own_target(
        &self,
        number: usize,
        case: &Case,
        names: &std::collections::BTreeMap<String, String>,
    ) -> Result<(Standing, Own), String> {
        let store = {
            let database = self.database.lock().await;
            database
                .as_ref()
                .ok_or("the run has ended")?
                .own(self.owner.1)
                .await?
        };
        let gate = match &store {
            Store::Mysql { host, .. } => {
                Some(Gate::open(host).map_err(|error| format!("gate before {host}: {error}"))?)
            }
            Store::Sqlite(_) => None,
        };
        if !self.database_is_given {
            seed_canary(&store, &self.canary).await?;
        }
        let header = &case.scenario.header;
        let value = |text: &str| names::expand(text, &[&case.bindings, names]);
        let mut main_cf = self.wrong.clone();
        main_cf.extend(
            header
                .main_cf
                .iter()
                .map(|(name, text)| format!("{name} = {}", value(&text.raw))),
        );
        let options = header.master_cf.iter();
        let master_cf = options
            .map(|(service, name, text)| (service.clone(), name.clone(), value(&text.raw)))
            .collect();
        let folder = self.folder.path().join(format!("case-{number}"));
        let plan = Plan {
            folder: &folder,
            store: &store,
            gate: gate.as_ref().map(Gate::address),
            main_cf,
            master_cf,
        };
        let made = self.making().target(plan).await;
        let (target, facts) = match made {
            Ok(made) => made,
            Err(why) => {
                // The reason is worth more than a failure to tidy up.
                let _ = store.dispose().await;
                return Err(why);
            }
        };
        let own = Own {
            gate: gate.map(Mutex::new),
            folder: folder.clone(),
        };
        Ok((
            Standing {
                target,
                store,
                queue: folder.join("queue"),
                facts,
            },
            own,
        ))
    }

    fn making(&self) -> Making<'_> {
        Making {
            identity: &self.identity,
            authority: &self.authority,
            program: &self.program,
            dns: &self.dns,
            next_hop: &self.next_hop,
            owner: self.owner,
        }
    }

    /// Ends everything in order.
    pub(super) async fn stop(&self) {
        self.shared.target.stop().await;
        if self.database_is_given {
            // Said nowhere: who gave the database sees one unused mailbox.
            let _ = remove_canary(&self.shared.store, &self.canary).await;
        }
        if let Store::Mysql { mysql, .. } = &self.shared.store {
            mysql.disconnect().await;
        }
        if let Some(database) = self.database.lock().await.take() {
            database.stop().await;
        }
    }
}

/// What is needed to make a target.
struct Making<'a> {
    identity: &'a Identity,
    authority: &'a [u8],
    program: &'a Path,
    dns: &'a Dns,
    next_hop: &'a TcpListener,
    owner: (u32, u32),
}

impl Making<'_> {
    /// Writes the configuration and starts the server.
    async fn target(&self, plan: Plan<'_>) -> Result<(Target, TargetFacts), String> {
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
        let next_hop = self
            .next_hop
            .local_addr()
            .map_err(|error| error.to_string())?
            .port();
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
                owner: self.owner,
                tables: plan.store.tables(plan.gate),
                main_cf: plan.main_cf.clone(),
                master_cf: plan.master_cf.clone(),
            };
            template::write(&settings, self.identity)?;
            let target = Target::new(Recipe {
                program: self.program.to_owned(),
                config: settings.config,
                resolver: self.dns.address(),
            });
            match target.start().await {
                Ok(()) => return Ok((target, self.facts(smtp, smtps, mailboxes))),
                Err(said) => why = said,
            }
            // Somebody may have taken a port in between; any other reason stays one.
            if !why.contains("in use") {
                break;
            }
        }
        Err(why)
    }

    fn facts(&self, plain: SocketAddr, smtps: SocketAddr, mailboxes: PathBuf) -> TargetFacts {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        TargetFacts {
            plain,
            smtps,
            ca: self.authority.to_vec(),
            hostname: HOSTNAME.to_owned(),
            stranger: STRANGER.into(),
            neighbour: NEIGHBOUR.into(),
            maildir_root: Some(mailboxes),
            owner: Some(self.owner),
            capabilities: words(&[
                "quota",
                "faults",
                "maildir",
                "queue",
                "owner",
                "own-target",
                "sink",
                "database",
            ]),
            profiles: words(&["tutorial", "vda"]),
        }
    }
}

async fn seed_canary(store: &Store, canary: &str) -> Result<(), String> {
    let domain = canary.rsplit('@').next().unwrap_or_default();
    let rows = format!(
        "INSERT INTO domains (domain) VALUES ('{domain}');\n\
         INSERT INTO users (email, password, quota) VALUES ('{canary}', '*', 0)"
    );
    store.execute(&rows).await
}

async fn remove_canary(store: &Store, canary: &str) -> Result<(), String> {
    let domain = canary.rsplit('@').next().unwrap_or_default();
    store.execute(&format!("DELETE FROM domains WHERE domain = '{domain}';\nDELETE FROM users WHERE email = '{canary}'")).await
}

/// The lines of `--wrong` files.
fn wrong_lines(files: &[PathBuf]) -> Result<Vec<String>, EnvironmentError> {
    let mut lines = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).map_err(|error| {
            EnvironmentError::Usage(format!("--wrong {}: {error}", file.display()))
        })?;
        lines.extend(text.lines().map(str::to_owned));
    }
    Ok(lines)
}
