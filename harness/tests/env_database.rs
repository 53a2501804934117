//! Which database a run gets, and what is said when it cannot be had.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may, as tests do"
)]

mod env_support;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use env_support::again;
use rstest::rstest;
use vmailspec::environment::EnvironmentError;
use vmailspec::environment::database::{Choice, Database, local};
use vmailspec::environment::template::Tables;

fn group() -> u32 {
    rustix::process::getegid().as_raw()
}

/// Starts a database in a folder that goes with the test; also what was said.
async fn start(
    word: &str,
    image: &str,
) -> (
    Result<Database, EnvironmentError>,
    Vec<String>,
    tempfile::TempDir,
) {
    let folder = tempfile::tempdir().unwrap();
    let said = Mutex::new(Vec::new());
    let say = |line: String| said.lock().unwrap().push(line);
    let database = match Choice::parse(word) {
        Ok(choice) => Database::start(choice, image, folder.path(), group(), &say).await,
        Err(error) => Err(error),
    };
    (database, said.into_inner().unwrap(), folder)
}

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
fn docker_that_is_demanded_and_not_there_is_said_at_once() {
    if !again(
        "docker_that_is_demanded_and_not_there_is_said_at_once",
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
    assert!(begun.elapsed() < Duration::from_secs(5));
}

/// The four tables can be used with all rights by us, and only be read by the target.
async fn holds_the_tables(database: Database) {
    let (shared, own) = tokio::join!(database.shared(group()), database.own(group()));
    for store in [shared.unwrap(), own.unwrap()] {
        store.execute("INSERT INTO domains (domain) VALUES ('a.test');\nINSERT INTO users (email, password) VALUES ('x@a.test', '*')").await.unwrap();
        assert_eq!(
            store
                .count("SELECT quota FROM users WHERE quota = 102400")
                .await
                .unwrap(),
            1
        );
        let why = store
            .execute("INSERT INTO nothing VALUES (1)")
            .await
            .unwrap_err();
        assert!(why.contains("nothing"), "{why}");
        if let Tables::Mysql {
            host,
            user,
            password,
            database,
        } = store.tables(None)
        {
            let url = format!("mysql://{user}:{password}@{host}/{database}");
            let (given, _, _folder) = start(&url, "").await;
            let given = given.unwrap();
            assert!(given.is_given());
            let target = given.shared(group()).await.unwrap();
            assert_eq!(target.count("SELECT email FROM users").await.unwrap(), 1);
            let denied = target.execute("DELETE FROM users").await.unwrap_err();
            assert!(denied.contains("denied"), "{denied}");
            given.stop().await;
        }
        store.dispose().await.unwrap();
    }
    database.stop().await;
}

#[tokio::test]
async fn the_embedded_database_holds_the_tables() {
    let (database, _, _folder) = start("embedded", "").await;
    holds_the_tables(database.unwrap()).await;
}

#[tokio::test]
async fn a_private_server_of_this_machine_holds_the_tables() {
    if local::find("mysqld")
        .or_else(|| local::find("mariadbd"))
        .is_none()
    {
        eprintln!("not tested: neither mysqld nor mariadbd is on this machine");
        return;
    }
    let (database, _, _folder) = start("local", "").await;
    holds_the_tables(database.unwrap()).await;
}

#[cfg(feature = "docker")]
mod docker {
    use super::*;

    fn is_here(image: &str) -> bool {
        let looked = std::process::Command::new("docker")
            .args(["image", "inspect", image])
            .output();
        let here = looked.is_ok_and(|output| output.status.success());
        if !here {
            eprintln!("not tested: no Docker engine here with the image {image}");
        }
        here
    }

    #[rstest]
    #[case("vmailspec/mysql:9.7-debian", "MySQL 9.7.")]
    #[case("vmailspec/mariadb:10.11-debian", "MariaDB 10.11.")]
    #[case("mysql:8.4", "MySQL 8.4.")]
    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_in_a_container_holds_the_tables(#[case] image: &str, #[case] name: &str) {
        if is_here(image) {
            let (database, _, _folder) = start("docker", image).await;
            let database = database.unwrap();
            assert!(database.name().starts_with(name), "{}", database.name());
            holds_the_tables(database).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_image_that_cannot_be_had_is_said_in_one_line_within_ten_seconds() {
        if std::process::Command::new("docker")
            .arg("version")
            .output()
            .is_ok_and(|output| output.status.success())
        {
            let begun = Instant::now();
            let (database, _, _folder) = start("docker", "vmailspec.invalid/no-such:image").await;
            let Err(EnvironmentError::Unavailable(text)) = database else {
                panic!("there is one?")
            };
            assert!(text.starts_with("--database docker: the image vmailspec.invalid/no-such:image is not here and cannot be pulled ("), "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(begun.elapsed() < Duration::from_secs(11));
        } else {
            eprintln!("not tested: no Docker engine here");
        }
    }
}
