//! The whole suite against the reference server, and what the environment promises of a database:
//! on SQLite always, on MySQL and MariaDB wherever they can be had.
//!
//! What cannot run here is listed as ignored, with the reason, and never counted as passed. Where
//! `VMAILSPEC_REQUIRE_DATABASE` is set, the image of `VMAILSPEC_DATABASE_IMAGE` has to be there.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on may panic; reasons are for whoever reads the output"
)]

mod env_support;

use std::env::var;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use env_support::database::{holds_the_tables, start};
use libtest_mimic::{Arguments, Failed, Trial};
use vmailspec::environment::EnvironmentError;
use vmailspec::environment::database::local;

/// MySQL as users pull it, and as `ci/images` builds it and MariaDB.
const IMAGES: [&str; 3] = [
    "mysql:8.4",
    "vmailspec/mysql:9.7-debian",
    "vmailspec/mariadb:10.11-debian",
];
/// A name under a TLD that never exists (RFC 2606).
const NOWHERE: &str = "registry.invalid/no-such:image";

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each test of the whole suite uses all that the machine has.
    arguments.test_threads = Some(1);
    let mut trials = vec![Trial::test(
        "every_clause_holds_on_the_embedded_database",
        || the_suite_holds("embedded", None),
    )];
    trials.extend(on_this_machine());
    trials.extend(in_containers());
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

fn on_this_machine() -> Vec<Trial> {
    let names = [
        "every_clause_holds_on_a_private_server_of_this_machine",
        "a_private_server_of_this_machine_holds_the_tables",
    ];
    if local::find("mysqld")
        .or_else(|| local::find("mariadbd"))
        .is_none()
    {
        let why = "neither mysqld nor mariadbd is on this machine";
        return names.map(|name| cannot_run(name, why)).into();
    }
    vec![
        Trial::test(names[0], || the_suite_holds("local", None)),
        Trial::test(names[1], || tables_hold("local", "")),
    ]
}

fn in_containers() -> Vec<Trial> {
    let required = var("VMAILSPEC_REQUIRE_DATABASE").is_ok_and(|value| !value.is_empty());
    let chosen = var("VMAILSPEC_DATABASE_IMAGE").ok();
    let mut images: Vec<String> = IMAGES.map(str::to_owned).into();
    if let Some(chosen) = &chosen
        && !images.contains(chosen)
    {
        images.push(chosen.clone());
    }
    let mut trials = Vec::new();
    for image in images {
        let suite = format!("every_clause_holds_on_{image}_in_a_container");
        let tables = format!("{image}_in_a_container_holds_the_tables");
        let gone = format!("{image}_killed_in_the_middle_of_a_run_is_no_fault_of_the_target");
        let must_be_here = required && chosen.as_ref() == Some(&image);
        match missing(&image) {
            Some(why) if !must_be_here => {
                trials.extend([&suite, &tables, &gone].map(|name| cannot_run(name, &why)));
            }
            // Here, or demanded: then it fails, and says why.
            _ => {
                let (one, other, third) = (image.clone(), image.clone(), image);
                trials.push(Trial::test(suite, move || {
                    the_suite_holds("docker", Some(&one))
                }));
                trials.push(Trial::test(tables, move || tables_hold("docker", &other)));
                trials.push(Trial::test(gone, move || gone_is_said(&third)));
            }
        }
    }
    let name = "an_image_that_cannot_be_had_is_said_in_one_line";
    trials.push(match docker(&["version"]) {
        Ok(()) => Trial::test(name, an_absent_image_is_said),
        Err(why) => cannot_run(name, &why),
    });
    trials
}

fn docker(words: &[&str]) -> Result<(), String> {
    if !cfg!(feature = "docker") {
        return Err("built without the feature `docker`".into());
    }
    let output = Command::new("docker")
        .args(words)
        .output()
        .map_err(|error| format!("docker: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err("no Docker engine answers".into())
    }
}

/// Why an image cannot be used here.
fn missing(image: &str) -> Option<String> {
    docker(&["version"])
        .and_then(|()| {
            docker(&["image", "inspect", image])
                .map_err(|_| "the image is not on this machine's engine".into())
        })
        .err()
}

/// The run as a user starts it; its output is shown when it is not all right.
fn the_suite_holds(database: &str, image: Option<&str>) -> Result<(), Failed> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmailspec"));
    command.args(["run", "--database", database]);
    if let Some(image) = image {
        command.args(["--database-image", image]);
    }
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    eprintln!("{database}: {}", said.lines().last().unwrap_or_default());
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}\n{said}\n{errors}", output.status).into())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

fn tables_hold(database: &str, image: &str) -> Result<(), Failed> {
    runtime().block_on(async {
        let (database, _, _folder) = start(database, image).await;
        holds_the_tables(database.map_err(|error| error.to_string())?).await;
        Ok(())
    })
}

/// The container is killed after the first cases: what was not seen is blocked, nothing is broken.
fn gone_is_said(image: &str) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    // Of all containers, only this run's bears this name of the image.
    let name = format!("vmailspec/killed:{}", std::process::id());
    docker(&["tag", image, &name])?;
    let mut child = Command::new(env!("CARGO_BIN_EXE_vmailspec"))
        .args(["run", "--database", "docker", "--database-image", &name])
        .args(["tutorial/auth-*", "tutorial/literal*"])
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .spawn()?;
    let out = child.stdout.take().ok_or("no output")?;
    let mut lines = BufReader::new(out).lines();
    let mut text = String::new();
    for line in lines.by_ref() {
        text += &(line? + "\n");
        if text.ends_with(" ms\n") {
            break;
        }
    }
    let running = Command::new("docker")
        .args(["ps", "--format", "{{.Image}} {{.ID}}"])
        .output()?;
    let running = String::from_utf8(running.stdout)?;
    let ours = running
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name} ")));
    docker(&["kill", ours.ok_or("no container of this run")?])?;
    for line in lines {
        text += &(line? + "\n");
    }
    let status = child.wait()?;
    docker(&["rmi", &name])?;
    if status.code() != Some(3) || !text.contains("the run's database is gone") {
        return Err(format!("{status}\n{text}").into());
    }
    Ok(())
}

fn an_absent_image_is_said() -> Result<(), Failed> {
    let begun = Instant::now();
    let (database, _, _folder) = runtime().block_on(start("docker", NOWHERE));
    let Err(EnvironmentError::Unavailable(text)) = database else {
        return Err("there is one?".into());
    };
    let begins =
        format!("--database docker: the image {NOWHERE} is not here and cannot be pulled (");
    if !text.starts_with(&begins) || text.lines().count() != 1 {
        return Err(text.into());
    }
    if begun.elapsed() > Duration::from_mins(1) {
        return Err(format!("it took {:?}", begun.elapsed()).into());
    }
    Ok(())
}
