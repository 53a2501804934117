//! A private `mysqld` or `mariadbd` of this machine: a data folder of its own, a free port on
//! 127.0.0.1, gone at the end.
//!
//! Works as root and not. Nobody but the run knows a password that opens it: the accounts that the
//! data folder comes with are removed.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use super::mysql::{Account, Mysql};
use crate::environment::random;
use crate::environment::reaper::{Reaper, Watch};
use crate::environment::sink::lock;

/// A new data folder of MySQL takes seconds on a slow disk.
const INSTALL_LIMIT: Duration = Duration::from_mins(2);
const START_LIMIT: Duration = Duration::from_mins(1);
/// Folders that PATH may lack, servers' above all.
const ALSO: [&str; 7] = [
    "/usr/sbin",
    "/usr/local/sbin",
    "/usr/libexec",
    "/usr/bin",
    "/usr/local/bin",
    "/usr/local/mysql/bin",
    "/opt/homebrew/bin",
];

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    program: PathBuf,
    port: u16,
    admin: Account,
    child: Mutex<Child>,
    watch: Option<Watch>,
}

/// A program on PATH or in the folders where servers lie.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(ALSO.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(name)).find(|file| {
        std::fs::metadata(file)
            .is_ok_and(|facts| facts.is_file() && facts.permissions().mode() & 0o111 != 0)
    })
}

impl Server {
    /// Starts one below `folder`.
    pub async fn start(folder: &Path) -> Result<Self, String> {
        let program = find("mysqld").or_else(|| find("mariadbd")).ok_or(
            "neither mysqld nor mariadbd is on PATH or in /usr/sbin (Debian: mariadb-server-core)",
        )?;
        let place = Place::new(folder, &program)?;
        place.install().await?;
        let mut why = String::new();
        for _ in 0..3 {
            match place.run().await {
                Ok(server) => return Ok(server),
                // Somebody may have taken the port in between.
                Err(said) => why = said,
            }
            if !why.contains("ddress already in use") {
                break;
            }
        }
        Err(why)
    }

    /// With all rights.
    pub fn mysql(&self) -> Mysql {
        Mysql::new("127.0.0.1", self.port, &self.admin, None)
    }

    /// `host:port`
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The executable.
    pub fn program(&self) -> &Path {
        &self.program
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its data is thrown away with the run's folder: nothing to flush.
        let mut child = lock(&self.child);
        let _ = (child.kill(), child.wait());
        if let Some(watch) = self.watch.take() {
            watch.release();
        }
    }
}

/// Where it lives.
struct Place {
    program: PathBuf,
    folder: PathBuf,
    is_mariadb: bool,
    as_root: bool,
}

