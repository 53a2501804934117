//! Runs cases side by side and tells what became of each.
//!
//! It promises: at most so many at once, cases with a target of their own fewer, cases with literal
//! names one after another; none takes longer than its limit; every world that was made is
//! disposed of, also after Ctrl-C; a defect in one case is told as one and stops no other.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::driver::connection::{Connection, Peer};
use crate::driver::stage::{Scene, Stage};
use crate::driver::{ClauseSeen, Journal, Outcome, drive};
use crate::environment::{Environment, TargetFacts, World};
use crate::event::{CaseResult, ClauseResult, Event, Failure, Verdict};
use crate::known::Known;
use crate::names::Tokens;
use crate::plan::{Case, ROWS, clauses};
use crate::scenario::{Clause, Span, expand};
use crate::verdict::{Seen, verdict};
use crate::wire::Heard;
use crate::wrong::Wrong;

/// The limit of a case, and of one that says `slow`.
const LIMIT: Duration = Duration::from_mins(1);
const SLOW_LIMIT: Duration = Duration::from_mins(5);
/// What a case may need beyond its limit to come to its end.
const GRACE: Duration = Duration::from_secs(30);

/// How to run.
#[derive(Debug)]
pub struct Settings {
    /// Cases at once.
    pub jobs: usize,
    /// A SHOULD that is not followed is broken.
    pub strict: bool,
    /// Known failures.
    pub known: Known,
    /// What breaks the wire.
    pub wrong: Option<Wrong>,
    /// The run's name, the beginning of every token.
    pub run: String,
    /// No case begins behind the first broken one; whoever hears of that one ends the run.
    pub fail_fast: bool,
}

/// Why the relay cases of this run cannot be judged; `None`: they can.
pub async fn vantage(facts: &TargetFacts) -> Option<String> {
    let journal = Journal::new(Duration::from_secs(20));
    let (address, entry) = facts.way_in();
    let peer = Peer::new(facts.clone(), facts.stranger, address, entry);
    let [from, to] = &facts.foreign;
    let asked = async {
        let mut connection = Connection::open(peer, 0, &journal).await?;
        connection.greet(&format!("client.{from}")).await?;
        connection
            .ask(&format!("MAIL FROM:<vantage@{from}>"), 250)
            .await?;
        connection
            .send(
                format!("RCPT TO:<nobody@{to}>\r\n").as_bytes(),
                Span::default(),
            )
            .await?;
        let heard = connection.hear(Duration::from_secs(10)).await;
        connection.close().await;
        Ok::<Heard, String>(heard)
    };
    match asked.await {
        Ok(Heard::Reply(reply)) if matches!(reply.class(), 4 | 5) => None,
        Ok(Heard::Reply(reply)) => Some(format!(
            "the target takes {} for a neighbour: it answered a stranger's mail for a foreign \
             domain {}",
            facts.stranger,
            reply.shown()
        )),
        Ok(_) => Some("the target did not answer a stranger's mail for a foreign domain".into()),
        Err(why) => Some(format!("no stranger could speak with the target: {why}")),
    }
}

/// How long a new target may take until its tables answer.
const TABLES: Duration = Duration::from_secs(20);

/// Waits until a target of a case's own has its tables: it asks them first when the first recipient
/// comes, and on a busy machine its login to the database takes longer than a lookup may. What a
/// target answers for good is its own business.
async fn tables_answer(world: &World) {
    let facts = world.facts();
    let recipient = format!("RCPT TO:<{}>\r\n", world.canary_mailbox());
    let deadline = Instant::now() + TABLES;
    while Instant::now() < deadline {
        let journal = Journal::new(TABLES);
        let (address, entry) = facts.way_in();
        let peer = Peer::new(facts.clone(), facts.neighbour, address, entry);
        let asked = async {
            let mut connection = Connection::open(peer, 0, &journal).await?;
            connection.greet("ready.example").await?;
            connection.ask("MAIL FROM:<>", 250).await?;
            connection
                .send(recipient.as_bytes(), Span::default())
                .await?;
            let heard = connection.hear(Duration::from_secs(10)).await;
            let _ = connection.ask("QUIT", 221).await;
            connection.close().await;
            Ok::<Heard, String>(heard)
        };
        match asked.await {
            Ok(Heard::Reply(reply)) if reply.class() == 4 => {}
            _ => return,
        }
    }
}

