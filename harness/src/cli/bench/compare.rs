//! `vmailspec bench --against FILE`: the reference server and another one, measured side by side.
//!
//! Both run at the same time on the same database and the same disk, and are loaded in turn
//! (A B, B A, A B ...), so that what else the machine does falls on both; what counts is the ratio
//! within each pair. Nothing is judged here: the figures are printed, with what they were taken on.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::load::{Load, Session};
use super::machine;
use crate::cli::{Bench, Ended, Failed, complain, print};
use crate::environment::database::{Choice, Database, Store};
use crate::environment::reaper::RunFolder;
use crate::environment::template::Tables;
use crate::environment::{Description, Environment, Options};
use crate::exit_code::ExitCode;

/// A message, without the dot.
pub(super) const MESSAGE_OCTETS: usize = 4096;
const SESSIONS: usize = 20;
const SMALL: usize = 10_000;
/// Mailboxes that get the mail in turn.
const MAILBOXES: usize = 200;
/// Sessions at which memory is compared, and which are active beside idle ones.
const CROWD: usize = 500;
const FSYNC_LOOP: Duration = Duration::from_secs(3);
const DOMAIN: &str = "bench.test";
/// Rows of one INSERT: what a server takes by default.
const ROWS_AT_ONCE: usize = 5000;

/// One figure that is taken of each server, in messages a second.
struct Measure {
    name: String,
    sessions: usize,
    messages: usize,
    large: bool,
    recipients: Vec<String>,
    /// The index of the measure that it is compared with.
    beside: Option<usize>,
}

/// One server, twice: with few rows in `users`, and with many.
struct Server {
    name: String,
    small: Environment,
    large: Environment,
}

pub(super) async fn compare(file: &Path, bench: &Bench) -> Ended {
    let usage = |text: String| Failed::new(ExitCode::Usage, text);
    let unable = |why: String| Failed::new(ExitCode::Environment, why);
    let reference = Description::reference().map_err(|why| Failed::new(ExitCode::Defect, why))?;
    let descriptions = [reference, Description::read(file).map_err(usage)?];
    let choice = Choice::parse(&bench.database)?;
    if !matches!(choice, Choice::Docker | Choice::Local) {
        let odd = &bench.database;
        return Err(usage(format!("--database {odd}: expected docker or local")));
    }
    raise_file_limit();
    let folder = RunFolder::new(false).map_err(|error| unable(error.to_string()))?;
    let image = &bench.image.database_image;
    let database =
        Database::start(choice, image, folder.path(), 0, &|fact| complain(&fact)).await?;
    let small = stored(&database, SMALL).await.map_err(unable)?;
    let large = stored(&database, bench.rows).await.map_err(unable)?;
    print(&format!(
        "machine    {}\ndatabase   {}\nload       {MESSAGE_OCTETS} octets, one recipient of {MAILBOXES} in turn, Maildir, from the first \
         connection to the last file in new/\n           {} runs, the two servers in turn; medians, ratios of pairs with their range\n\n",
        machine::described(folder.path()),
        database.name(),
        bench.runs,
    ));
    if bench.wants("speed") {
        speed(&descriptions, bench, &small, &large).await?;
    }
    if bench.wants("fsync") {
        fsync(folder.path()).map_err(|error| unable(error.to_string()))?;
    }
    if bench.wants("memory") {
        for description in &descriptions {
            let crowd = crowd(description, &small, 0).await?;
            memory(&crowd).await.map_err(unable)?;
            crowd.stop().await;
        }
    }
    if bench.wants("idle") {
        let crowd = crowd(&descriptions[0], &small, bench.idle).await?;
        idle(&crowd, bench.idle).await.map_err(unable)?;
        crowd.stop().await;
    }
    for store in [small, large] {
        store.dispose().await.map_err(unable)?;
    }
    database.stop().await;
    Ok(ExitCode::Held)
}

impl Bench {
    fn wants(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == part)
    }
}

