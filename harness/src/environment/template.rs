//! The target's configuration: `fixtures/postfix`, or a folder of the user's, with the placeholders
//! filled in.
//!
//! Written as an administrator would leave it: table files and the key 0640, readable for the
//! target's group. For the embedded database the same files name `sqlite:` tables
//! (sqlite_table(5)) and pam_sqlite3 instead of `mysql:` and pam_mysql.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::certs::Identity;
use super::names::HOSTNAME;

/// The templates, by their path below `fixtures/postfix` and below the configuration folder.
pub const FILES: [&str; 10] = [
    "main.cf",
    "master.cf",
    "mysql-virtual_domains.cf",
    "mysql-virtual_forwardings.cf",
    "mysql-virtual_mailboxes.cf",
    "mysql-virtual_email2email.cf",
    "mysql-virtual_transports.cf",
    "mysql-virtual_mailbox_limit_maps.cf",
    "sasl/smtpd.conf",
    "pam.d/smtp",
];

/// Where the target finds the four tables.
#[derive(Debug, Clone)]
pub enum Tables {
    /// A MySQL server.
    Mysql {
        /// `host:port`
        host: String,
        /// An account that may SELECT.
        user: String,
        /// Its password.
        password: String,
        /// The database.
        database: String,
    },
    /// An SQLite file.
    Sqlite(PathBuf),
}

/// What differs from target to target.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder that is written.
    pub config: PathBuf,
    /// queue_directory
    pub queue: PathBuf,
    /// virtual_mailbox_base
    pub mailboxes: PathBuf,
    /// Port 25.
    pub smtp: SocketAddr,
    /// Port 465.
    pub smtps: SocketAddr,
    /// Where next hops listen.
    pub next_hop_port: u16,
    /// The run's name server.
    pub name_server: SocketAddr,
    /// Of the Maildirs.
    pub owner: (u32, u32),
    /// The four tables.
    pub tables: Tables,
    /// `main.cf`: lines that come after the template's.
    pub main_cf: Vec<String>,
    /// `master.cf`: service, parameter, value.
    pub master_cf: Vec<(String, String, String)>,
}

/// Writes the configuration folder from `fixtures/postfix`, or from a folder of the user's; returns
/// what it could not do in words.
pub fn write(
    settings: &Settings,
    identity: &Identity,
    template: Option<&Path>,
) -> Result<(), String> {
    let folder = |path: &Path| private_folder(path, settings.owner.1).map_err(|e| at(path, &e));
    folder(&settings.config)?;
    let place = |name: &str| -> Result<PathBuf, String> {
        let path = settings.config.join(name);
        if let Some(parent) = path.parent().filter(|parent| *parent != settings.config) {
            folder(parent)?;
        }
        Ok(path)
    };
    let file = |path: &Path, text: &str, mode: u32| {
        std::fs::write(path, text)
            .and_then(|()| shut(path, mode, settings.owner.1))
            .map_err(|e| at(path, &e))
    };
    match template {
        None => {
            for name in FILES {
                let text = render(name, super::fixture(&format!("postfix/{name}"))?, settings)?;
                file(&place(name)?, &text, 0o640)?;
            }
        }
        Some(template) => {
            for name in own_files(template)? {
                let from = template.join(&name);
                let text = std::fs::read_to_string(&from).map_err(|e| at(&from, &e))?;
                let text = render_own(&from, &name, &text, settings)?;
                let mode = std::fs::metadata(&from).map_or(0, |facts| facts.permissions().mode());
                // A script stays one.
                file(&place(&name)?, &text, 0o640 | (mode & 0o110))?;
            }
        }
    }
    for (name, text) in [
        ("smtpd.cert", &identity.certificate),
        ("smtpd.key", &identity.key),
    ] {
        file(&settings.config.join(name), text, 0o640)?;
    }
    Ok(())
}

