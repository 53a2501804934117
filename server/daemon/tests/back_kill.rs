//! The server is killed again and again under load, and nothing that it answered 250 is lost.
//!
//! Twenty times here. Several hundred times, with what came of it:
//! `VMAILD_KILLS=500 cargo test -p vmaild --test back_kill -- --nocapture`
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod front;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use front::{Client, Server, Setup};

const CLIENTS: usize = 8;

/// A mailbox and what a letter is known by there.
type Letter = (&'static str, String);

/// What the clients know.
#[derive(Debug, Default)]
struct Books {
    /// Where the server listens, unless it is being killed.
    port: Option<SocketAddr>,
    /// Copies that the server answers for: their letters were answered 250.
    promised: BTreeSet<Letter>,
    /// Copies of letters whose end was sent and not answered.
    open: BTreeSet<Letter>,
    closed: bool,
}

/// Letters with one recipient, two, a forwarding to two, and one that waits in the queue.
const RECIPIENTS: [(&[&str], &[&str]); 4] = [
    (&["address"], &["address"]),
    (&["address", "second"], &["address", "second"]),
    (&["both"], &["address", "second"]),
    (&["address", "later"], &["address", "later"]),
];

fn kind(number: usize) -> usize {
    match number % 24 {
        3 | 23 => 3,
        other => other % 3,
    }
}

/// Says a line and hears the reply; `None` where the server is gone.
fn says(client: &mut Client, line: &str, expected: &str) -> Option<()> {
    client.try_send(&format!("{line}\r\n"))?;
    let reply = client.try_reply()?;
    assert!(reply.starts_with(expected), "{line}: {reply}");
    Some(())
}

/// Sends letters until the connection breaks.
fn send(client: &mut Client, who: usize, next: &mut usize, books: &Mutex<Books>) -> Option<()> {
    let locked = || books.lock().unwrap();
    client.try_reply()?;
    says(client, "EHLO client.example", "250")?;
    while !locked().closed {
        let number = *next;
        *next += 1;
        let token = format!("letter-{who}-{number}.");
        let (recipients, mailboxes) = RECIPIENTS[kind(number)];
        let copies = mailboxes.iter().map(|&mailbox| (mailbox, token.clone()));
        says(client, "MAIL FROM:<>", "250")?;
        for recipient in recipients {
            let line = format!("RCPT TO:<{recipient}@mydomain.com>");
            says(client, &line, "250")?;
        }
        says(client, "DATA", "354")?;
        // Some are longer than what waits in memory.
        let lines = if number % 16 == 15 { 9_000 } else { 30 };
        let text = "another line of forty octets and no more\r\n".repeat(lines);
        client.try_send(&format!("Subject: {token}\r\n\r\n{text}"))?;
        client.try_send(&format!("the end of {token}\r\n.\r\n"))?;
        locked().open.extend(copies.clone());
        let reply = client.try_reply()?;
        assert!(reply.contains("queued as"), "{reply}");
        let mut books = locked();
        for copy in copies {
            books.open.remove(&copy);
            books.promised.insert(copy);
        }
    }
    says(client, "QUIT", "221")
}

/// Sends letters wherever the server is, until the books are closed.
fn send_all(who: usize, books: &Mutex<Books>) {
    let mut next = 0;
    loop {
        let now = books.lock().unwrap();
        let (port, closed) = (now.port, now.closed);
        drop(now);
        if closed {
            return;
        }
        if let Some(mut client) = port.and_then(Client::try_connect) {
            let _ = send(&mut client, who, &mut next, books);
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn micros(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).unwrap().as_micros()
}

/// The letters in a mailbox, with the times in the names of their files.
fn delivered(setup: &Setup, mailbox: &'static str) -> Vec<(Letter, u128)> {
    let new = setup
        .path()
        .join(format!("vmail/mydomain.com/{mailbox}/new"));
    // Where the machine is slow no letter may have come to be for it.
    let files = fs::read_dir(new).into_iter().flatten().map(|entry| {
        let entry = entry.unwrap();
        let text = fs::read_to_string(entry.path()).unwrap();
        let token = text.split("Subject: ").nth(1).unwrap();
        let token = token.split('\n').next().unwrap();
        let end = format!("\nthe end of {token}\n");
        assert!(text.ends_with(&end), "{token} is not whole");
        let name = entry.file_name().into_string().unwrap();
        let (seconds, rest) = name.split_once(".V").unwrap();
        let micros = rest.split('M').nth(1).unwrap().split('.').next().unwrap();
        let [seconds, micros] = [seconds, micros].map(|number| number.parse::<u128>().unwrap());
        ((mailbox, token.to_owned()), seconds * 1_000_000 + micros)
    });
    files.collect()
}

#[test]
fn no_kill_loses_a_message_that_was_answered_250() {
    let kills = std::env::var("VMAILD_KILLS").map_or(20, |text| text.parse().unwrap());
    let setup = Setup::new().main_cf(
        "minimal_backoff_time = 1s\nmaximal_backoff_time = 1s\nqueue_run_delay = 1s\n\
         message_size_limit = 1000000",
    );
    setup.sql(
        "UPDATE users SET quota = 0;
         INSERT INTO users VALUES ('second@mydomain.com', '', 0), ('later@mydomain.com', '', 0);
         INSERT INTO forwardings VALUES ('both@mydomain.com', 'address@mydomain.com, second@mydomain.com');
         INSERT INTO transport VALUES ('later@mydomain.com', 'nosuch:x');",
    );
    let books = Mutex::new(Books::default());
    let locked = || books.lock().unwrap();
    let mut server = setup.begin();
    let mut times = Vec::new();
    std::thread::scope(|scope| {
        for who in 0..CLIENTS {
            let books = &books;
            scope.spawn(move || send_all(who, books));
        }
        // Any instant is as good as another; these are the same in every run.
        let mut random = 20_080_131_u64;
        for kill in 0..kills {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let instant = Duration::from_micros((random >> 33) % 60_000);
            // Every fourth dies while it starts, the others with letters in all states.
            if kill % 4 != 3 {
                server.wait_until_ready();
                let before = locked().promised.len();
                locked().port = Some(server.smtp());
                server.wait_for("a letter that is taken", || {
                    locked().promised.len() > before
                });
            }
            std::thread::sleep(instant);
            let before = micros(SystemTime::now());
            locked().port = None;
            server.crash();
            times.push((before, micros(SystemTime::now())));
        }
        locked().closed = true;
    });
    server.wait_until_ready();
    server.setup.sql("DELETE FROM transport");
    server.wait_for("an empty queue", || server.files("queue").is_empty());
    let report = judge(&server, &books.into_inner().unwrap(), &times);
    std::io::stdout().write_all(report.as_bytes()).unwrap();
}

/// Every copy that was promised is there; a second one only where a kill fell between the two.
fn judge(server: &Server, books: &Books, kills: &[(u128, u128)]) -> String {
    let Books { promised, open, .. } = books;
    let mut found: BTreeMap<Letter, Vec<u128>> = BTreeMap::new();
    for mailbox in ["address", "second", "later"] {
        for (copy, time) in delivered(&server.setup, mailbox) {
            found.entry(copy).or_default().push(time);
        }
    }
    let there: BTreeSet<Letter> = found.keys().cloned().collect();
    let lost = promised - &there;
    assert!(lost.is_empty(), "answered 250 and lost: {lost:?}");
    let strange = &(&there - promised) - open;
    assert!(strange.is_empty(), "delivered without an end: {strange:?}");
    let mut doubles = 0;
    for (copy, times_found) in &mut found {
        times_found.sort_unstable();
        for two in times_found.windows(2) {
            doubles += 1;
            // Only a kill between a delivery and its record may repeat it.
            let killed = kills
                .iter()
                .any(|&(before, after)| two[0] <= after && two[1] >= before);
            assert!(
                killed,
                "{copy:?} was delivered twice without a kill between"
            );
        }
    }
    let unanswered = there.intersection(open).count();
    let taken = promised.len();
    let left = server.files("vmail/mydomain.com/address/tmp").len();
    let report = format!(
        "{} kills: {taken} copies promised, all there; {unanswered} of {} unanswered ones there \
         too; {doubles} doubles, each across a kill; {left} files left in tmp\n",
        kills.len(),
        open.len()
    );
    assert!(doubles <= kills.len() * CLIENTS, "{report}");
    assert!(taken > kills.len() / 2, "{report}");
    report
}
