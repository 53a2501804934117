//! What is behind the doors: rows, Maildirs, account, vantage, next hop, log.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Finding, ROWS, SEED, fits, found, open, wrong};
use crate::driver::Journal;
use crate::driver::canary::POLL;
use crate::driver::connection::{Connection, Peer};
use crate::environment::TargetFacts;
use crate::environment::database::Store;
use crate::environment::database::local::find;
use crate::environment::run::Run;
use crate::environment::standing::domain_of;
use crate::names::{TOKEN_FIELD, token_of};
use crate::scenario::Entry;

/// How long a message may take to its Maildir or next hop.
const DELIVERY: Duration = Duration::from_secs(15);

/// What is behind the doors: rows, Maildirs, account, vantage, next hop, log.
pub(in crate::environment) async fn house(run: &Run) -> Vec<Finding> {
    let facts = &run.shared.facts;
    let mut findings = Vec::new();
    if run.shared.store.knows_names() {
        let rows = seen(run).await;
        let known = rows.is_ok();
        let key = match &run.shared.store {
            Store::Seeded(_) => SEED,
            _ => ROWS,
        };
        findings.push(match rows {
            Ok((true, what)) => fits(key, what),
            Ok((false, what)) => open(key, what),
            Err(why) => wrong(key, why),
        });
        if !known {
            findings.push(open("maildirs", "the server does not see the rows"));
        } else if has(facts, "maildir") {
            findings.push(found("maildirs", delivered(run).await));
        }
    } else if let Some(account) = run.account() {
        let login = login(facts, &account.address, &account.password.0).await;
        let known = login.is_ok();
        findings.push(found("accounts", login));
        if known && has(facts, "maildir") {
            findings.push(found("maildirs", delivered(run).await));
        }
    }
    findings.push(match crate::runner::vantage(facts).await {
        None => fits(
            "clients.stranger",
            match facts.stranger {
                here if here.is_unspecified() => "this machine may not relay".to_owned(),
                here => format!("a client from {here} may not relay"),
            },
        ),
        // Said once more at every case that it keeps from being judged.
        Some(why) => open(
            "clients.stranger",
            format!("{why}: relaying cannot be judged"),
        ),
    });
    if has(facts, crate::plan::NEIGHBOUR) {
        findings.push(found("clients.neighbour", neighbour(facts).await));
    }
    if has(facts, "sink") {
        findings.push(found("sink", next_hop(run).await));
    }
    if let Some(outside) = run.description.outside() {
        for (key, path) in [("log", &outside.log), ("queue", &outside.queue)] {
            if let Some(path) = path {
                findings.push(found(key, readable(path)));
            }
        }
        if let Some(program) = outside.queue_delete.iter().flatten().next() {
            findings.push(found("queue_delete", runnable(program)));
        }
    }
    findings
}

fn has(facts: &TargetFacts, word: &str) -> bool {
    facts.capabilities.iter().any(|has| has == word)
}

fn readable(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let readable = if path.is_dir() {
        std::fs::read_dir(path).map(|_| ())
    } else {
        std::fs::File::open(path).map(|_| ())
    };
    readable
        .map(|()| format!("{shown} can be read"))
        .map_err(|error| {
            format!("{shown}: {error}: take it out, or run as somebody who may read it")
        })
}

fn runnable(program: &str) -> Result<String, String> {
    match find(program) {
        Some(path) => Ok(format!("{} is there", path.display())),
        None => Err(format!(
            "{program} is not on PATH, or may not be run: write its path"
        )),
    }
}

async fn connected<'a>(
    facts: &TargetFacts,
    source: IpAddr,
    journal: &'a Journal,
) -> Result<Connection<'a>, String> {
    let (_, entry) = facts.way_in();
    entered(facts, source, entry, journal).await
}

/// By this way in, at the server's usual port.
async fn entered<'a>(
    facts: &TargetFacts,
    source: IpAddr,
    entry: Entry,
    journal: &'a Journal,
) -> Result<Connection<'a>, String> {
    let (address, _) = facts.way_in();
    let peer = Peer::new(facts.clone(), source, address, entry);
    let mut connection = Connection::open(peer, 0, journal).await?;
    connection
        .greet(&format!("client.{}", facts.foreign[0]))
        .await?;
    Ok(connection)
}

/// Does the server see a row that was just written? `false`: that cannot be told by its replies.
async fn seen(run: &Run) -> Result<(bool, String), String> {
    let facts = &run.shared.facts;
    let name = &run.database_name;
    if !matches!(run.shared.store, Store::Seeded(_)) {
        let read = format!("SELECT email FROM users WHERE email = '{}'", run.canary);
        if run.shared.store.count(&read).await? != 1 {
            return Err(format!(
                "{name}: a row that was written there is not there when it is read"
            ));
        }
    }
    let journal = Journal::new(Duration::from_mins(1));
    let mut connection = connected(facts, facts.stranger, &journal).await?;
    connection.ask("MAIL FROM:<>", 250).await?;
    let rcpt = format!("RCPT TO:<{}>", run.canary);
    match connection.ask(&rcpt, 250).await {
        Ok(_) => {
            // A name that nobody wrote: who takes this one, too, has not looked.
            let other = format!("RCPT TO:<nobody@unwritten.{}.test>", run.id);
            let taken = connection.ask(&other, 250).await.is_ok();
            connection.close().await;
            if taken {
                return Ok((
                    false,
                    format!(
                        "{name}: the server takes mail for names that nobody wrote as well, so whether it sees the rows is not known"
                    ),
                ));
            }
            Ok((
                true,
                format!("{name}: the server sees what is written there"),
            ))
        }
        Err(why) => Err(format!(
            "{name}: the server does not see a row that was written there ({why}): is it the database that it asks?"
        )),
    }
}