/// The files of a template folder, by their path below it, sorted; hidden ones are left out.
pub fn own_files(template: &Path) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(below) = folders.pop() {
        let folder = template.join(&below);
        for entry in std::fs::read_dir(&folder).map_err(|e| at(&folder, &e))? {
            let entry = entry.map_err(|e| at(&folder, &e))?;
            let name = below.join(entry.file_name());
            let Some(text) = name.to_str() else {
                return Err(format!("{}: its name is not UTF-8", entry.path().display()));
            };
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if entry.path().is_dir() {
                folders.push(name);
            } else {
                names.push(text.to_owned());
            }
        }
    }
    if names.is_empty() {
        return Err(format!("{}: no file is in it", template.display()));
    }
    names.sort();
    Ok(names)
}

fn at(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// A folder that the target's group may enter, and nobody else.
pub(super) fn private_folder(path: &Path, group: u32) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    shut(path, 0o750, group)
}

/// Gives `path` its mode, and where we are root its group.
pub(super) fn shut(path: &Path, mode: u32, group: u32) -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, None, Some(group))?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// One file of `fixtures/postfix` with everything filled in.
pub fn render(name: &str, template: &str, settings: &Settings) -> Result<String, String> {
    let text = match &settings.tables {
        Tables::Mysql { .. } => template.to_owned(),
        Tables::Sqlite(file) => sqlite_variant(template, file),
    };
    let from = format!("fixtures/postfix/{name}");
    let text = fill(&from, &text, &values(settings), Braces::Ours)?;
    with_differences(name, text, settings)
}

/// One file of a template of the user's with everything filled in; `from` is named in messages.
fn render_own(
    from: &Path,
    name: &str,
    template: &str,
    settings: &Settings,
) -> Result<String, String> {
    let from = from.display().to_string();
    let text = fill(&from, template, &values(settings), Braces::Theirs)?;
    with_differences(name, text, settings)
}

/// An argument of a command of the user's with everything filled in.
pub(super) fn argument(text: &str, settings: &Settings) -> Result<String, String> {
    let filled = fill(
        &format!("`{text}`"),
        text,
        &values(settings),
        Braces::Theirs,
    )?;
    Ok(filled.trim_end_matches('\n').to_owned())
}

/// What differs for this target, where the file is Postfix's main.cf or master.cf.
fn with_differences(name: &str, mut text: String, settings: &Settings) -> Result<String, String> {
    if name == "main.cf" && !settings.main_cf.is_empty() {
        text.push_str("\n# What differs for this target.\n");
        text.extend(
            settings
                .main_cf
                .iter()
                .flat_map(|line| [line.as_str(), "\n"]),
        );
    }
    if name == "master.cf" {
        for (service, parameter, value) in &settings.master_cf {
            text = with_option(&text, &listener(service, settings), parameter, value)?;
        }
    }
    Ok(text)
}

fn values(settings: &Settings) -> Vec<(&'static str, String)> {
    let path = |path: &Path| path.display().to_string();
    let mut values = vec![
        ("config_directory", path(&settings.config)),
        ("queue_directory", path(&settings.queue)),
        ("virtual_mailbox_base", path(&settings.mailboxes)),
        ("uid", settings.owner.0.to_string()),
        ("gid", settings.owner.1.to_string()),
        ("smtp_listen", settings.smtp.to_string()),
        ("smtps_listen", settings.smtps.to_string()),
        ("mynetworks", "127.0.0.2/32".to_owned()),
        ("myhostname", HOSTNAME.to_owned()),
        ("smtp_tcp_port", settings.next_hop_port.to_string()),
        ("smtp_address", settings.smtp.ip().to_string()),
        ("smtp_port", settings.smtp.port().to_string()),
        ("smtps_port", settings.smtps.port().to_string()),
        ("name_server_address", settings.name_server.ip().to_string()),
        ("name_server_port", settings.name_server.port().to_string()),
    ];
    if let Tables::Mysql {
        host,
        user,
        password,
        database,
    } = &settings.tables
    {
        let (address, port) = host.rsplit_once(':').unwrap_or((host, "3306"));
        values.extend([
            ("mysql_host", host.clone()),
            ("mysql_address", address.to_owned()),
            ("mysql_port", port.to_owned()),
            ("mysql_username", user.clone()),
            ("mysql_password", password.clone()),
            ("mysql_database", database.clone()),
        ]);
    }
    values
}

