//! `vmailspec init`: writes the description of a server that runs already, with comments.
//!
//! By flags; what they leave out is asked for where a person sits at the terminal.

use std::fmt::Write as _;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Ended, Failed, complain, print};
use crate::environment::Description;
use crate::environment::outside::Place;
use crate::exit_code::ExitCode;

/// `vmailspec init`
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Init {
    /// The file to write, that is not there yet; none: standard output
    file: Option<PathBuf>,
    /// What reports call the server
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where it listens, port 25
    #[arg(long, value_name = "HOST:PORT")]
    smtp: Option<String>,
    /// Where it listens, port 465
    #[arg(long, value_name = "HOST:PORT")]
    smtps: Option<String>,
    /// public, any, or the file of its certificate's authority
    #[arg(long, value_name = "WORD|FILE")]
    certificates: Option<String>,
    /// Its database, mysql://user@host:port/database; the variable VMAILSPEC_DATABASE_URL then holds it with the password
    #[arg(long, value_name = "URL", conflicts_with_all = ["seed", "account"])]
    database: Option<String>,
    /// A command that brings rows, told as JSON, to the server
    #[arg(long, value_name = "COMMAND", conflicts_with = "account")]
    seed: Option<String>,
    /// An account that exists; the variable VMAILSPEC_PASSWORD then holds its password
    #[arg(long, value_name = "ADDRESS")]
    account: Option<String>,
    /// virtual_mailbox_base, the folder of its Maildirs
    #[arg(long, value_name = "PATH")]
    maildirs: Option<String>,
    /// What runs a program where that folder is: "docker exec -i mail", "ssh mail"
    #[arg(long, value_name = "COMMAND", requires = "maildirs")]
    maildirs_command: Option<String>,
    /// An address of this machine that is in its mynetworks
    #[arg(long, value_name = "ADDRESS")]
    neighbour: Option<String>,
    /// It keeps the quota of the table users
    #[arg(long)]
    quota: bool,
}

/// Writes the file, or shows it.
pub(super) fn init(mut said: Init) -> Ended {
    let usage = |text: String| Failed::new(ExitCode::Usage, text);
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        ask_all(&mut said);
    }
    if said.smtp.is_none() && said.smtps.is_none() {
        return Err(usage(
            "expected --smtp HOST:PORT, --smtps HOST:PORT or both".into(),
        ));
    }
    for place in said.smtp.iter().chain(&said.smtps) {
        if Place::parse(place).is_none() {
            return Err(usage(format!("`{place}`: expected HOST:PORT")));
        }
    }
    let text = text(&said);
    check(&said, &text).map_err(usage)?;
    let Some(file) = &said.file else {
        print(&text);
        return Ok(ExitCode::Held);
    };
    // For its owner alone: somebody will write a password into it.
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut to| to.write_all(text.as_bytes()));
    written.map_err(|error| usage(format!("{}: {error}", file.display())))?;
    print(&format!(
        "{} is written. Next: vmailspec doctor --target {}\n",
        file.display(),
        file.display()
    ));
    Ok(ExitCode::Held)
}

/// What is written is read again, with stand-ins for secrets and files that are not here.
fn check(said: &Init, text: &str) -> Result<(), String> {
    let text: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("env = "))
        .collect();
    let mut text = text.join("\n");
    if said.database.is_some() {
        text = text.replace("[database]", "[database]\nurl = \"mysql://u@h/d\"");
    }
    if said.account.is_some() {
        text = text.replace("[accounts]", "[accounts]\npassword = \"x\"");
    }
    let text: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("certificates"))
        .collect();
    Description::parse(&text.join("\n"), Path::new(""))
        .map(|_| ())
        .map_err(|(_, why)| why)
}

fn ask_all(said: &mut Init) {
    let asked = |what: &str, slot: &mut Option<String>| {
        if slot.is_none() {
            let _ = write!(std::io::stderr(), "{what} (empty: none): ");
            let mut line = String::new();
            if std::io::stdin().lock().read_line(&mut line).is_ok() && !line.trim().is_empty() {
                *slot = Some(line.trim().to_owned());
            }
        }
    };
    complain("what the flags left out; Ctrl-C ends this and writes nothing");
    asked("Port 25, as HOST:PORT", &mut said.smtp);
    asked("Port 465, as HOST:PORT", &mut said.smtps);
    asked(
        "Its certificate's authority: a file, public, or any",
        &mut said.certificates,
    );
    if said.seed.is_none() && said.account.is_none() {
        asked(
            "Its database, as mysql://user@host:port/database",
            &mut said.database,
        );
    }
    if said.database.is_none() && said.account.is_none() {
        asked("A command that brings rows to it", &mut said.seed);
    }
    if said.database.is_none() && said.seed.is_none() {
        asked("An account that exists, as user@domain", &mut said.account);
    }
    asked(
        "The folder of its Maildirs (virtual_mailbox_base)",
        &mut said.maildirs,
    );
    if said.maildirs.is_some() {
        asked(
            "What runs a program where that is, as `ssh mail`",
            &mut said.maildirs_command,
        );
    }
    asked(
        "An address of this machine that may relay",
        &mut said.neighbour,
    );
}

