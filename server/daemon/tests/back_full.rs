//! A queue whose disk is full, on a small file system of its own. Only root may mount one: where the test
//! cannot run it is listed as ignored, with the reason.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that cannot go on may panic; reasons are for whoever reads the output"
)]

mod front;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use front::{Server, Setup};
use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("not run: a full disk: only root may mount one");
    }
    let trial = Trial::test("a_full_queue_says_452_and_loses_nothing", || {
        a_full_queue_says_452_and_loses_nothing();
        Ok(())
    });
    let trials = vec![trial.with_ignored_flag(!root)];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A small file system, gone when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path, size: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=700,uid=65534,gid=65534");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at);
        assert!(mount.status().unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Sends a message of 64 KiB, and says what came at its end.
fn send(server: &Server) -> String {
    let mut client = server.greeted();
    client.says("MAIL FROM:<friend@ext.example>", "250");
    client.says("RCPT TO:<address@mydomain.com>", "250");
    client.says("DATA", "354");
    let text = "a line of thirty-two octets, CRLF\r\n".repeat(2100);
    client.send(&format!("Subject: probe\r\n\r\n{text}.\r\n"));
    client.reply()
}

fn wait_for_mail(server: &Server, count: usize) {
    server.wait_for(&format!("mail number {count} and an empty queue"), || {
        let new = server.files("vmail/mydomain.com/address/new").len();
        new == count && server.files("queue").is_empty()
    });
}

fn a_full_queue_says_452_and_loses_nothing() {
    let setup = Setup::new().main_cf(
        "message_size_limit = 0\nminimal_backoff_time = 1s\nmaximal_backoff_time = 1s\n\
         queue_run_delay = 1s",
    );
    setup.sql(
        "UPDATE users SET quota = 0;
         INSERT INTO transport VALUES ('address@mydomain.com', 'nosuch:x')",
    );
    let _disk = Disk::mount(&setup.path().join("queue"), "2m");
    let server = setup.start();
    let mut taken = 0;
    let refusal = loop {
        let reply = send(&server);
        if !reply.starts_with("250") {
            break reply;
        }
        taken += 1;
        assert!(taken < 100, "two megabytes hold no hundred of these");
    };
    assert!(refusal.starts_with("452 4.3.1 "), "{refusal}");
    assert!(taken > 10, "{taken}");
    server.setup.sql("DELETE FROM transport");
    wait_for_mail(&server, taken);
    assert!(send(&server).starts_with("250"));
    wait_for_mail(&server, taken + 1);
}