/// A message to the canary's mailbox, and where it lands.
async fn delivered(run: &Run) -> Result<String, String> {
    let facts = &run.shared.facts;
    let token = format!("{}-check-1", run.tokens);
    send(facts, facts.stranger, &run.canary, &token).await?;
    let root = facts.maildir_root.clone().unwrap_or_default();
    let shown = match run
        .description
        .outside()
        .and_then(|outside| outside.maildirs.as_ref())
    {
        Some(maildirs) => maildirs.path.display().to_string(),
        None => root.display().to_string(),
    };
    let (local, domain) = run.canary.split_once('@').unwrap_or_default();
    let mailbox = root.join(domain).join(local);
    let deadline = Instant::now() + DELIVERY;
    loop {
        if let Some(mirror) = &run.shared.mirror {
            mirror.refresh().await?;
        }
        for path in crate::probe::maildir::files(&mailbox.join("new")) {
            if std::fs::read(&path).is_ok_and(|text| token_of(&text).as_ref() == Some(&token)) {
                let _ = std::fs::remove_file(&path);
                return Ok(format!("{shown}: a message came to {domain}/{local}/new"));
            }
        }
        if Instant::now() > deadline {
            let reason = match std::fs::read_dir(&root) {
                Err(error) => format!("it cannot be read: {error}"),
                Ok(_) => format!(
                    "nothing came to {domain}/{local}/new within {} s",
                    DELIVERY.as_secs()
                ),
            };
            return Err(format!(
                "{shown}: the server took a message, and {reason}: are these its Maildirs (virtual_mailbox_base), in DOMAIN/LOCAL PART/?"
            ));
        }
        sleep(POLL).await;
    }
}

async fn send(facts: &TargetFacts, from: IpAddr, to: &str, token: &str) -> Result<(), String> {
    let journal = Journal::new(Duration::from_mins(1));
    let mut facts = facts.clone();
    if let Some(manners) = &mut facts.manners {
        manners.domains.push(domain_of(to).to_owned());
    }
    let mut connection = connected(&facts, from, &journal).await?;
    connection.ask("MAIL FROM:<>", 250).await?;
    connection.ask(&format!("RCPT TO:<{to}>"), 250).await?;
    connection.ask("DATA", 354).await?;
    let text = format!(
        "{TOKEN_FIELD}: {token}\r\nFrom: <check@{}>\r\nSubject: a check of vmailspec\r\n\r\ncheck\r\n.",
        facts.foreign[0]
    );
    connection.ask(&text, 250).await?;
    connection.close().await;
    Ok(())
}

/// The account's login, within TLS where that is offered.
async fn login(facts: &TargetFacts, user: &str, password: &str) -> Result<String, String> {
    let journal = Journal::new(Duration::from_mins(1));
    let (_, entry) = facts.way_in();
    let ways = if entry == Entry::Smtps {
        vec![Entry::Smtps]
    } else {
        vec![Entry::StartTls, Entry::Plain]
    };
    let mut said = String::new();
    for entry in ways {
        let tried = async {
            let mut connection = entered(facts, facts.stranger, entry, &journal).await?;
            connection.authenticate(user, password).await?;
            connection.close().await;
            Ok::<(), String>(())
        };
        match tried.await {
            Ok(()) => return Ok(format!("{user} can log in ({})", entry.word())),
            Err(why) => said = why,
        }
    }
    Err(format!(
        "{user} cannot log in: {said}: is the password right, and the whole address the login?"
    ))
}

/// Does it relay for the neighbour?
async fn neighbour(facts: &TargetFacts) -> Result<String, String> {
    let journal = Journal::new(Duration::from_mins(1));
    let mut connection = connected(facts, facts.neighbour, &journal).await?;
    connection.ask("MAIL FROM:<>", 250).await?;
    let rcpt = format!("RCPT TO:<nobody@{}>", facts.foreign[1]);
    let asked = connection.ask(&rcpt, 250).await;
    connection.close().await;
    asked.map_err(|why| {
        let from = facts.neighbour;
        format!("the server does not relay for {from} ({why}): it has to be in its mynetworks, or leave `neighbour` out")
    })?;
    Ok(format!("a client from {} may relay", facts.neighbour))
}

/// Does foreign mail come to our sink?
async fn next_hop(run: &Run) -> Result<String, String> {
    let facts = &run.shared.facts;
    if !has(facts, crate::plan::NEIGHBOUR) {
        return Err("it needs a client that may relay: [clients] neighbour = \"…\"".to_owned());
    }
    let (sink, address) = run.sink(0)?;
    let domain = format!("check.{}.test", run.id);
    run.dns.add(&domain, address);
    let token = format!("{}-check-2", run.tokens);
    send(facts, facts.neighbour, &format!("check@{domain}"), &token).await?;
    let came = sink
        .sunk_until(DELIVERY, |sunk| {
            sunk.iter()
                .any(|one| token_of(&one.content).as_ref() == Some(&token))
        })
        .await;
    let asked = run.dns.queries(&domain);
    run.dns.remove(&domain);
    let here = sink.address();
    if came {
        return Ok(format!("mail for others comes to {here}"));
    }
    Err(if asked.is_empty() {
        format!(
            "the server took a message for {domain} and did not ask the name server at {} for it: make it its resolver",
            run.dns.address()
        )
    } else {
        format!(
            "the server found {domain} and did not bring the message to {here}: is that its port for next hops, and reachable from it?"
        )
    })
}
