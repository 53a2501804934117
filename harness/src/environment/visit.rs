//! A run against a server that runs already: what of it can be reached is found, nothing is started.
//!
//! It promises: what does not fit the description is found by the checks before the first case; the
//! rows and the mail of the run are removed again; what cannot be removed is said before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::RwLock;

use super::checks::{self, Doors};
use super::database::{Choice, Database, Store};
use super::dns::Dns;
use super::manners::{Manners, Pace};
use super::mirror::{self, Mirror};
use super::outside::{Outside, Rows};
use super::queue::Queue;
use super::reaper::RunFolder;
use super::run::{NextHops, Run};
use super::secrets::Secrets;
use super::server::Server;
use super::standing::{FOREIGN, Standing, domain_of, remove_canary, seed_canary};
use super::{EnvironmentError, Options, TargetFacts, names, random};
use crate::names::TOKEN_FIELD;
use crate::plan::needs::{ACCOUNT, NEIGHBOUR, OWNER, PORT_25, PORT_465, ROWS};

/// How a polite client comes: so many cases at once, and connections so far apart.
const POLITE_JOBS: usize = 2;
const POLITE_PACE: Duration = Duration::from_millis(250);

/// Finds everything and checks it; the first thing that is wrong ends the run.
pub(super) async fn visit(
    options: &Options,
    outside: &Outside,
    say: &(dyn Fn(String) + Sync),
) -> Result<Run, EnvironmentError> {
    let (findings, doors) = checks::doors(outside).await;
    checks::first_problem(&findings)?;
    let run = enter(options, outside, doors, say).await?;
    if let Err(problem) = checks::first_problem(&checks::house(&run).await) {
        run.stop().await;
        return Err(problem);
    }
    Ok(run)
}

/// Logs in to its database, seeds the canary.
pub(super) async fn enter(
    options: &Options,
    outside: &Outside,
    doors: Doors,
    say: &(dyn Fn(String) + Sync),
) -> Result<Run, EnvironmentError> {
    if !options.wrong.is_empty() {
        return Err(EnvironmentError::Usage(
            "--wrong *.cf: a server that runs already is not configured by vmailspec".to_owned(),
        ));
    }
    let (database, store, database_name) = rows(options, outside).await?;
    let folder = RunFolder::new(options.keep)
        .map_err(|error| unavailable("the temporary folder", &error))?;
    let id = random::hex(3).map_err(|error| unavailable("/dev/urandom", &error))?;
    let name_server = outside
        .next_hop
        .as_ref()
        .map(|next_hop| next_hop.name_server);
    let dns = Dns::start(name_server).map_err(|error| match name_server {
        Some(at) => unavailable(
            "sink",
            &format!("name_server = \"{at}\": {error}: expected an address of this machine and a free port"),
        ),
        None => unavailable("a name server on 127.0.0.1", &error),
    })?;
    let next_hop = if let Some(next_hop) = &outside.next_hop {
        NextHops::Given(next_hop.port, next_hop.address)
    } else {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        NextHops::Held(held.map_err(|error| unavailable("a port for sinks", &error))?)
    };
    let canary = match &outside.rows {
        Rows::Account(account) => account.address.clone(),
        _ => format!("canary@canary.{id}.test"),
    };
    let seed = super::fixture("sql/seed.sql").map_err(|why| unavailable("the seed", &why))?;
    let mirror = far_maildirs(outside, folder.path())?;
    if let Some(mirror) = &mirror {
        let (local, domain) = canary.split_once('@').unwrap_or_default();
        // Where somebody lives, nobody else's mailbox is looked into.
        let folder = match &outside.rows {
            Rows::Account(_) => format!("{domain}/{local}"),
            _ => domain.to_owned(),
        };
        if !mirror::is_plain(&folder) {
            return Err(unavailable(
                "maildirs",
                &format!("{folder}: no name for a shell"),
            ));
        }
        mirror.add(&[&folder]);
    }
    let hostname = doors.name.clone().filter(|_| !outside.is_named);
    let facts = facts(options, outside, &doors, &canary, mirror.as_ref());
    notes(options, outside, say);
    if store.knows_names() {
        seed_canary(&store, &canary).await.map_err(|why| match &store {
            Store::Seeded(_) => unavailable(checks::SEED, &why),
            _ => unavailable(
                checks::ROWS,
                &format!("no row can be written ({why}): the user of the URL needs INSERT, UPDATE, DELETE and SELECT on the four tables"),
            ),
        })?;
    }
    let standing = Standing {
        target: Server::Outside {
            log: outside.log.clone(),
        },
        store,
        queue: Queue {
            folder: outside.queue.clone().unwrap_or_default(),
            ending: options.target.queue_files.clone().unwrap_or_default(),
            delete: outside.queue_delete.clone(),
        },
        mirror,
        facts,
    };
    Ok(Run {
        id,
        tokens: options.run.clone(),
        keep: options.keep,
        dns,
        canary,
        shared: Arc::new(standing),
        database: RwLock::new(database),
        database_name,
        database_is_given: true,
        seed: names::statements(seed),
        description: options.target.clone(),
        makes: None,
        hostname: hostname.unwrap_or_else(|| outside.hostname.clone()),
        owner: outside.owner.unwrap_or_default(),
        next_hop,
        cases: AtomicUsize::new(0),
        literal: Arc::default(),
        folder,
    })
}

