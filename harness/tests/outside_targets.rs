//! Targets that run already, whose database, seeding command, Maildirs and next hops vmailspec may
//! use: on SQLite by a seeding command always, on MySQL and MariaDB wherever they can be had.
//!
//! This program is the seeding command as well: `outside_targets seed DATABASE`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on may panic; reasons are for whoever reads the output"
)]

mod outside_support;

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use outside_support::fake::{Fake, Kind};
use outside_support::{Result as Ran, Theirs, command, run, said, sqlite, vmailspec};
use rusqlite::Connection;
use vmailspec::environment::database::docker::Container;
use vmailspec::environment::database::mysql::Mysql;
use vmailspec::environment::names::statements;
use vmailspec::environment::template::Tables;

/// A little of everything: rows, Maildirs, next hops, the queue, bounces.
const SOME: [&str; 7] = [
    "tutorial/data*",
    "tutorial/maildir*",
    "tutorial/recipients*",
    "tutorial/transport*",
    "tutorial/next-hop*",
    "aliases/*",
    "smuggling/*",
];
const SEES_ALL: &str =
    "\"database\", \"maildir\", \"owner\", \"log\", \"queue\", \"sink\", \"quota\"";
const SEES_MAIL: &str = "\"maildir\", \"log\", \"queue\", \"sink\"";
const IMAGES: [&str; 2] = [
    "vmailspec/mysql:9.7-debian",
    "vmailspec/mariadb:10.11-debian",
];
/// With what a URL has to escape.
const PASSWORD: &str = "s3cr/t@pw";
const WRITTEN: &str = "s3cr%2Ft%40pw";

/// A test with a database server of somebody else's.
type OnDatabase = fn(&Served) -> Result<(), Failed>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, word, database] = words.as_slice()
        && word == "seed"
    {
        seed(Path::new(database));
        return ExitCode::SUCCESS;
    }
    let mut arguments = Arguments::from_args();
    // Each starts a server and a run.
    arguments.test_threads = Some(2);
    let mut trials = vec![
        Trial::test("a_seeding_command_is_enough_for_rows", seeded),
        Trial::test("a_run_that_is_interrupted_leaves_nothing", interrupted),
        Trial::test("maildirs_are_read_by_a_command_as_ssh_would", by_a_shell),
        Trial::test(
            "what_a_clause_cannot_see_is_unsupported_and_the_rest_is_judged",
            partly,
        ),
        Trial::test("mail_goes_to_no_domain_that_is_not_named", named_only),
        Trial::test("what_stays_in_the_queue_is_named_or_deleted", put_off),
    ];
    for image in IMAGES {
        let tests: [(&str, OnDatabase); 3] = [
            ("a_mysql_url_is_enough_for_everything", by_url),
            ("what_is_wrong_with_a_database_is_said", bad_databases),
            ("an_interrupted_run_leaves_no_row", interrupted_by_url),
        ];
        for (name, test) in tests {
            let name = format!("{name} ({image})");
            trials.push(match missing(image) {
                Some(why) => cannot_run(&name, &why),
                None => Trial::test(name, move || with_database(image, test)),
            });
        }
    }
    let name = "maildirs_are_read_by_docker_exec";
    trials.push(match missing(IMAGES[1]) {
        Some(why) => cannot_run(name, &why),
        None => Trial::test(name, by_docker_exec),
    });
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Listed as ignored, its reason said.
fn cannot_run(name: &str, why: &str) -> Trial {
    eprintln!("not run: {name}: {why}");
    Trial::test(format!("{name} (not run: {why})"), || {
        Err("this cannot run here".into())
    })
    .with_ignored_flag(true)
}

