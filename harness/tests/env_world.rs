//! What one case sees: its names and rows, its sink, its target; and that nothing of it is left.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may, as tests do"
)]

mod env_support;

use std::sync::Arc;

use env_support::again;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use vmailspec::environment::names::{Names, statements};
use vmailspec::environment::{Description, Environment, Options, World};
use vmailspec::fixtures;
use vmailspec::plan::{Case, cases};
use vmailspec::scenario::parse::parse;
use vmailspec::scenario::{DatabaseFault, Entry, TargetAction, Vantage};

const SERVER: (&str, &str) = ("VMAILSPEC_SERVE_EXE", env!("CARGO_BIN_EXE_vmailspec"));

fn options() -> Options {
    Options {
        target: Description::reference().unwrap(),
        database: "embedded".to_owned(),
        database_image: String::new(),
        keep: false,
        intrusive: true,
        run: String::new(),
        wrong: Vec::new(),
    }
}

/// A case with this header.
fn case(header: &str) -> Case {
    let text = format!(
        "title   a test\n{header}\nMUST cmd.noop rfc5321#4.1.1.9 NOOP does nothing\nC: NOOP\nS: 250\n"
    );
    let scenario = parse("tests/a-test.case", text).expect("a scenario");
    cases(&Arc::new(scenario)).remove(0)
}

fn in_environment<F: Future<Output = Environment>>(body: impl FnOnce(Environment) -> F) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let environment = Environment::start(&options(), &|line| eprintln!("{line}"))
            .await
            .unwrap();
        body(environment).await.stop().await;
    });
}

async fn greeting(world: &World, from: Vantage) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((world.source(from), 0).into()).unwrap();
    let mut stream = socket.connect(world.address(Entry::Plain)).await.unwrap();
    let mut text = [0; 4];
    stream.read_exact(&mut text).await.unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn a_world_has_the_tutorials_rows_under_its_own_names_and_leaves_nothing() {
    if !again(
        "a_world_has_the_tutorials_rows_under_its_own_names_and_leaves_nothing",
        &[SERVER],
    ) {
        return;
    }
    in_environment(|environment| async {
        let plain = case("");
        let (one, other) = tokio::join!(environment.world(&plain), environment.world(&plain));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_ne!(one.names["domain"], other.names["domain"]);
        assert_ne!(one.names["sinkaddress"], other.names["sinkaddress"]);
        let (domain, transport) = (&one.names["domain"], &one.names["transport"]);
        for select in [
            format!("SELECT 1 FROM domains WHERE domain = '{domain}'"),
            format!("SELECT 1 FROM users WHERE email = 'address@{domain}' AND quota = 102400"),
            format!(
                "SELECT 1 FROM forwardings WHERE email = 'myforward@{domain}' AND destination = 'address@{domain}, otheraddress@{domain}'"
            ),
            format!(
                "SELECT 1 FROM transport WHERE domain = '{transport}' AND transport = 'smtp:mail.{transport}'"
            ),
        ] {
            assert_eq!(one.rows(&select).await, Ok(1), "{select}");
        }
        assert_eq!(greeting(&one, Vantage::Stranger).await, "220 ");
        one.sql(&format!(
            "INSERT INTO users (email, password) VALUES ('more@sub.{domain}', '*')"
        ))
        .await
        .unwrap();
        let maildir = one.maildir(&format!("address@{domain}")).unwrap();
        std::fs::create_dir_all(maildir.join("new")).unwrap();
        std::fs::write(maildir.join("new/1"), "x").unwrap();
        assert_eq!(
            one.mails(&format!("address@{domain}")).await.unwrap().len(),
            1
        );
        let (domain, transport) = (domain.clone(), transport.clone());
        one.dispose().await.unwrap();
        for table in [
            "domains WHERE domain",
            "users WHERE email",
            "forwardings WHERE email",
        ] {
            assert_eq!(
                other
                    .rows(&format!("SELECT 1 FROM {table} LIKE '%{domain}'"))
                    .await,
                Ok(0)
            );
        }
        let left = format!("SELECT 1 FROM transport WHERE domain = '{transport}'");
        assert_eq!(other.rows(&left).await, Ok(0));
        assert!(!maildir.exists());
        other.dispose().await.unwrap();
        environment
    });
}

