//! Whatever a run started is gone when the run is, however it ended.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests may, as tests do"
)]
#![cfg(target_os = "linux")]

mod env_support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use env_support::{eventually, inside};
use vmailspec::environment::reaper::{FOLDER_PREFIX, Reaper, RunFolder};

/// This test again, in a process of its own that may be killed; its first line of output.
fn owner(test: &str) -> (Child, String, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env("VMAILSPEC_TEST_INSIDE", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("> ") {
        line.clear();
        assert!(
            output.read_line(&mut line).unwrap() > 0,
            "the owner ended early"
        );
    }
    (
        child,
        line.trim_start_matches("> ").trim().to_owned(),
        output,
    )
}

#[expect(clippy::print_stdout, reason = "the test that started us reads it")]
fn wait_to_be_killed(said: &str) -> ! {
    println!("\n> {said}");
    loop {
        std::thread::park();
    }
}

#[test]
#[expect(clippy::zombie_processes, reason = "its parent is killed before it")]
fn a_process_ends_when_its_owner_is_killed() {
    if inside() {
        // It inherits our output: that is closed when the last of us is gone.
        let watch = Reaper::watch_group().unwrap();
        let child = Command::new("sleep")
            .arg("600")
            .process_group(watch.group())
            .spawn()
            .unwrap();
        wait_to_be_killed(&child.id().to_string());
    }
    let (mut owner, child, mut output) = owner("a_process_ends_when_its_owner_is_killed");
    assert!(Path::new("/proc").join(&child).exists());
    owner.kill().unwrap();
    owner.wait().unwrap();
    // The end of the pipe is the proof; `sleep 600` alone would hold it for ten minutes.
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).unwrap();
}

#[test]
fn the_run_folder_is_gone_when_its_owner_is_killed() {
    if inside() {
        let folder = RunFolder::new(false).unwrap();
        std::fs::write(folder.path().join("file"), "x").unwrap();
        wait_to_be_killed(folder.path().to_str().unwrap());
    }
    let (mut owner, folder, _output) = owner("the_run_folder_is_gone_when_its_owner_is_killed");
    let folder = PathBuf::from(folder);
    assert!(folder.join("file").exists());
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("the folder is gone", || !folder.exists());
}

#[test]
fn a_dropped_watch_runs_its_command_with_its_words_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a 'b' \"c\" $(touch d); \n e");
    let watch = Reaper::watch(&["touch".as_ref(), file.as_os_str()]).unwrap();
    assert!(!file.exists());
    drop(watch);
    assert!(file.exists());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_released_watch_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    Reaper::watch(&["touch".as_ref(), file.as_os_str()])
        .unwrap()
        .release();
    assert!(!file.exists());
}

#[rstest::rstest]
#[case("/")]
#[case("/tmp")]
#[case("vmailspec-relative")]
#[case("/tmp/vmailspec-x/..")]
fn what_is_no_run_folder_is_never_watched(#[case] path: &str) {
    assert!(Reaper::watch_folder(Path::new(path)).is_err());
}

#[test]
fn a_run_folder_is_named_so_and_others_can_pass_through_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = RunFolder::new(false).unwrap();
    let name = folder
        .path()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    assert!(name.starts_with(FOLDER_PREFIX));
    assert_eq!(
        folder.path().metadata().unwrap().permissions().mode() & 0o777,
        0o711
    );
    let path = folder.path().to_owned();
    drop(folder);
    assert!(!path.exists());
}

/// A whole run: target, folder, and whatever else it has.
#[rstest::rstest]
#[case("KILL")]
#[case("INT")]
#[case("TERM")]
fn nothing_is_left_of_a_run_that_was_ended_by_a_signal(#[case] signal: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let place = tempfile::tempdir().unwrap();
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_vmailspec"))
        .args(["run", "--database", "embedded", "--jobs", "1"])
        .env("TMPDIR", place.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the target runs", || {
        // vmailspec, who watches the folder, who watches the target, and the target.
        env_support::processes_about(place.path()) > 3
    });
    let killed = Command::new("kill")
        .args(["-s", signal, &run.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    run.wait().unwrap();
    eventually("no process is left", || {
        env_support::processes_about(place.path()) == 0
    });
    eventually("no file is left", || {
        std::fs::read_dir(place.path()).unwrap().count() == 0
    });
}