/// Why an image cannot be used here.
fn missing(image: &str) -> Option<String> {
    if std::env::var("VMAILSPEC_REQUIRE_DATABASE").is_ok_and(|value| !value.is_empty()) {
        // Then it fails, and says why.
        return None;
    }
    if !cfg!(feature = "docker") {
        return Some("built without the feature `docker`".into());
    }
    let docker = |words: &[&str]| {
        let output = Command::new("docker").args(words).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !docker(&["version"]) {
        return Some("no Docker engine answers".into());
    }
    (!docker(&["image", "inspect", image]))
        .then(|| "the image is not on this machine's engine".into())
}

/// What a user's command makes of the JSON.
fn seed(database: &Path) {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).unwrap();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut database = Connection::open(database).unwrap();
    database.busy_timeout(Duration::from_secs(10)).unwrap();
    // Whoever writes keeps the server from reading: for as short a time as can be.
    database.pragma_update(None, "synchronous", "OFF").unwrap();
    let change = database.transaction().unwrap();
    for (table, rows) in document["add"].as_object().into_iter().flatten() {
        for row in rows.as_array().unwrap() {
            let row = row.as_object().unwrap();
            let columns: Vec<&str> = row.keys().map(String::as_str).collect();
            let values = row.values().map(|value| match value.as_str() {
                Some(text) => format!("'{}'", text.replace('\'', "''")),
                None => value.to_string(),
            });
            let values: Vec<String> = values.collect();
            let insert = format!(
                "INSERT INTO {table} ({}) VALUES ({})",
                columns.join(", "),
                values.join(", ")
            );
            change.execute_batch(&insert).unwrap();
        }
    }
    for name in document["remove"]["names"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap();
        for (table, key) in [
            ("domains", "domain"),
            ("forwardings", "email"),
            ("transport", "domain"),
            ("users", "email"),
        ] {
            let delete =
                format!("DELETE FROM {table} WHERE {key} = '{name}' OR {key} LIKE '%@{name}'");
            change.execute_batch(&delete).unwrap();
        }
    }
    change.commit().unwrap();
}

fn seeding(theirs: &Theirs) -> String {
    let program = std::env::current_exe().unwrap();
    format!(
        "[database]\nseed = [\"{}\", \"seed\", \"{}\"]",
        program.display(),
        theirs.path("mail.sqlite").display()
    )
}

fn on_sqlite() -> Theirs {
    Theirs::start(|folder| Tables::Sqlite(sqlite(folder, "mail.sqlite")))
}

fn nothing_is_left(theirs: &Theirs) -> Result<(), Failed> {
    // What the server took last may be on its way there.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !theirs.left().is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    let left = theirs.left();
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("left behind: {left:?}").into())
    }
}

fn is_good(ran: &Ran, at_least: u64) -> Result<(), Failed> {
    let bad = ran.count("broken") + ran.count("blocked") + ran.count("unreached");
    if ran.code == Some(0) && bad == 0 && ran.count("held") >= at_least {
        Ok(())
    } else {
        Err(ran.text.clone().into())
    }
}

fn seeded() -> Result<(), Failed> {
    let theirs = on_sqlite();
    let target = theirs.describe(SEES_MAIL, &seeding(&theirs), "");
    let target = target.to_str().unwrap();
    let doctor = vmailspec(&["doctor", "--target", target]);
    let text = said(&doctor);
    for key in [
        "fits   listen.smtp ",
        "fits   listen.certificates",
        "fits   listen.smtps",
        "fits   database.seed",
        "fits   maildirs",
        "fits   clients.stranger",
        "fits   clients.neighbour",
        "fits   sink",
        "fits   log",
        "fits   queue",
    ] {
        assert!(text.contains(key), "{key}: {text}");
    }
    assert_eq!(doctor.status.code(), Some(0), "{text}");
    let ran = run(&[
        &["--target", target, "--intrusive", "--jobs", "3"],
        &SOME[..],
    ]
    .concat());
    is_good(&ran, 150)?;
    // What wants another row than those that come with each case.
    assert!(ran.reasons().contains(&"needs database"), "{}", ran.text);
    assert_eq!(outside_support::rows(&theirs.path("mail.sqlite")), 0);
    nothing_is_left(&theirs)
}

