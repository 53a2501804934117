//! Canaries: a later message that did arrive shows that an earlier one did not.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::connection::{Connection, Peer};
use super::{Journal, Stage};
use crate::names::{TOKEN_FIELD, Tokens, token_of};
use crate::scenario::{Entry, Vantage};

/// How long a canary may take to arrive.
const LIMIT: Duration = Duration::from_secs(20);
/// How long what is under way besides a canary may take, or as long as the canary took: it may
/// overtake the case's own mail by a little, where a server delivers in parallel.
const OVERTAKEN: Duration = Duration::from_secs(1);
/// How often files and sinks are looked at while an event is awaited.
pub const POLL: Duration = Duration::from_millis(8);

/// Whether a message is a canary.
#[must_use]
pub fn is_canary(content: &[u8]) -> bool {
    token_of(content).is_some_and(|token| token.contains("-canary-"))
}

/// Mails the canary's mailbox and waits until it is there: how long it was under way. The error says
/// why absence cannot be shown.
pub async fn to_maildir<S: Stage>(
    stage: &S,
    from: Vantage,
    tokens: &Tokens,
    journal: &Journal,
) -> Result<Duration, String> {
    let began = Instant::now();
    let token = tokens.canary();
    let mailbox = stage.canary_mailbox();
    send(stage, from, &mailbox, &token, journal).await?;
    let Some(folder) = stage.maildir(&mailbox) else {
        return Err("the Maildirs of this target cannot be seen".into());
    };
    let deadline = Instant::now() + journal.limit(LIMIT);
    loop {
        stage.refresh().await?;
        for path in crate::probe::maildir::files(&folder.join("new")) {
            // Another case may have removed its own canary in between.
            if std::fs::read(&path).is_ok_and(|octets| token_of(&octets).as_ref() == Some(&token)) {
                // Its work is done; the box stays small for the next. Not ours to remove: no harm.
                let _ = std::fs::remove_file(&path);
                journal.note(format!("canary {token} arrived"));
                let took = began.elapsed();
                overtaken(stage, tokens, journal.limit(OVERTAKEN.max(took))).await;
                journal.shown(began);
                return Ok(took);
            }
        }
        if Instant::now() >= deadline {
            return Err(format!(
                "the canary for {mailbox} was accepted and did not arrive"
            ));
        }
        sleep(POLL).await;
    }
}

/// Waits until the target holds nothing of the case any more: neither its mail nor a report about
/// it, nor anything to its domain, which may have lost the token. What it is to hold for longer
/// costs the limit; where its queue cannot be seen, the canary has to do.
async fn overtaken<S: Stage>(stage: &S, tokens: &Tokens, limit: Duration) {
    let deadline = Instant::now() + limit;
    let domain = stage.names().get("domain").cloned();
    for sign in [Some(tokens.prefix()), domain].into_iter().flatten() {
        while stage.queued(&sign).await.is_some_and(|held| held > 0) && Instant::now() < deadline {
            sleep(POLL).await;
        }
    }
}

/// Mails `canary@domain` as a neighbour and waits until it is at the sink: how long it was under way.
pub async fn to_sink<S: Stage>(
    stage: &S,
    domain: &str,
    tokens: &Tokens,
    journal: &Journal,
) -> Result<Duration, String> {
    let began = Instant::now();
    let token = tokens.canary();
    let recipient = format!("canary@{domain}");
    send(stage, Vantage::Neighbour, &recipient, &token, journal).await?;
    let deadline = Instant::now() + journal.limit(LIMIT);
    loop {
        if stage
            .sunk()
            .iter()
            .any(|sunk| token_of(&sunk.content).as_ref() == Some(&token))
        {
            journal.note(format!("canary {token} arrived at the sink"));
            let took = began.elapsed();
            overtaken(stage, tokens, journal.limit(OVERTAKEN.max(took))).await;
            return Ok(took);
        }
        if Instant::now() >= deadline {
            return Err(format!(
                "the canary for {recipient} was accepted and did not arrive"
            ));
        }
        sleep(POLL).await;
    }
}

/// Canaries speak with the target itself, in clear: they show that its delivery works, whatever
/// the case is about.
async fn send<S: Stage>(
    stage: &S,
    from: Vantage,
    to: &str,
    token: &str,
    journal: &Journal,
) -> Result<(), String> {
    let (source, address) = (stage.source(from), stage.direct(Entry::Plain));
    let peer = Peer::new(stage.facts(), source, address, Entry::Plain);
    let sender = stage
        .names()
        .get("sender")
        .cloned()
        .unwrap_or_else(|| "canary.test".into());
    // What a canary says is of no interest; the transcript has one line about it.
    let own = Journal::new(journal.limit(LIMIT));
    let dialogue = async {
        let mut connection = Connection::open(peer, 0, &own).await?;
        connection.greet(&format!("client.{sender}")).await?;
        connection.ask("MAIL FROM:<>", 250).await?;
        connection.ask(&format!("RCPT TO:<{to}>"), 250).await?;
        connection.ask("DATA", 354).await?;
        let text = format!(
            "{TOKEN_FIELD}: {token}\r\nFrom: <canary@{sender}>\r\nSubject: canary\r\n\r\ncanary\r\n."
        );
        connection.ask(&text, 250).await?;
        connection.ask("QUIT", 221).await?;
        connection.close().await;
        Ok::<(), String>(())
    };
    dialogue
        .await
        .map_err(|why| format!("the canary for {to} was not taken: {why}"))
}