fn unavailable(what: &str, why: &dyn std::fmt::Display) -> EnvironmentError {
    EnvironmentError::Unavailable(format!("{what}: {why}"))
}

async fn rows(
    options: &Options,
    outside: &Outside,
) -> Result<(Option<Database>, Store, String), EnvironmentError> {
    let given = options.database != "auto";
    let url = match &outside.rows {
        Rows::Database(_) if given => options.database.clone(),
        Rows::Database(Some(url)) => url.0.clone(),
        Rows::Database(None) => {
            return Err(EnvironmentError::Usage(
                "`database` is declared: expected [database] with url = \"mysql://…\", or --database mysql://…"
                    .to_owned(),
            ));
        }
        _ if given => {
            return Err(EnvironmentError::Usage(
                "--database: the target's description does not declare the capability database"
                    .to_owned(),
            ));
        }
        Rows::Command(command) => {
            let name = format!("rows brought by `{}`", command.join(" "));
            return Ok((None, Store::Seeded(command.clone()), name));
        }
        Rows::Account(account) => {
            return Ok((
                None,
                Store::None,
                format!("no database, the account {}", account.address),
            ));
        }
        Rows::None => return Ok((None, Store::None, "no database and no account".to_owned())),
    };
    let choice = Choice::parse(&url)?;
    if !matches!(choice, Choice::Url(_)) {
        return Err(EnvironmentError::Usage(format!(
            "--database {url}: the database of a server that runs already is a mysql:// URL"
        )));
    }
    let database = Database::start(choice, "", Path::new(""), 0, &|_| {}).await;
    let database = database.map_err(|error| match error {
        // Where it was said matters more than how.
        EnvironmentError::Unavailable(why) if !given => {
            let why = why.strip_prefix("--database ").unwrap_or(&why);
            unavailable(checks::ROWS, &why)
        }
        other => other,
    })?;
    let store = database
        .shared(0)
        .await
        .map_err(EnvironmentError::Unavailable)?;
    let name = database.name().to_owned();
    Ok((Some(database), store, name))
}

fn far_maildirs(outside: &Outside, folder: &Path) -> Result<Option<Mirror>, EnvironmentError> {
    let Some(maildirs) = &outside.maildirs else {
        return Ok(None);
    };
    let Some(command) = &maildirs.command else {
        return Ok(None);
    };
    let here = folder.join("mirror");
    std::fs::create_dir(&here)
        .map_err(|error| EnvironmentError::Unavailable(format!("{}: {error}", here.display())))?;
    Ok(Some(Mirror::new(command.clone(), &maildirs.path, here)))
}