impl Place {
    fn new(folder: &Path, program: &Path) -> Result<Self, String> {
        let version = Command::new(program)
            .arg("--version")
            .stderr(Stdio::null())
            .output();
        let version = version.map_err(|error| format!("{}: {error}", program.display()))?;
        let is_mariadb = String::from_utf8_lossy(&version.stdout).contains("MariaDB");
        let folder = folder.join("database");
        let make = |path: &Path| {
            std::fs::create_dir(path)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
        };
        for path in [&folder, &folder.join("tmp")] {
            make(path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        let as_root = rustix::process::geteuid().is_root();
        Ok(Self {
            program: program.to_owned(),
            folder,
            is_mariadb,
            as_root,
        })
    }

    /// `--name=path` for the places that both install and run.
    fn places(&self) -> [String; 2] {
        // A starting server deletes what it takes for temporary tables of its own: never share.
        [
            format!("--datadir={}", self.folder.join("data").display()),
            format!("--tmpdir={}", self.folder.join("tmp").display()),
        ]
    }

    fn command(&self, program: &Path, watch: &Watch) -> Result<Command, String> {
        let log = self.folder.join("log");
        let log = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(|e| format!("{}: {e}", log.display()))?;
        let and_errors = log.try_clone().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.arg("--no-defaults").args(self.places());
        if self.as_root {
            command.arg("--user=root");
        }
        command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(and_errors)
            .process_group(watch.group());
        Ok(command)
    }

    /// The last lines that the server wrote, on one line.
    fn log_tail(&self) -> String {
        let text = std::fs::read(self.folder.join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let telling: Vec<&str> = text
            .lines()
            .filter(|line| line.to_ascii_uppercase().contains("ERROR"))
            .collect();
        let all: Vec<&str> = text.lines().collect();
        let lines = if telling.is_empty() { all } else { telling };
        lines[lines.len().saturating_sub(3)..].join(" | ")
    }

    async fn install(&self) -> Result<(), String> {
        let watch = Reaper::watch_group().map_err(|error| format!("/bin/sh: {error}"))?;
        let command = if self.is_mariadb {
            let script = find("mariadb-install-db").or_else(|| find("mysql_install_db"));
            let script = script.ok_or("mariadbd is here and mariadb-install-db is not")?;
            let mut command = self.command(&script, &watch)?;
            command.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
            command
        } else {
            let mut command = self.command(&self.program, &watch)?;
            command.arg("--initialize-insecure");
            command
        };
        let mut child = tokio::process::Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", self.program.display()))?;
        let status = tokio::time::timeout(INSTALL_LIMIT, child.wait()).await;
        let failed = match status {
            Ok(Ok(status)) if status.success() => None,
            Ok(Ok(status)) => Some(status.to_string()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("it took more than {} s", INSTALL_LIMIT.as_secs())),
        };
        if let Some(how) = failed {
            // The watch, dropped, kills what is left of it.
            let program = self.program.display();
            let tail = self.log_tail();
            return Err(format!(
                "{program}: no data folder could be made ({how}): {tail}"
            ));
        }
        watch.release();
        Ok(())
    }

    async fn run(&self) -> Result<Server, String> {
        let port = random::free_port(IpAddr::V4(Ipv4Addr::LOCALHOST))
            .map_err(|error| error.to_string())?;
        let admin = Account::new("vmailspec")?;
        // Read by the server before it takes connections: whoever can log in finds the account.
        let init = self.folder.join("init.sql");
        let (user, password) = (&admin.user, &admin.password);
        let accounts = format!(
            "CREATE USER '{user}'@'127.0.0.1' IDENTIFIED BY '{password}';\nGRANT ALL ON *.* TO '{user}'@'127.0.0.1' WITH GRANT OPTION;\n"
        );
        std::fs::write(&init, accounts).map_err(|error| format!("{}: {error}", init.display()))?;
        let watch = Reaper::watch_group().map_err(|error| format!("/bin/sh: {error}"))?;
        let mut command = self.command(&self.program, &watch)?;
        command
            .arg(format!("--socket={}", self.folder.join("socket").display()))
            .arg(format!("--pid-file={}", self.folder.join("pid").display()))
            .arg(format!("--init-file={}", init.display()))
            .arg(format!("--port={port}"))
            .args([
                "--bind-address=127.0.0.1",
                "--skip-log-bin",
                "--skip-name-resolve",
                super::CONNECTIONS,
            ])
            .args([
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-doublewrite=0",
            ]);
        if !self.is_mariadb {
            command.args(["--mysqlx=OFF", "--secure-file-priv=NULL"]);
        }
        let child = command
            .spawn()
            .map_err(|error| format!("{}: {error}", self.program.display()))?;
        let program = self.program.clone();
        let server = Server {
            program,
            port,
            admin,
            child: Mutex::new(child),
            watch: Some(watch),
        };

        let mysql = server.mysql();
        let alive = || async {
            match lock(&server.child).try_wait() {
                Ok(None) => Ok(()),
                _ => Err(format!(
                    "{} ended: {}",
                    self.program.display(),
                    self.log_tail()
                )),
            }
        };
        mysql.ready(START_LIMIT, alive).await?;
        for (name, host) in mysql.accounts().await? {
            if name == "root" || name.is_empty() {
                mysql
                    .execute(&format!("DROP USER '{name}'@'{host}'"))
                    .await?;
            }
        }
        mysql.disconnect().await;
        Ok(server)
    }
}