#[test]
fn a_target_of_ones_own_is_killed_and_started_at_the_same_place_without_a_crash() {
    if !again(
        "a_target_of_ones_own_is_killed_and_started_at_the_same_place_without_a_crash",
        &[SERVER],
    ) {
        return;
    }
    in_environment(|environment| async {
        let world = environment
            .world(&case(
                "main.cf smtpd_banner = $domain is here\nneeds own-target",
            ))
            .await
            .unwrap();
        assert_ne!(world.facts().plain, environment.facts().plain);
        assert_eq!(greeting(&world, Vantage::Neighbour).await, "220 ");
        world.target(TargetAction::Kill).await.unwrap();
        assert!(
            TcpStream::connect(world.address(Entry::Plain))
                .await
                .is_err()
        );
        world.target(TargetAction::Start).await.unwrap();
        assert_eq!(greeting(&world, Vantage::Stranger).await, "220 ");
        world.target(TargetAction::Restart).await.unwrap();
        assert_eq!(world.crashed(), None);
        assert!(!world.log().is_empty());
        world.database(DatabaseFault::Stop).await.unwrap();
        world.sql("DELETE FROM users").await.unwrap();
        world.database(DatabaseFault::Start).await.unwrap();
        assert_eq!(world.rows("SELECT 1 FROM users").await, Ok(0));
        world.dispose().await.unwrap();

        let shared = environment.world(&case("")).await.unwrap();
        assert!(
            shared
                .target(TargetAction::Kill)
                .await
                .unwrap_err()
                .contains("shared")
        );
        assert!(
            shared
                .database(DatabaseFault::Stop)
                .await
                .unwrap_err()
                .contains("shared")
        );
        shared.dispose().await.unwrap();
        environment
    });
}

#[test]
fn an_end_that_nobody_asked_for_is_a_crash_with_its_signal_and_log() {
    if !again(
        "an_end_that_nobody_asked_for_is_a_crash_with_its_signal_and_log",
        &[SERVER],
    ) {
        return;
    }
    in_environment(|environment| async {
        let world = environment
            .world(&case("main.cf smtpd_banner = x"))
            .await
            .unwrap();
        // Its configuration folder, and nothing else here, is named on its command line.
        let (queue, _) = world
            .facts()
            .maildir_root
            .unwrap()
            .to_str()
            .unwrap()
            .rsplit_once('/')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        let found = std::process::Command::new("pgrep")
            .args(["-f", &format!("serve --config {queue}/config")])
            .output()
            .unwrap();
        let pid = String::from_utf8(found.stdout).unwrap();
        std::process::Command::new("kill")
            .args(["-s", "KILL", pid.trim()])
            .status()
            .unwrap();
        env_support::eventually("the crash is seen", || world.crashed().is_some());
        let crash = world.crashed().unwrap();
        assert!(
            crash.starts_with("the target was ended by signal 9. Its log: "),
            "{crash}"
        );
        assert!(crash.contains("listening on"), "{crash}");
        world.dispose().await.unwrap();
        environment
    });
}

#[test]
fn a_configuration_that_the_target_refuses_is_said_with_its_own_words() {
    if !again(
        "a_configuration_that_the_target_refuses_is_said_with_its_own_words",
        &[SERVER],
    ) {
        return;
    }
    in_environment(|environment| async {
        let header = "main.cf smtpd_recipient_restrictions = permit_everything_please";
        let why = environment.world(&case(header)).await.unwrap_err();
        assert!(
            why.contains("did not start: ended with exit status"),
            "{why}"
        );
        assert!(why.contains("permit_everything_please"), "{why}");
        environment
    });
}

#[test]
fn the_statements_of_a_file_end_with_its_lines() {
    let seed = statements(fixtures::file("sql/seed.sql").unwrap());
    assert_eq!(seed.len(), 4);
    assert!(
        seed.iter()
            .all(|statement| statement.starts_with("INSERT INTO ") && statement.ends_with(')'))
    );
    assert_eq!(
        statements("-- a;\nSELECT ';'\n, 2;\n\nSELECT 3"),
        ["SELECT ';'\n, 2", "SELECT 3"]
    );
}

#[test]
fn literal_names_are_the_tutorials_and_leave_its_rows_as_they_are() {
    let seed = statements(fixtures::file("sql/seed.sql").unwrap());
    assert_eq!(Names::new(7, "4f", true).seed(&seed), seed);
    let own = Names::new(7, "4f", false).seed(&seed).join("\n");
    assert!(!own.contains(".com"), "{own}");
    assert!(
        own.contains("'t7.4f.test', 'smtp:mail.t7.4f.test'"),
        "{own}"
    );
}