/// A database with the four tables and so many rows in `users`.
async fn stored(database: &Database, rows: usize) -> Result<Store, String> {
    let store = database.own(0).await?;
    if let Some(Tables::Mysql { user, database, .. }) = store.tables(None) {
        // The environments write their canaries by the target's own account. Of several grants whose
        // patterns fit, MySQL looks at the most exact one only; `_` alone is a pattern.
        let database = database.replace('_', "\\_");
        let grant = format!("GRANT ALL ON `{database}`.* TO '{user}'@'%'");
        store.execute(&grant).await?;
    }
    let domain = format!("INSERT INTO domains (domain) VALUES ('{DOMAIN}')");
    store.execute(&domain).await?;
    let mut insert = String::new();
    for row in 0..rows {
        insert.push_str(if insert.is_empty() {
            "INSERT INTO users (email, password, quota) VALUES "
        } else {
            ","
        });
        let _ = write!(insert, "('{}','*',0)", address(row));
        if (row + 1) % ROWS_AT_ONCE == 0 || row + 1 == rows {
            store.execute(&std::mem::take(&mut insert)).await?;
        }
    }
    Ok(store)
}

fn address(row: usize) -> String {
    format!("u{row}@{DOMAIN}")
}

/// An environment on these rows; `more` are lines of its main.cf.
async fn start(
    description: &Description,
    store: &Store,
    more: &[String],
) -> Result<Environment, Failed> {
    let mut target = description.clone();
    target.main_cf.extend_from_slice(more);
    let database = match store.tables(None) {
        Some(Tables::Mysql {
            host,
            user,
            password,
            database,
        }) => format!("mysql://{user}:{password}@{host}/{database}"),
        Some(Tables::Sqlite(_)) | None => String::new(),
    };
    let options = Options {
        target,
        database,
        database_image: String::new(),
        keep: false,
        intrusive: true,
        run: String::new(),
        wrong: Vec::new(),
    };
    Ok(Environment::start(&options, &|fact| complain(&fact)).await?)
}

/// Messages a second of both servers, by each measure.
async fn speed(
    descriptions: &[Description; 2],
    bench: &Bench,
    small: &Store,
    large: &Store,
) -> Result<(), Failed> {
    let unable = |why: String| Failed::new(ExitCode::Environment, why);
    let mut servers = Vec::new();
    for description in descriptions {
        servers.push(Server {
            name: description.name.clone(),
            small: start(description, small, &[]).await?,
            large: start(description, large, &[]).await?,
        });
    }
    let measures = measures(bench);
    for server in &servers {
        server.prepare(bench.mailbox).await.map_err(unable)?;
    }
    // By measure, server and run.
    let mut figures = vec![[Vec::new(), Vec::new()]; measures.len()];
    let mut work = figures.clone();
    for run in 0..bench.runs as usize {
        for (at, measure) in measures.iter().enumerate() {
            for turn in 0..2 {
                let which = (run + turn) % 2;
                let (rate, cpu) = servers[which].measure(measure).await.map_err(unable)?;
                figures[at][which].push(rate);
                work[at][which].push(cpu);
            }
        }
        complain(&format!("run {} of {} is done", run + 1, bench.runs));
    }
    for (at, server) in servers.iter().enumerate() {
        print(&format!("{}: {}\n", ["A", "B"][at], server.name));
    }
    print(&format!(
        "\n{:<44}{:>9}{:>9}   A/B\n",
        "messages/s", "A", "B"
    ));
    for (measure, [a, b]) in measures.iter().zip(&figures) {
        let (one, other) = (median(a), median(b));
        print(&format!(
            "{:<44}{one:>9.0}{other:>9.0}   {}\n",
            measure.name,
            ratio(a, b)
        ));
    }
    print("\nits own time on processors, ms a message (without the database's)\n");
    for (measure, [a, b]) in measures.iter().zip(&work) {
        let (name, one, other) = (&measure.name, median(a), median(b));
        print(&format!(
            "{name:<44}{one:>9.3}{other:>9.3}   {}\n",
            ratio(a, b)
        ));
    }
    print("\nthe same server under one condition against another\n");
    for (at, measure) in measures.iter().enumerate() {
        let Some(beside) = measure.beside else {
            continue;
        };
        let what = format!("{} / {}", measure.name, measures[beside].name);
        let of = |which: usize| ratio(&figures[at][which], &figures[beside][which]);
        print(&format!("{what}: A {}, B {}\n", of(0), of(1)));
    }
    for server in servers {
        server.small.stop().await;
        server.large.stop().await;
    }
    Ok(())
}