/// What all cases share.
#[derive(Debug)]
struct Shared {
    environment: Arc<Environment>,
    settings: Settings,
    facts: TargetFacts,
    vantage: Option<String>,
    jobs: Semaphore,
    own: Semaphore,
    literal: Mutex<()>,
    /// With `fail_fast`: a case is broken.
    broken: AtomicBool,
    stop: watch::Receiver<bool>,
    events: mpsc::UnboundedSender<Event>,
}

/// Runs all cases; `stop` turning true ends the run early.
pub async fn run(
    environment: Arc<Environment>,
    cases: Vec<Case>,
    settings: Settings,
    events: mpsc::UnboundedSender<Event>,
    stop: watch::Receiver<bool>,
) {
    let began = Instant::now();
    let facts = environment.facts();
    let shared = Arc::new(Shared {
        vantage: vantage(&facts).await,
        environment,
        jobs: Semaphore::new(
            settings
                .jobs
                .min(facts.at_once.unwrap_or(usize::MAX))
                .max(1),
        ),
        own: Semaphore::new(facts.own_targets.max(1)),
        literal: Mutex::new(()),
        broken: AtomicBool::new(false),
        settings,
        facts,
        stop,
        events,
    });
    let mut tasks = JoinSet::new();
    let mut names = std::collections::HashMap::new();
    for case in cases {
        let name = case.name.clone();
        let handle = tasks.spawn(one(Arc::clone(&shared), case));
        names.insert(handle.id(), name);
    }
    while let Some(ended) = tasks.join_next_with_id().await {
        let (name, why) = match ended {
            Ok(_) => continue,
            Err(error) => (
                names.get(&error.id()).cloned().unwrap_or_default(),
                error.to_string(),
            ),
        };
        let why = shared.facts.secrets.hidden(why);
        tell(&shared, Event::Defect { name, why });
    }
    let interrupted = *shared.stop.borrow();
    tell(
        &shared,
        Event::Ended {
            took: began.elapsed(),
            interrupted,
        },
    );
}

/// Nobody listens any more only when the process is about to end.
fn tell(shared: &Shared, event: Event) {
    if let Event::Finished(case) = &event
        && shared.settings.fail_fast
        && case.is_broken()
    {
        shared.broken.store(true, Ordering::SeqCst);
    }
    let _ = shared.events.send(event);
}

async fn one(shared: Arc<Shared>, case: Case) {
    if let Some(why) = unsupported(&shared, &case) {
        tell(
            &shared,
            finished(
                &shared,
                &case,
                settled(&case, Seen::Unsupported, why),
                Vec::new(),
            ),
        );
        return;
    }
    if let Some(why) = shared.vantage.as_ref().filter(|_| judges_relaying(&case)) {
        let outcome = settled(&case, Seen::Nothing, why.clone());
        tell(&shared, finished(&shared, &case, outcome, Vec::new()));
        return;
    }
    // Those that stand in line for something scarce do not hold a place that others could use.
    let _literal = if case.literal_names {
        Some(shared.literal.lock().await)
    } else {
        None
    };
    let _own = if case.own_target {
        shared.own.acquire().await.ok()
    } else {
        None
    };
    // They mostly wait, for retries and for databases that do not answer: in the line of the others
    // each would begin when those have ended.
    let _job = if case.own_target {
        None
    } else {
        shared.jobs.acquire().await.ok()
    };
    if shared.broken.load(Ordering::SeqCst) {
        return;
    }
    let Some(mut made) = world(&shared, &case).await else {
        return;
    };
    if made.is_err() {
        // A port taken meanwhile, an engine short of breath: what is wrong for good is so twice.
        let Some(again) = world(&shared, &case).await else {
            return;
        };
        made = again;
    }
    let world = match made {
        Ok(world) => world,
        Err(why) => {
            let why = format!("its world could not be made: {why}");
            let mut outcome = settled(&case, Seen::Nothing, why);
            without_database(&shared, &case, &mut outcome).await;
            tell(&shared, finished(&shared, &case, outcome, Vec::new()));
            return;
        }
    };
    if case.own_target {
        unless_stopped(&shared, Box::pin(tables_answer(&world))).await;
    }
    let outcome = unless_stopped(&shared, Box::pin(in_world(&shared, &case, &world))).await;
    let log = world.log();
    let disposed = world.dispose().await;
    let Some(mut outcome) = outcome else { return };
    if let Err(why) = disposed {
        let took = outcome.took;
        outcome
            .transcript
            .push((took, format!("! not everything could be removed: {why}")));
    }
    without_database(&shared, &case, &mut outcome).await;
    tell(&shared, finished(&shared, &case, outcome, log));
}

