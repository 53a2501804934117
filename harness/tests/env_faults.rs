//! The database as the target sees it: gone, hanging, back; by a gate before MySQL and by a lock on
//! an SQLite file.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may, as tests do"
)]

use std::io::ErrorKind;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use vmailspec::environment::database::embedded::SqliteFile;
use vmailspec::environment::gate::Gate;

const LIMIT: Duration = Duration::from_secs(10);

/// Sends back what it gets.
async fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    address
}

/// What is written comes back, within `limit`.
async fn echoes(stream: &mut TcpStream, limit: Duration) -> bool {
    stream.write_all(b"x").await.unwrap();
    tokio::time::timeout(limit, stream.read_exact(&mut [0]))
        .await
        .is_ok()
}

async fn says_back(stream: &mut TcpStream) -> bool {
    echoes(stream, LIMIT).await
}

async fn says_nothing(stream: &mut TcpStream) -> bool {
    !echoes(stream, Duration::from_millis(300)).await
}

#[tokio::test]
async fn a_stopped_gate_refuses_and_cuts_and_opens_again_at_the_same_place() {
    let mut gate = Gate::open(&echo().await).unwrap();
    let mut stream = TcpStream::connect(gate.address()).await.unwrap();
    assert!(says_back(&mut stream).await);
    gate.stop().await;
    let cut = tokio::time::timeout(LIMIT, stream.read(&mut [0]))
        .await
        .expect("cut");
    assert!(matches!(cut, Ok(0) | Err(_)));
    let refused = TcpStream::connect(gate.address()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    gate.resume().unwrap();
    let mut stream = TcpStream::connect(gate.address()).await.unwrap();
    assert!(says_back(&mut stream).await);
}

#[tokio::test]
async fn a_paused_gate_takes_connections_and_answers_when_it_is_open_again() {
    let mut gate = Gate::open(&echo().await).unwrap();
    let mut old = TcpStream::connect(gate.address()).await.unwrap();
    assert!(says_back(&mut old).await);
    gate.pause().unwrap();
    let mut new = TcpStream::connect(gate.address()).await.unwrap();
    assert!(says_nothing(&mut old).await);
    assert!(says_nothing(&mut new).await);
    gate.resume().unwrap();
    for stream in [&mut old, &mut new] {
        let answer = tokio::time::timeout(LIMIT, stream.read_exact(&mut [0])).await;
        answer.expect("the answer that hung").unwrap();
    }
}

#[tokio::test]
async fn a_cut_gate_resets_what_stands_and_takes_what_comes() {
    let mut gate = Gate::open(&echo().await).unwrap();
    let mut waiting = TcpStream::connect(gate.address()).await.unwrap();
    assert!(says_back(&mut waiting).await);
    gate.pause().unwrap();
    assert!(says_nothing(&mut waiting).await);
    gate.cut();
    let cut = tokio::time::timeout(LIMIT, waiting.read(&mut [0])).await;
    let error = cut.expect("cut").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    gate.resume().unwrap();
    let mut new = TcpStream::connect(gate.address()).await.unwrap();
    assert!(says_back(&mut new).await);
}

#[tokio::test]
async fn a_slow_gate_lets_every_answer_come_late_until_it_is_open_again() {
    let mut gate = Gate::open(&echo().await).unwrap();
    let mut stream = TcpStream::connect(gate.address()).await.unwrap();
    assert!(says_back(&mut stream).await);
    gate.slow().unwrap();
    let begun = std::time::Instant::now();
    stream.write_all(b"x").await.unwrap();
    let answer = tokio::time::timeout(LIMIT, stream.read_exact(&mut [0])).await;
    answer.expect("the late answer").unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(200));
    gate.resume().unwrap();
    assert!(says_back(&mut stream).await);
}

#[tokio::test]
async fn a_gate_that_was_paused_can_be_stopped() {
    let mut gate = Gate::open(&echo().await).unwrap();
    gate.pause().unwrap();
    gate.stop().await;
    assert!(TcpStream::connect(gate.address()).await.is_err());
}

#[tokio::test]
async fn a_shut_file_cannot_be_read_and_what_we_did_meanwhile_counts_when_it_opens() {
    let folder = tempfile::tempdir().unwrap();
    let group = rustix::process::getegid().as_raw();
    let file = SqliteFile::create(folder.path().join("mail.sqlite"), group).unwrap();
    file.execute("CREATE TABLE t (x); INSERT INTO t VALUES (1)")
        .await
        .unwrap();
    let reader =
        Connection::open_with_flags(file.path(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    reader.busy_timeout(Duration::from_millis(50)).unwrap();
    let read = || reader.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
    assert_eq!(read().unwrap(), 1);
    file.shut().await.unwrap();
    file.shut().await.unwrap();
    assert_eq!(
        read().unwrap_err().sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseBusy)
    );
    file.execute("INSERT INTO t VALUES (2)").await.unwrap();
    assert_eq!(file.count("SELECT x FROM t").await.unwrap(), 2);
    file.open().await.unwrap();
    assert_eq!(read().unwrap(), 2);
}

#[tokio::test]
async fn a_statement_that_fails_leaves_nothing_of_those_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let group = rustix::process::getegid().as_raw();
    let file = SqliteFile::create(folder.path().join("mail.sqlite"), group).unwrap();
    file.execute("CREATE TABLE t (x)").await.unwrap();
    let why = file
        .execute("INSERT INTO t VALUES (1); INSERT INTO u VALUES (1)")
        .await
        .unwrap_err();
    assert!(why.contains("no such table: u"), "{why}");
    assert_eq!(file.count("SELECT x FROM t").await.unwrap(), 0);
}

#[tokio::test]
async fn rows_of_a_name_that_only_ends_alike_stay() {
    let folder = tempfile::tempdir().unwrap();
    let group = rustix::process::getegid().as_raw();
    let file = SqliteFile::create(folder.path().join("mail.sqlite"), group).unwrap();
    let tables = "CREATE TABLE domains (domain); CREATE TABLE forwardings (email);
        CREATE TABLE transport (domain); CREATE TABLE users (email);
        INSERT INTO domains VALUES ('d.test'), ('sub.d.test'), ('otherd.test');
        INSERT INTO users VALUES ('a@d.test'), ('a@sub.d.test'), ('a@otherd.test')";
    file.execute(tables).await.unwrap();
    let removal = vmailspec::environment::names::removal(&["d.test"]).join(";");
    file.execute(&removal).await.unwrap();
    for (table, column) in [("domains", "domain"), ("users", "email")] {
        let left = format!("SELECT 1 FROM {table} WHERE {column} LIKE '%otherd.test'");
        assert_eq!(file.count(&left).await.unwrap(), 1, "{table}");
        let all = file.count(&format!("SELECT 1 FROM {table}")).await;
        assert_eq!(all.unwrap(), 1, "{table}");
    }
}