/// Whose braces a file holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Braces {
    /// Each is a placeholder. Comments are left out: they speak about the templates.
    Ours,
    /// The server's language may have braces, too: a placeholder is a known word, and a word with
    /// `_` that is none is a slip. Comments stay as they are.
    Theirs,
}

/// Puts values for `{placeholders}`; one that is unknown is an error.
fn fill(
    from: &str,
    template: &str,
    values: &[(&str, String)],
    braces: Braces,
) -> Result<String, String> {
    let mut out = String::with_capacity(template.len());
    for (number, line) in template.lines().enumerate() {
        let mut rest = line;
        if line.trim_start().starts_with('#') {
            if braces == Braces::Ours {
                continue;
            }
            out.push_str(std::mem::take(&mut rest));
        }
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let (word, tail) = after.split_once('}').unwrap_or((after, ""));
            if let Some((_, value)) = values.iter().find(|(known, _)| *known == word) {
                out.push_str(value);
                rest = tail;
            } else if braces == Braces::Theirs && !is_word(word) {
                out.push('{');
                rest = after;
            } else {
                let known: Vec<&str> = values.iter().map(|(known, _)| *known).collect();
                let known = known.join(", ");
                return Err(format!(
                    "{from} line {}: {{{word}}} is no placeholder; there are {known}",
                    number + 1
                ));
            }
        }
        out.push_str(rest);
        out.push('\n');
    }
    Ok(out)
}

/// As placeholders look.
fn is_word(word: &str) -> bool {
    word.contains('_')
        && word
            .bytes()
            .all(|octet| octet.is_ascii_lowercase() || octet == b'_')
}

/// The same file for an SQLite database.
fn sqlite_variant(template: &str, file: &Path) -> String {
    let file = file.display();
    let mut out = String::new();
    for line in template.lines() {
        let key = line.split(['=', ':']).next().unwrap_or_default().trim();
        if matches!(
            key,
            "user" | "password" | "dbname" | "sql_hostnames" | "sql_user" | "sql_passwd"
        ) {
            continue;
        }
        let line = match key {
            "hosts" => format!("dbpath = {file}"),
            "auxprop_plugin" => "auxprop_plugin: sql\nsql_engine: sqlite3".to_owned(),
            "sql_database" => format!("sql_database: {file}"),
            _ => line.replace("mysql:{config_directory}", "sqlite:{config_directory}"),
        };
        out.push_str(&line.replace(
            "pam_mysql.so user={mysql_username} passwd={mysql_password} host={mysql_host} db={mysql_database}",
            &format!("pam_sqlite3.so database={file}"),
        ));
        out.push('\n');
    }
    out
}

/// A service's name in the rendered file: the two listeners go by their usual names and ports.
fn listener(service: &str, settings: &Settings) -> String {
    match service {
        "smtp" | "25" => settings.smtp.to_string(),
        "smtps" | "submissions" | "465" => settings.smtps.to_string(),
        other => other.to_owned(),
    }
}

/// Adds `-o parameter=value` behind the last line of a service; later options win (master(5)).
fn with_option(text: &str, service: &str, parameter: &str, value: &str) -> Result<String, String> {
    let lines: Vec<&str> = text.lines().collect();
    let is_service = |line: &&str| {
        line.split_whitespace().next() == Some(service) && !line.starts_with([' ', '\t'])
    };
    let Some(start) = lines.iter().position(is_service) else {
        return Err(format!(
            "master.cf {service}: no such service; the two listeners are smtp and smtps"
        ));
    };
    let end = lines[start + 1..]
        .iter()
        .position(|line| !line.starts_with([' ', '\t']))
        .map_or(lines.len(), |offset| start + 1 + offset);
    let option = if value.contains(char::is_whitespace) {
        format!("  -o {{ {parameter} = {value} }}")
    } else {
        format!("  -o {parameter}={value}")
    };
    let mut out: Vec<&str> = lines[..end].to_vec();
    out.push(&option);
    out.extend(&lines[end..]);
    Ok(out.join("\n") + "\n")
}