/// The world of a case. `None`: the run was stopped first.
async fn world(shared: &Shared, case: &Case) -> Option<Result<World, String>> {
    let made = shared.environment.world(case);
    if !shared.environment.is_given() {
        return unless_stopped(shared, made).await;
    }
    // In a database that stays, rows that were written are removed by their world alone: it is made
    // to its end.
    if *shared.stop.borrow() {
        return None;
    }
    match made.await {
        Ok(world) if *shared.stop.borrow() => {
            // Nothing is told of a case any more that did not begin.
            let _ = world.dispose().await;
            None
        }
        made => Some(made),
    }
}

/// `None`: the run was stopped first.
async fn unless_stopped<T>(shared: &Shared, work: impl Future<Output = T>) -> Option<T> {
    let mut stop = shared.stop.clone();
    let stopped = async {
        // The sender gone means that nobody can stop the run any more.
        if stop.wait_for(|stopped| *stopped).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        () = stopped => None,
        done = work => Some(done),
    }
}

/// What went wrong while the run's own database was gone is not the target's fault.
async fn without_database(shared: &Shared, case: &Case, outcome: &mut Outcome) {
    let wrong = |one: &ClauseSeen| matches!(one.seen, Seen::Otherwise(_));
    if outcome.blocked.is_none() && !outcome.clauses.iter().any(wrong) {
        return;
    }
    if let Some(why) = shared.environment.database_gone().await {
        let why = format!(
            "the run's database is gone, and nothing is judged without it: see to it that it stays, \
             and run this again ({why})"
        );
        let blocked = settled(case, Seen::Nothing, why);
        outcome.clauses = blocked.clauses;
        outcome.blocked = blocked.blocked;
    }
}

async fn in_world(shared: &Shared, case: &Case, world: &World) -> Outcome {
    let limit = if case.scenario.header.slow {
        SLOW_LIMIT
    } else {
        LIMIT
    };
    let journal = Journal::new(limit);
    let tokens = Tokens::new(&shared.settings.run, case.number);
    let scene = Scene {
        world,
        wrong: shared.settings.wrong.as_ref(),
    };
    if let Some(why) = not_offered(case, &scene, &journal).await {
        return settled(case, Seen::Unsupported, why);
    }
    let whole = limit + GRACE;
    if let Ok(outcome) = tokio::time::timeout(whole, drive(case, &scene, &tokens, &journal)).await {
        return outcome;
    }
    let why = format!("the case did not end within {whole:?}");
    let mut outcome = settled(case, Seen::Nothing, why);
    outcome.transcript = journal.lines();
    outcome.took = whole;
    outcome
}