fn facts(
    options: &Options,
    outside: &Outside,
    doors: &Doors,
    canary: &str,
    mirror: Option<&Mirror>,
) -> TargetFacts {
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let plain = doors.smtp.or(doors.smtps).unwrap_or(nowhere);
    let smtps = doors.smtps.unwrap_or(plain);
    // As the system chooses.
    let anywhere = if plain.is_ipv4() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    };
    let stranger = outside.stranger.unwrap_or(anywhere);
    let mut capabilities = options.target.capabilities.clone();
    let account = !matches!(outside.rows, Rows::None);
    let named = account && !matches!(outside.rows, Rows::Account(_));
    for (word, has) in [
        (PORT_25, doors.smtp.is_some()),
        (PORT_465, doors.smtps.is_some()),
        (NEIGHBOUR, outside.neighbour.is_some()),
        (ROWS, named),
        (ACCOUNT, account),
        (
            OWNER,
            named && outside.maildirs.is_some() && mirror.is_none(),
        ),
    ] {
        if has {
            capabilities.push(word.to_owned());
        }
    }
    let one_sink = outside
        .next_hop
        .as_ref()
        .is_some_and(|next| next.address.is_some());
    let maildirs = outside
        .maildirs
        .as_ref()
        .map(|maildirs| maildirs.path.clone());
    let (foreign, domains) = match &outside.rows {
        Rows::Account(account) => (
            [account.sender.clone(), account.elsewhere.clone()],
            Vec::new(),
        ),
        _ => (
            FOREIGN.map(str::to_owned),
            vec![domain_of(canary).to_owned()],
        ),
    };
    TargetFacts {
        plain,
        smtps,
        trust: outside.trust.clone(),
        hostname: outside.hostname.clone(),
        stranger,
        neighbour: outside.neighbour.unwrap_or(stranger),
        maildir_root: mirror.map(|mirror| mirror.here.clone()).or(maildirs),
        owner: outside.owner,
        capabilities,
        unavailable: Vec::new(),
        profiles: options.target.profiles.clone(),
        own_targets: 1,
        at_once: match (one_sink, options.intrusive) {
            (true, _) => Some(1),
            (false, true) => None,
            (false, false) => Some(POLITE_JOBS),
        },
        manners: Some(Manners {
            domains,
            pace: (!options.intrusive).then(|| Arc::new(Pace::new(POLITE_PACE))),
        }),
        secrets: Secrets::of(options),
        foreign,
    }
}

fn notes(options: &Options, outside: &Outside, say: &(dyn Fn(String) + Sync)) {
    if options.intrusive {
        say("intrusive: everything is tried, for --intrusive says so".to_owned());
    } else {
        say(format!(
            "polite: {POLITE_JOBS} cases at once, {} connections a second, and nothing that clients are banned for (--intrusive opens the rest)",
            1000 / POLITE_PACE.as_millis()
        ));
    }
    if outside.maildirs.is_none() {
        say("no message is followed to its end: that needs maildir".to_owned());
    }
    if matches!(outside.trust, crate::wire::Trust::Any) {
        say("any certificate is taken for the server's".to_owned());
    }
    if let (Rows::Account(account), None) = (&outside.rows, &outside.maildirs) {
        say(format!(
            "messages to {} stay there: vmailspec cannot reach its mailbox; each has a field {TOKEN_FIELD}: {}-…",
            account.address, options.run
        ));
    }
}

/// Removes what is not one case's.
pub(super) async fn leave(run: &Run) {
    let store = &run.shared.store;
    if store.knows_names() {
        // Who let us in sees one unused mailbox at the worst.
        let _ = remove_canary(store, &run.canary).await;
    }
    let domain = domain_of(&run.canary);
    match (&run.shared.mirror, &run.shared.facts.maildir_root) {
        (Some(mirror), _) if store.knows_names() => {
            let _ = mirror.remove(&[domain]).await;
        }
        (None, Some(root)) if store.knows_names() => {
            let _ = super::world::remove(&root.join(domain)).await;
        }
        (Some(mirror), _) if run.account().is_some() => {
            let local = run.canary.split('@').next().unwrap_or_default();
            let token = format!("{TOKEN_FIELD}: {}-", run.tokens);
            let _ = mirror.remove_with(domain, local, &token).await;
        }
        (None, Some(root)) => {
            if let Some(account) = run.account() {
                let local = account.address.split('@').next().unwrap_or_default();
                remove_ours(&root.join(domain).join(local), &run.tokens);
            }
        }
        _ => {}
    }
}

/// Removes this run's messages from a mailbox in which somebody lives.
fn remove_ours(mailbox: &Path, run: &str) {
    let token = format!("{TOKEN_FIELD}: {run}-");
    for sub in ["new", "cur"] {
        for path in crate::probe::maildir::files(&mailbox.join(sub)) {
            let ours = std::fs::read(&path)
                .is_ok_and(|content| String::from_utf8_lossy(&content).contains(&token));
            if ours {
                let _ = std::fs::remove_file(&path);
            }
        }
    }
}
