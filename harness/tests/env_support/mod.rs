//! What the tests of the environment share.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod database;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Set in the processes that `again` starts.
const INSIDE: &str = "VMAILSPEC_TEST_INSIDE";

/// Are we the process that a test started of itself?
pub(crate) fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs the test `name` in a process of its own with these variables; true in that process.
///
/// Variables of a running process cannot be set without `unsafe`, and other tests would see them.
pub(crate) fn again(name: &str, variables: &[(&str, &str)]) -> bool {
    if inside() {
        return true;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // A name that no test has would run nothing, and well.
    let ran = output.status.success() && said.contains("1 passed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(ran, "{name}: {}\n{said}{errors}", output.status);
    false
}

/// Waits for an event that nothing tells of; twenty seconds are the limit.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// How many processes name a folder on their command line or in their environment's TMPDIR.
pub(crate) fn processes_about(folder: &Path) -> usize {
    let folder = folder.to_str().unwrap().as_bytes();
    let mentions = |file: &Path| {
        std::fs::read(file)
            .is_ok_and(|text| text.windows(folder.len()).any(|window| window == folder))
    };
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    processes
        .filter(|entry| {
            entry
                .file_name()
                .to_str()
                .is_some_and(|name| name.parse::<u32>().is_ok())
        })
        .filter(|entry| {
            mentions(&entry.path().join("cmdline")) || mentions(&entry.path().join("environ"))
        })
        .count()
}