/// What the target cannot do, or does not claim to be.
fn unsupported(shared: &Shared, case: &Case) -> Option<String> {
    let needs = case.needs();
    let missing = case.lacks(&shared.facts.capabilities);
    if !missing.is_empty() {
        // Rows are what a database is needed for.
        let rows = missing.contains(&ROWS) && !missing.contains(&"database");
        let mut words: Vec<&str> = missing.into_iter().filter(|word| *word != ROWS).collect();
        if rows {
            words.push("database");
        }
        return Some(format!("needs {}", words.join(", ")));
    }
    let polite = shared
        .facts
        .manners
        .as_ref()
        .is_some_and(|manners| manners.pace.is_some());
    if let (true, Some((word, why))) = (polite, case.impolite()) {
        return Some(format!("not polite: `{word}`, {why} (--intrusive)"));
    }
    let mut here = shared.facts.unavailable.iter();
    if let Some((_, why)) = here.find(|(what, _)| needs.contains(what)) {
        return Some((*why).to_owned());
    }
    let profile = case.scenario.header.profile.as_ref()?;
    (!shared.facts.profiles.contains(profile))
        .then(|| format!("the target does not claim the profile {profile}"))
}

/// What the target does not offer in its answer to EHLO, or offers where the case wants it not to.
/// `None` also where the target cannot be asked: then the case itself tells why.
async fn not_offered(case: &Case, scene: &Scene<'_>, journal: &Journal) -> Option<String> {
    let offers = &case.scenario.header.offers;
    if offers.is_empty() {
        return None;
    }
    let (source, address) = (
        scene.source(case.from),
        scene.address(case.entry).await.ok()?,
    );
    let peer = Peer::new(scene.facts(), source, address, case.entry);
    let mut connection = Connection::open(peer, 0, journal).await.ok()?;
    connection.greet("offers.example").await.ok()?;
    let reply = connection.last().cloned();
    connection.close().await;
    let lines = reply?.lines;
    let keywords = lines.iter().skip(1).map(|line| line.split(' ').next());
    let names = case.names(scene.names());
    offers.iter().find_map(|(wanted, keyword)| {
        let keyword = expand(keyword, &names);
        let mut keywords = keywords.clone();
        let there =
            keywords.any(|word| word.is_some_and(|word| word.eq_ignore_ascii_case(&keyword)));
        let word = if there { "offers" } else { "does not offer" };
        (there != *wanted).then(|| format!("the target {word} {keyword} in its answer to EHLO"))
    })
}

fn judges_relaying(case: &Case) -> bool {
    clauses(&case.scenario).any(|clause| clause.id.starts_with("relay."))
}

/// The outcome of a case that was not played.
fn settled(case: &Case, seen: Seen, why: String) -> Outcome {
    let clauses = clauses(&case.scenario)
        .map(|clause: &Clause| ClauseSeen {
            clause: clause.clone(),
            seen,
            failure: None,
        })
        .collect();
    Outcome {
        clauses,
        blocked: Some(why),
        transcript: Vec::new(),
        took: Duration::ZERO,
    }
}

fn finished(shared: &Shared, case: &Case, outcome: Outcome, log: Vec<String>) -> Event {
    // Whatever was said and heard leaves the run without passwords.
    let hidden = |text: String| shared.facts.secrets.hidden(text);
    let clauses = outcome
        .clauses
        .into_iter()
        .map(|one| {
            let verdict = verdict(one.clause.level, one.seen, shared.settings.strict);
            let known = (verdict == Verdict::Broken)
                .then(|| shared.settings.known.reason(&case.name, &one.clause.id))
                .flatten();
            ClauseResult {
                id: one.clause.id,
                level: one.clause.level,
                references: one.clause.references,
                claim: one.clause.claim,
                verdict,
                failure: one.failure.map(|failure| Failure {
                    expected: hidden(failure.expected),
                    seen: hidden(failure.seen),
                    ..failure
                }),
                known,
            }
        })
        .collect();
    Event::Finished(Box::new(CaseResult {
        name: case.name.clone(),
        path: case.scenario.path.display().to_string(),
        source: Arc::clone(&case.scenario.source),
        title: case.scenario.title.clone(),
        clauses,
        blocked: outcome.blocked.map(hidden),
        transcript: outcome
            .transcript
            .into_iter()
            .map(|(at, line)| (at, hidden(line)))
            .collect(),
        log: log.into_iter().map(hidden).collect(),
        took: outcome.took,
    }))
}
