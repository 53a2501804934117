//! Which database a run gets, and what is said when it cannot be had.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may, as tests do"
)]

mod env_support;

use std::time::{Duration, Instant};

use env_support::again;
use env_support::database::{holds_the_tables, start};
use rstest::rstest;
use vmailspec::environment::EnvironmentError;
use vmailspec::environment::database::{Choice, local};

#[rstest]
#[case("sqlite")]
#[case("postgres://a:geheim@b/c")]
#[case("mysql://")]
#[case("mysql://host/db")]
#[case("mysql://user:geheim@host")]
#[case("mysql://user:geheim@host:port/db")]
#[case("mysql://user:geheim@host/db?require_ssl=true")]
fn words_that_mean_nothing_are_the_users_and_no_password_is_shown(#[case] word: &str) {
    let Err(EnvironmentError::Usage(text)) = Choice::parse(word) else {
        panic!("{word} was taken")
    };
    assert!(text.contains("expected"), "{text}");
    assert!(!text.contains("geheim"), "{text}");
}

#[test]
fn a_url_is_said_without_its_password() {
    let Err(error) = Choice::parse("mysql://user:p%40ss@host/") else {
        panic!("taken")
    };
    insta::assert_snapshot!(
        error,
        @"--database mysql://user:***@host/: no database; expected mysql://user:password@host:port/database"
    );
    let choice = Choice::parse("mysql://user:geheim@host:3307/db").unwrap();
    insta::assert_snapshot!(format!("{choice:?}"), @"Url(mysql://user:***@host:3307/db)");
}

proptest::proptest! {
    #[test]
    fn any_word_is_survived(word in ".{0,80}", rest in ".{0,80}") {
        let _ = Choice::parse(&word);
        let _ = Choice::parse(&format!("mysql://{rest}"));
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_the_machines_and_no_password_is_shown() {
    let (database, _, _folder) = start("mysql://user:geheim@127.0.0.1:1/db", "").await;
    let Err(EnvironmentError::Unavailable(text)) = database else {
        panic!("there is one at port 1?")
    };
    assert!(
        text.starts_with("--database mysql://user:***@127.0.0.1:1/db: "),
        "{text}"
    );
    assert!(!text.contains("geheim"), "{text}");
}

#[test]
fn auto_without_docker_says_why_and_takes_what_there_is() {
    if !again(
        "auto_without_docker_says_why_and_takes_what_there_is",
        &[("DOCKER_HOST", "tcp://127.0.0.1:9"), ("PATH", "/nowhere")],
    ) {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (database, said, _folder) = start("auto", "no/such:image").await;
        let database = database.unwrap();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with(&format!(
                "database: {} (not Docker: no engine answers: ",
                database.name()
            )),
            "{said:?}"
        );
        if local::find("mysqld")
            .or_else(|| local::find("mariadbd"))
            .is_none()
        {
            assert!(database.name().starts_with("SQLite "), "{said:?}");
            assert!(
                said[0].contains(
                    "; not a server of this machine: neither mysqld nor mariadbd is on PATH"
                ),
                "{said:?}"
            );
        }
        database.stop().await;
    });
}

#[test]
fn docker_that_is_demanded_and_not_there_is_said_in_one_line() {
    if !again(
        "docker_that_is_demanded_and_not_there_is_said_in_one_line",
        &[("DOCKER_HOST", "unix:///nowhere/docker.sock")],
    ) {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let begun = Instant::now();
    let (database, _, _folder) = runtime.block_on(start("docker", "mysql:8.4"));
    let Err(EnvironmentError::Unavailable(text)) = database else {
        panic!("an engine at /nowhere?")
    };
    assert!(
        text.starts_with("--database docker: no engine answers"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn the_embedded_database_holds_the_tables() {
    let (database, _, _folder) = start("embedded", "").await;
    holds_the_tables(database.unwrap()).await;
}