/// As TOML writes it.
fn quoted(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn words(command: &str) -> String {
    let words: Vec<String> = command.split_whitespace().map(quoted).collect();
    format!("[{}]", words.join(", "))
}

fn text(said: &Init) -> String {
    let first = said.smtp.as_ref().or(said.smtps.as_ref());
    let name = said.name.as_ref().or(first).cloned().unwrap_or_default();
    let mut capabilities = Vec::new();
    for (word, has) in [
        ("database", said.database.is_some()),
        ("maildir", said.maildirs.is_some()),
        ("quota", said.quota),
    ] {
        if has {
            capabilities.push(quoted(word));
        }
    }
    let mut out = format!(
        "# A server that runs already. Every key: fixtures/targets/README.md\n\
         # Does this fit?  vmailspec doctor --target FILE\n\
         name = {}\n\
         start = \"nothing\"\n\n\
         # What vmailspec may do or expect: database maildir owner queue quota sink. What is not named makes its\n\
         # clauses unsupported.\n\
         capabilities = [{}]\n\
         # What it claims to be: tutorial postfix vda\n\
         profiles = []\n\
         # Known failures: lines of PATTERN  REASON  DATE  [LINK]\n\
         # known = \"my.known\"\n\
         # Its log, for failures; its queue, with the capability queue\n\
         # log = \"/var/log/mail.log\"\n\
         # queue = \"/var/spool/postfix\"\n\
         # What takes out of it what is left of a run at its end\n\
         # queue_delete = [\"postsuper\", \"-d\", \"{{id}}\"]\n\n\
         [listen]\n",
        quoted(&name),
        capabilities.join(", ")
    );
    let mut line = |key: &str, value: Option<String>, example: &str| {
        let _ = match value {
            Some(value) => writeln!(out, "{key} = {value}"),
            None => writeln!(out, "# {key} = {example}"),
        };
    };
    line(
        "smtp",
        said.smtp.as_deref().map(quoted),
        "\"mail.example.org:25\"",
    );
    line(
        "smtps",
        said.smtps.as_deref().map(quoted),
        "\"mail.example.org:465\"",
    );
    line(
        "name",
        None,
        "\"mail.example.org\"    # the name in its certificate, if it is not the host",
    );
    let certificates = said.certificates.as_deref().map(quoted);
    line(
        "certificates",
        certificates,
        "\"ca.pem\"    # its authority; or \"any\"; else the public ones",
    );
    out.push_str(&behind(said));
    out
}

/// What is behind its ports.
fn behind(said: &Init) -> String {
    let mut out = String::new();
    if let Some(url) = &said.database {
        let _ = write!(
            out,
            "\n# {}; the variable holds it with the password. It may add and remove rows of the four tables.\n\
             [database]\nurl = {{ env = \"VMAILSPEC_DATABASE_URL\" }}\n",
            crate::environment::database::url::redacted(url)
        );
    }
    if let Some(seed) = &said.seed {
        let _ = write!(out, "\n[database]\nseed = {}\n", words(seed));
    }
    if let Some(account) = &said.account {
        let _ = write!(
            out,
            "\n# It gets mail. Senders live in its own domain, and example.com is foreign, unless said otherwise.\n\
             [accounts]\naddress = {}\npassword = {{ env = \"VMAILSPEC_PASSWORD\" }}\n\
             # sender = \"example.org\"\n# elsewhere = \"example.com\"\n",
            quoted(account)
        );
    }
    if let Some(path) = &said.maildirs {
        let _ = write!(
            out,
            "\n# In DOMAIN/LOCAL PART/\n[maildirs]\npath = {}\n",
            quoted(path)
        );
        let _ = match &said.maildirs_command {
            Some(command) => writeln!(out, "command = {}", words(command)),
            None => writeln!(
                out,
                "# command = [\"ssh\", \"mail\"]\n# owner = \"5000:5000\"    # with the capability owner"
            ),
        };
    }
    let _ = writeln!(
        out,
        "\n# Addresses of this machine: one from which the server takes no mail for others, and one from which it does.\n[clients]\n# stranger = \"192.0.2.3\""
    );
    let _ = match &said.neighbour {
        Some(neighbour) => writeln!(out, "neighbour = {}", quoted(neighbour)),
        None => writeln!(out, "# neighbour = \"192.0.2.2\""),
    };
    let _ = write!(
        out,
        "\n# With the capability sink: the server asks this name server, and this port is that of its next hops.\n\
         # [sink]\n# name_server = \"192.0.2.3:53\"\n# port = 25\n# address = \"192.0.2.3\"\n"
    );
    out
}

#[cfg(test)]
mod tests {
    use super::{Init, check, text};

    #[test]
    fn whatever_is_said_makes_a_description_that_can_be_read() {
        let some = |text: &str| Some(text.to_owned());
        let all = [
            Init {
                smtp: some("mail.test:25"),
                ..Init::default()
            },
            Init {
                name: some("a \"b\" \\ c"),
                smtps: some("[::1]:465"),
                certificates: some("ca.pem"),
                account: some("a@b.test"),
                maildirs: some("/home/vmail"),
                maildirs_command: some("docker exec -i mail"),
                neighbour: some("192.0.2.2"),
                ..Init::default()
            },
            Init {
                smtp: some("mail.test:25"),
                database: some("mysql://u:secret@h/d"),
                maildirs: some("/home/vmail"),
                quota: true,
                ..Init::default()
            },
            Init {
                smtp: some("mail.test:25"),
                seed: some("ssh mail seed"),
                ..Init::default()
            },
        ];
        for said in all {
            let text = text(&said);
            assert_eq!(check(&said, &text), Ok(()), "{text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