fn measures(bench: &Bench) -> Vec<Measure> {
    let many = || (0..MAILBOXES).map(address).collect();
    let (messages, rows, mailbox) = (bench.messages, bench.rows, bench.mailbox);
    let measure = |name: String, recipients: Vec<String>, beside| Measure {
        name,
        sessions: SESSIONS,
        messages,
        large: false,
        recipients,
        beside,
    };
    vec![
        measure(format!("{SESSIONS} sessions, {SMALL} rows"), many(), None),
        Measure {
            large: true,
            ..measure(format!("{SESSIONS} sessions, {rows} rows"), many(), Some(0))
        },
        Measure {
            sessions: 1,
            messages: messages.div_ceil(10),
            ..measure("one session".to_owned(), many(), None)
        },
        measure(
            "one Maildir, empty at first".to_owned(),
            vec![address(MAILBOXES)],
            None,
        ),
        measure(
            format!("one Maildir of {mailbox}"),
            vec![address(MAILBOXES + 1)],
            Some(3),
        ),
    ]
}

impl Server {
    /// Messages a second, and milliseconds of processors for each.
    async fn measure(&self, measure: &Measure) -> Result<(f64, f64), String> {
        let environment = if measure.large {
            &self.large
        } else {
            &self.small
        };
        let (recipients, messages) = (measure.recipients.clone(), measure.messages as f64);
        let load = load(environment, measure.sessions, measure.messages, recipients);
        let process = environment.target_process().await?;
        // What was written before, a full Maildir first of all, is not to be paid for now.
        rustix::fs::sync();
        let before = machine::processor_time(process)?;
        let taken = load.run().await?;
        let worked = machine::processor_time(process)?.saturating_sub(before);
        let rate = messages / taken.as_secs_f64();
        Ok((rate, worked.as_secs_f64() * 1000.0 / messages))
    }

    /// Makes the mailboxes by a first message each, and fills the one that is to be full.
    async fn prepare(&self, mailbox: usize) -> Result<(), String> {
        for environment in [&self.small, &self.large] {
            let all: Vec<_> = (0..MAILBOXES + 2).map(address).collect();
            load(environment, SESSIONS, all.len(), all).run().await?;
        }
        let full = self.small.facts().maildir_root.unwrap_or_default();
        let full = full.join(DOMAIN).join(format!("u{}/new", MAILBOXES + 1));
        let made = tokio::task::spawn_blocking(move || {
            (0..mailbox).try_for_each(|number| {
                let name = format!("1700000000.V1I{number:x}M{number}.bench,S=6");
                std::fs::write(full.join(name), "full.\n")
            })
        });
        let made = made.await.map_err(|error| error.to_string())?;
        made.map_err(|error| format!("the full Maildir: {error}"))
    }
}

fn load(
    environment: &Environment,
    sessions: usize,
    messages: usize,
    recipients: Vec<String>,
) -> Load {
    let facts = environment.facts();
    Load {
        source: facts.stranger,
        server: facts.plain,
        maildirs: facts.maildir_root.unwrap_or_default(),
        sessions,
        messages,
        recipients,
    }
}