/// Interrupts a run on `target` as soon as `begun` says so.
fn interrupt(theirs: &Theirs, target: &str, begun: impl Fn() -> bool) {
    let mut run = command(&["run", "--target", target, "--intrusive"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    theirs.eventually("rows of a case are there", begun);
    let pid = rustix::process::Pid::from_child(&run);
    // As a terminal does it: everything that the run started hears it, too.
    rustix::process::kill_process_group(pid, rustix::process::Signal::INT).unwrap();
    // Read to its end, so that it does not wait for us.
    let mut text = String::new();
    run.stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    let status = run.wait().unwrap();
    assert_eq!(status.code(), Some(130), "{text}");
    assert!(text.contains("interrupted"), "{text}");
}

fn interrupted() -> Result<(), Failed> {
    let theirs = on_sqlite();
    let target = theirs.describe(SEES_MAIL, &seeding(&theirs), "");
    let database = theirs.path("mail.sqlite");
    // More than the canary's.
    interrupt(&theirs, target.to_str().unwrap(), || {
        outside_support::rows(&database) > 8
    });
    assert_eq!(outside_support::rows(&database), 0);
    nothing_is_left(&theirs)
}

fn by_a_shell() -> Result<(), Failed> {
    let theirs = on_sqlite();
    // As ssh does it: the words become one line for a shell.
    let far = theirs.path("far");
    std::fs::write(&far, "#!/bin/sh\nshift\nexec sh -c \"$*\"\n").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&far, executable).unwrap();
    let by = format!("command = [\"{}\", \"mail\"]", far.display());
    let target = theirs.describe("\"maildir\"", &seeding(&theirs), &by);
    let words = [
        "--target",
        target.to_str().unwrap(),
        "tutorial/maildir*",
        "tutorial/data*",
    ];
    let ran = run(&words);
    is_good(&ran, 8)?;
    assert_eq!(outside_support::rows(&theirs.path("mail.sqlite")), 0);
    nothing_is_left(&theirs)
}

fn by_docker_exec() -> Result<(), Failed> {
    let theirs = on_sqlite();
    let name = format!("vmailspec-test-{}", std::process::id());
    let volume = format!("{0}:{0}", theirs.path("vmail").display());
    let started = Command::new("docker")
        .args([
            "run", "--detach", "--rm", "--name", &name, "--volume", &volume,
        ])
        .args(["--entrypoint", "sleep", IMAGES[1], "600"])
        .output()
        .unwrap();
    assert!(started.status.success(), "{}", said(&started));
    let by = format!("command = [\"docker\", \"exec\", \"--interactive\", \"{name}\"]");
    let target = theirs.describe("\"maildir\"", &seeding(&theirs), &by);
    let ran = run(&["--target", target.to_str().unwrap(), "tutorial/maildir*"]);
    let ended = Command::new("docker")
        .args(["rm", "--force", &name])
        .output();
    assert!(ended.unwrap().status.success());
    is_good(&ran, 4)?;
    nothing_is_left(&theirs)
}

/// Of a server of which only replies are seen, clauses beside those that look into Maildirs.
fn partly() -> Result<(), Failed> {
    let theirs = on_sqlite();
    let target = theirs.describe("", &seeding(&theirs), "");
    let target = target.to_str().unwrap();
    let ran = run(&[
        "--target",
        target,
        "tutorial/session-noop",
        "tutorial/maildir-form",
    ]);
    let verdict = |id: &str| {
        ran.verdicts()
            .find(|(one, _)| *one == id)
            .unwrap()
            .1
            .to_owned()
    };
    assert_eq!(verdict("seq.noop-anytime"), "held", "{}", ran.text);
    let unsupported = ran
        .verdicts()
        .filter(|(_, verdict)| *verdict == "unsupported");
    assert!(unsupported.count() > 1, "{}", ran.text);
    assert!(ran.reasons().contains(&"needs maildir"), "{}", ran.text);
    assert!(ran.text.contains("needs maildir"), "{}", ran.text);
    is_good(&ran, 2)
}

/// Mail that the next hop put off, and that its server keeps when the run has ended.
const PUT_OFF: &str = "title   x
from    neighbour
needs   sink queue

sink answers RCPT <user@$transport> 451 4.3.0 later

C: MAIL FROM:<friend@$sender>
S: 250
C: RCPT TO:<user@$transport>
S: 250
C: DATA
S: 354
message
S: 250

MUST    route.sink-4xx-retry   rfc5321#4.5.4.1   what is put off is kept
queue 1 message
";

fn put_off() -> Result<(), Failed> {
    let theirs = on_sqlite();
    let target = theirs.describe(SEES_MAIL, &seeding(&theirs), "");
    let case = theirs.path("put-off.case");
    std::fs::write(&case, PUT_OFF).unwrap();
    let (target, case) = (target.to_str().unwrap(), case.to_str().unwrap());
    let ran = run(&["--target", target, "--scenarios", case]);
    is_good(&ran, 1)?;
    let kept = "the server's queue still holds 1 of this run's messages";
    assert!(ran.text.contains(kept), "{}", ran.text);
    let ran = run(&["--target", target, "tutorial/session-noop"]);
    assert!(!ran.text.contains("queue still holds"), "{}", ran.text);
    let queue = theirs.path("queue");
    let delete = format!(
        "queue_delete = [\"find\", \"{}\", \"-name\", \"{{id}}\", \"-delete\"]",
        queue.display()
    );
    let deletes = std::fs::read_to_string(target).unwrap();
    let deletes = deletes.replacen("[listen]", &format!("{delete}\n[listen]"), 1);
    let deleting = theirs.path("deleting.toml");
    std::fs::write(&deleting, deletes).unwrap();
    let ran = run(&["--target", deleting.to_str().unwrap(), "--scenarios", case]);
    is_good(&ran, 1)?;
    assert!(!ran.text.contains("queue still holds"), "{}", ran.text);
    Ok(())
}

/// A server that would send on whatever it is given.
fn named_only() -> Result<(), Failed> {
    let fake = Fake::start(Kind::TakesAll);
    let url = format!("smtp://me%40mail.example:word@{}", fake.address);
    let ran = run(&[&url, "--intrusive"]);
    assert_eq!(ran.code, Some(1), "{}", ran.text);
    let taken = fake.taken.lock().unwrap();
    assert!(taken.len() > 20, "{taken:?}");
    for rcpt in taken.iter() {
        let address = rcpt.split(['<', '>']).nth(1).unwrap_or(rcpt);
        let is_named = address.to_ascii_lowercase().ends_with("@mail.example")
            && !address.contains(['%', '!']);
        if !is_named && address.contains('@') {
            return Err(format!("a message left for {rcpt}").into());
        }
    }
    Ok(())
}

/// A database server of somebody else's, and a mail server on it.
struct Served {
    theirs: Theirs,
    root: Mysql,
    host: String,
    runtime: tokio::runtime::Runtime,
}

impl Served {
    fn rows(&self) -> usize {
        let select = "SELECT domain FROM mail.domains UNION ALL SELECT email FROM mail.users \
                      UNION ALL SELECT email FROM mail.forwardings UNION ALL SELECT domain FROM mail.transport";
        self.runtime.block_on(self.root.count(select)).unwrap()
    }

    fn url(&self, user: &str, password: &str, database: &str) -> String {
        format!("mysql://{user}:{password}@{}/{database}", self.host)
    }

    fn describe(&self, url: &str) -> String {
        std::fs::write(self.theirs.path("url"), url).unwrap();
        let rows = "[database]\nurl = { file = \"url\" }";
        let file = self.theirs.describe(SEES_ALL, rows, "");
        file.to_str().unwrap().to_owned()
    }
}

fn with_database(
    image: &str,
    test: impl FnOnce(&Served) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let container = runtime.block_on(Container::start(image, &|_| {}))?;
    let (root, host) = (container.mysql(), container.host());
    let schema = vmailspec::fixtures::file("sql/schema.sql").unwrap();
    let schema = statements(schema).join(";\n");
    let made = async {
        for database in ["mail", "another"] {
            root.execute(&format!("CREATE DATABASE {database}")).await?;
            root.of(database).execute(&schema).await?;
        }
        root.execute(&format!(
            "CREATE DATABASE bare; CREATE USER reader@'%' IDENTIFIED BY 'reads'; \
             GRANT SELECT ON mail.* TO reader@'%'; \
             CREATE USER admin@'%' IDENTIFIED BY '{PASSWORD}'; GRANT ALL ON *.* TO admin@'%'"
        ))
        .await
    };
    runtime.block_on(made)?;
    let tables = Tables::Mysql {
        host: host.clone(),
        user: "reader".to_owned(),
        password: "reads".to_owned(),
        database: "mail".to_owned(),
    };
    let served = Served {
        theirs: Theirs::start(|_| tables),
        root,
        host,
        runtime,
    };
    let result = test(&served);
    let Served { runtime, root, .. } = served;
    runtime.block_on(async {
        root.disconnect().await;
        container.stop().await;
    });
    result
}

fn by_url(served: &Served) -> Result<(), Failed> {
    let target = served.describe(&served.url("admin", WRITTEN, "mail"));
    let doctor = vmailspec(&["doctor", "--target", &target]);
    let text = said(&doctor);
    assert_eq!(doctor.status.code(), Some(0), "{text}");
    let open = text.lines().any(|line| line.starts_with("open"));
    assert!(!text.contains("WRONG") && !open, "{text}");
    // Every case there is: with the database that is all but what only a server of the run's own can be put to.
    let ran = run(&["--target", &target, "--intrusive"]);
    is_good(&ran, 1500)?;
    let text = format!("{}{}", ran.text, ran.json);
    assert!(
        !text.contains(PASSWORD) && !text.contains(WRITTEN),
        "{text}"
    );
    assert_eq!(served.rows(), 0);
    nothing_is_left(&served.theirs)
}

fn bad_databases(served: &Served) -> Result<(), Failed> {
    let mut lines = Vec::new();
    for (what, url) in [
        ("a wrong password", served.url("admin", "wr0ng", "mail")),
        (
            "a database that is not there",
            served.url("admin", WRITTEN, "nowhere"),
        ),
        (
            "a database without the tables",
            served.url("admin", WRITTEN, "bare"),
        ),
        (
            "a user who may only read",
            served.url("reader", "reads", "mail"),
        ),
        (
            "another database than the server's",
            served.url("admin", WRITTEN, "another"),
        ),
    ] {
        let target = served.describe(&url);
        let ran = run(&["--target", &target, "tutorial/data"]);
        assert_eq!(ran.code, Some(3), "{what}: {}", ran.text);
        for secret in [PASSWORD, WRITTEN, "wr0ng", "reads"] {
            assert!(!ran.text.contains(secret), "{what}: {}", ran.text);
        }
        let text = ran.text.trim_end().replace(&served.host, "HOST:PORT");
        assert_eq!(text.lines().count(), 1, "{what}: {text}");
        lines.push((what, text));
    }
    for ((what, line), has) in lines.iter().zip([
        "vmailspec: database: mysql://admin:***@HOST:PORT/mail: ",
        "vmailspec: database: mysql://admin:***@HOST:PORT/nowhere: ",
        "vmailspec: database: mysql://admin:***@HOST:PORT/bare: the table domains with the columns domain is not there",
        "vmailspec: database: no row can be written (",
        "database another: the server does not see a row that was written there (RCPT was answered ",
    ]) {
        assert!(line.contains(has), "{what}: {line}");
    }
    assert_eq!(served.rows(), 0);
    nothing_is_left(&served.theirs)
}

fn interrupted_by_url(served: &Served) -> Result<(), Failed> {
    let target = served.describe(&served.url("admin", WRITTEN, "mail"));
    interrupt(&served.theirs, &target, || served.rows() > 8);
    assert_eq!(served.rows(), 0);
    nothing_is_left(&served.theirs)
}
