//! `crowd`: many sessions at once, each of which hands over messages of its own.
//!
//! It promises: all sessions go on side by side; every reply is looked at; the ledger knows of every
//! message.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use super::Journal;
use super::connection::{Connection, Peer, told};
use crate::ledger::follow::Transaction;
use crate::scenario::Span;
use crate::wire::Heard;

/// How long one reply may take where many wait for theirs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What every session of a crowd says.
#[derive(Debug)]
pub(super) struct Crowd<'a> {
    pub(super) peer: Peer,
    pub(super) client: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) journal: &'a Journal,
    pub(super) span: Span,
    /// The number of the first connection, for the transcript.
    pub(super) first: usize,
}

/// One session for each of `mail`, all at once, with these messages each; what they carried, and
/// the first reply that was not as it should be.
pub(super) async fn meet(
    crowd: &Crowd<'_>,
    mail: Vec<Vec<Vec<u8>>>,
) -> (Vec<Transaction>, Result<(), String>) {
    let sessions = mail.into_iter().enumerate();
    let sessions = sessions.map(|(n, letters)| Box::pin(session(crowd, crowd.first + n, letters)));
    let mut carried = Vec::new();
    let mut whole = Ok(());
    for (transactions, result) in together(sessions.collect()).await {
        carried.extend(transactions);
        whole = whole.and(result);
    }
    (carried, whole)
}

async fn session(
    crowd: &Crowd<'_>,
    number: usize,
    letters: Vec<Vec<u8>>,
) -> (Vec<Transaction>, Result<(), String>) {
    let opened = Connection::open(crowd.peer.clone(), number, crowd.journal).await;
    let mut connection = match opened {
        Ok(connection) => connection,
        Err(why) => return (Vec::new(), Err(why)),
    };
    let result = speak(crowd, &mut connection, letters).await;
    (connection.close().await, result)
}

async fn speak(
    crowd: &Crowd<'_>,
    connection: &mut Connection<'_>,
    letters: Vec<Vec<u8>>,
) -> Result<(), String> {
    connection.greet(&crowd.client).await?;
    for letter in letters {
        let (from, to) = (&crowd.from, &crowd.to);
        connection.ask(&format!("MAIL FROM:<{from}>"), 250).await?;
        connection.ask(&format!("RCPT TO:<{to}>"), 250).await?;
        connection.ask("DATA", 354).await?;
        connection.send(&letter, crowd.span).await?;
        match connection.hear(PATIENCE).await {
            Heard::Reply(reply) if reply.code == 250 => {}
            other => return Err(format!("a message was answered {}", told(&other))),
        }
    }
    Ok(())
}

/// Goes on with all of them until the last has ended.
async fn together<F: Future>(futures: Vec<Pin<Box<F>>>) -> Vec<F::Output> {
    let mut waiting: Vec<Option<Pin<Box<F>>>> = futures.into_iter().map(Some).collect();
    let mut done = Vec::new();
    poll_fn(|context| {
        for slot in &mut waiting {
            if let Some(future) = slot
                && let Poll::Ready(output) = future.as_mut().poll(context)
            {
                done.push(output);
                *slot = None;
            }
        }
        if waiting.iter().all(Option::is_none) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    done
}