/// `6.3 (5.8-7.0)`: the median of the ratios of pairs, and their range.
fn ratio(one: &[f64], other: &[f64]) -> String {
    let mut ratios: Vec<f64> = one
        .iter()
        .zip(other)
        .map(|(one, other)| one / other)
        .collect();
    ratios.sort_by(f64::total_cmp);
    let (first, last) = (ratios.first(), ratios.last());
    let middle = median(&ratios);
    match (first, last) {
        (Some(first), Some(last)) => format!("{middle:.2} ({first:.2}-{last:.2})"),
        _ => String::new(),
    }
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn fsync(folder: &Path) -> std::io::Result<()> {
    let folder = folder.join("fsync");
    std::fs::create_dir(&folder)?;
    let rate = |writers| machine::fsync_loop(&folder, MESSAGE_OCTETS, writers, FSYNC_LOOP);
    let (one, many) = (rate(1)?, rate(SESSIONS)?);
    print(&format!(
        "\nfsync loop (a file of {MESSAGE_OCTETS} octets and its folder, each flushed), messages/s: \
         {one:.0} one by one, {many:.0} by {SESSIONS} side by side\n"
    ));
    Ok(())
}

/// A server that takes so many sessions, and the crowd's beside them.
async fn crowd(
    description: &Description,
    store: &Store,
    idle: usize,
) -> Result<Environment, Failed> {
    let mut more = vec![format!("default_process_limit = {}", CROWD + 100)];
    if description.start == crate::environment::description::Start::Reference {
        more.push(format!("vmaild_session_limit = {}", CROWD + idle + 100));
    }
    start(description, store, &more).await
}

/// Memory without a session, and with a crowd that has said EHLO.
async fn memory(environment: &Environment) -> Result<(), String> {
    let process = environment.target_process().await?;
    let (_, before) = machine::memory(process)?;
    let sessions = open(environment, CROWD).await?;
    let (processes, then) = machine::memory(process)?;
    let mb = |kib: u64| kib as f64 / 1024.0;
    print(&format!(
        "memory of {}: {:.1} MiB with no session, {:.1} MiB with {CROWD} ({processes} processes, sum of PSS)\n",
        environment.target_name(),
        mb(before),
        mb(then)
    ));
    drop(sessions);
    Ok(())
}

/// Many idle sessions beside active ones: none of them is dropped, no message is lost.
async fn idle(environment: &Environment, idle: usize) -> Result<(), String> {
    let process = environment.target_process().await?;
    let mut idlers = open(environment, idle).await?;
    let (_, resting) = machine::memory(process)?;
    let recipients = (0..MAILBOXES).map(address).collect();
    let mut load = load(environment, CROWD, CROWD * 4, recipients);
    load.source = environment.facts().neighbour;
    let taken = load.run().await?;
    let (_, after) = machine::memory(process)?;
    let mut dropped = 0;
    for session in &mut idlers {
        dropped += usize::from(session.said(b"NOOP\r\n", &["250"]).await.is_err());
    }
    let mb = |kib: u64| kib as f64 / 1024.0;
    print(&format!(
        "{idle} idle sessions: {:.1} MiB; {CROWD} active ones beside them: {} messages in {:.1} s, all delivered, \
         {:.1} MiB after it; idle sessions that were dropped: {dropped}\n",
        mb(resting),
        load.messages,
        taken.as_secs_f64(),
        mb(after)
    ));
    Ok(())
}

/// From inside mynetworks: how many sessions others may have is limited.
async fn open(environment: &Environment, count: usize) -> Result<Vec<Session>, String> {
    let facts = environment.facts();
    let mut sessions = Vec::new();
    for _ in 0..count {
        sessions.push(Session::open(facts.neighbour, facts.plain).await?);
    }
    Ok(sessions)
}

/// Each session takes a file descriptor here, too.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    // Where it does not suffice, opening sessions says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_ratio_is_the_median_of_pairs_with_its_range() {
        let ratio = super::ratio(&[10.0, 30.0, 40.0], &[10.0, 10.0, 20.0]);
        assert_eq!(ratio, "2.00 (1.00-3.00)");
    }
}
