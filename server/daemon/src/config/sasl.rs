//! sasl/smtpd.conf and pam.d/smtp: where passwords are.
//!
//! In the tutorial's setup smtpd asks saslauthd, saslauthd asks PAM, and pam_mysql asks the
//! database. Here the two files are read and the database is asked directly; there is no cache, so a
//! password that was changed is changed. For the embedded database pam.d/smtp names
//! `pam_sqlite3.so` with `database=PATH`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::main_cf::read_text;
use super::mistake::{Mistake, Place};
use crate::tables::mysql::Login;
use crate::tables::source::Tables;
use crate::tables::sql::Statement;
use crate::tables::{Kind, Maps, Table, mysql, sqlite};

/// Reads `conf` and pam.d/smtp: the table of crypt(3) hashes, by the user's full address. What is
/// wrong is added to `mistakes`.
pub(super) fn read(
    folder: &Path,
    conf: &Path,
    tables: &mut Tables,
    mistakes: &mut Vec<Mistake>,
) -> Option<Maps> {
    smtpd_conf(conf, mistakes);
    pam_smtp(&pam_file(folder), tables, mistakes)
}

/// pam.d/smtp in the configuration's folder, or beside it as in /etc.
fn pam_file(folder: &Path) -> PathBuf {
    let inside = folder.join("pam.d/smtp");
    let beside = folder.parent().map(|parent| parent.join("pam.d/smtp"));
    match beside {
        Some(beside) if !inside.exists() => beside,
        _ => inside,
    }
}

fn smtpd_conf(file: &Path, mistakes: &mut Vec<Mistake>) {
    let text = match read_text(file) {
        Ok(text) => text,
        Err(reason) => return mistakes.push(Mistake::new(&Place::file(file), reason)),
    };
    let mut checked_by = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut mistake =
            |text: String| mistakes.push(Mistake::new(&Place::new(file, number), text));
        let Some((name, value)) = line
            .split_once(':')
            .map(|(name, value)| (name.trim(), value.trim()))
        else {
            mistake(format!("{line:?}, expected name: value"));
            continue;
        };
        match name {
            "pwcheck_method" => {
                checked_by = Some(value);
                if value != "saslauthd" {
                    mistake(format!("pwcheck_method: {value}, expected saslauthd"));
                }
            }
            "mech_list" => {
                let mut mechanisms: Vec<_> = value
                    .split_whitespace()
                    .map(str::to_ascii_lowercase)
                    .collect();
                mechanisms.sort();
                if mechanisms != ["login", "plain"] {
                    mistake(format!("mech_list: {value}, expected plain login"));
                }
            }
            // With pwcheck_method: saslauthd the lines of the auxprop plugins are dead in Cyrus too.
            _ => {}
        }
    }
    if checked_by.is_none() {
        let text = "pwcheck_method is missing, expected pwcheck_method: saslauthd";
        mistakes.push(Mistake::new(&Place::file(file), text));
    }
}

fn pam_smtp(file: &Path, tables: &mut Tables, mistakes: &mut Vec<Mistake>) -> Option<Maps> {
    let text = match read_text(file) {
        Ok(text) => text,
        Err(reason) => {
            mistakes.push(Mistake::new(&Place::file(file), reason));
            return None;
        }
    };
    let expected = "expected a line: auth required pam_mysql.so user=... passwd=... host=... db=... table=... \
                    usercolumn=... passwdcolumn=... crypt=1";
    for (number, line) in super::main_cf::logical_lines(&text.replace("\\\n", " ")) {
        let place = Place::new(file, number);
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ["auth", _, module, options @ ..] = fields.as_slice() else {
            continue;
        };
        return match Module::new(module, options).and_then(|module| module.table(tables)) {
            Ok(table) => Some(Maps::new(vec![Arc::new(table)])),
            Err(text) => {
                mistakes.push(Mistake::new(&place, format!("{text}; {expected}")));
                None
            }
        };
    }
    mistakes.push(Mistake::new(
        &Place::file(file),
        format!("no auth line, {expected}"),
    ));
    None
}

struct Module<'a> {
    name: &'a str,
    options: Vec<(&'a str, &'a str)>,
}

impl<'a> Module<'a> {
    fn new(name: &'a str, options: &[&'a str]) -> Result<Self, String> {
        let name = name.rsplit('/').next().unwrap_or(name);
        if !["pam_mysql.so", "pam_sqlite3.so"].contains(&name) {
            return Err(format!("module {name:?} is not supported"));
        }
        let mut pairs = Vec::new();
        for option in options {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match key {
                "user" | "passwd" | "host" | "db" | "database" | "table" | "usercolumn"
                | "passwdcolumn" => {
                    pairs.push((key, value));
                }
                "crypt" if value == "1" => pairs.push((key, value)),
                "crypt" => return Err(format!("crypt={value} is not crypt(3)")),
                "verbose" | "sqllog" | "logtable" | "debug" => {}
                other => return Err(format!("option {other:?} is not supported")),
            }
        }
        let module = Self {
            name,
            options: pairs,
        };
        module.option("crypt")?;
        Ok(module)
    }

    fn option(&self, name: &str) -> Result<String, String> {
        let found = self
            .options
            .iter()
            .rev()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| (*value).to_owned());
        found
            .filter(|value| !value.is_empty())
            .ok_or_else(|| format!("{name}= is missing"))
    }

    fn table(&self, tables: &mut Tables) -> Result<Table, String> {
        let [table, user, password] = [
            self.option("table")?,
            self.option("usercolumn")?,
            self.option("passwdcolumn")?,
        ];
        let query = format!("SELECT {password} FROM {table} WHERE {user} = '%s'");
        let statement = Statement::compile(&query)?;
        let kind = if self.name == "pam_sqlite3.so" {
            let path = tables.folder.join(self.option("database")?);
            Kind::Sqlite(sqlite::Table::new(tables.file(&path), statement))
        } else {
            let login = Login {
                hosts: self
                    .option("host")
                    .unwrap_or_else(|_| "localhost".to_owned()),
                user: self.option("user")?,
                password: self.option("passwd").unwrap_or_default(),
                database: self.option("db")?,
            };
            let exact = format!("{query} AND CAST(CONVERT({user} USING utf8mb4) AS BINARY) = '%s'");
            Kind::Mysql(mysql::Table::new(
                tables.servers(login)?,
                statement,
                Some(Statement::compile(&exact)?),
            ))
        };
        Ok(Table::new(format!("pam.d/smtp:{table}"), kind))
    }
}
