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
use super::params::Params;
use crate::tables::mysql::Login;
use crate::tables::source::Tables;
use crate::tables::sql::Statement;
use crate::tables::{Kind, Maps, Table, mysql, sqlite};

/// Where a user's crypt(3) hash is found, by the user's full address.
#[derive(Debug, Clone)]
pub struct PasswordTable {
    /// Key: the user name; value: the hash.
    pub hashes: Maps,
    /// mech_list: AUTH PLAIN and AUTH LOGIN. `vmaild` has these two.
    pub mechanisms: Vec<String>,
}

/// Reads both files; what is wrong is added to `mistakes`.
pub(super) fn read(folder: &Path, params: &Params, tables: &mut Tables, mistakes: &mut Vec<Mistake>) -> Option<PasswordTable> {
    let conf = folder.join("sasl").join(format!("{}.conf", params.smtpd_sasl_path));
    let mechanisms = smtpd_conf(&conf, mistakes);
    let pam = pam_file(folder);
    let hashes = pam_smtp(&pam, tables, mistakes);
    Some(PasswordTable { hashes: hashes?, mechanisms: mechanisms? })
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

fn smtpd_conf(file: &Path, mistakes: &mut Vec<Mistake>) -> Option<Vec<String>> {
    let mut mistake = |place: &Place, text: String| mistakes.push(Mistake::new(place, text));
    let text = read_text(file).map_err(|reason| mistake(&Place::file(file), reason)).ok()?;
    let mut checked_by = None;
    let mut mechanisms = vec!["PLAIN".to_owned(), "LOGIN".to_owned()];
    for (number, line) in (1..).zip(text.lines()) {
        let place = Place::new(file, number);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            mistake(&place, format!("{line:?}, expected name: value"));
            continue;
        };
        match name.trim() {
            "pwcheck_method" if value.trim() == "saslauthd" => checked_by = Some(()),
            "pwcheck_method" => {
                mistake(&place, format!("pwcheck_method: {}, expected saslauthd", value.trim()));
                checked_by = Some(());
            }
            "mech_list" => {
                mechanisms = value.split_whitespace().map(str::to_ascii_uppercase).collect();
                let known = ["PLAIN", "LOGIN"];
                if mechanisms.is_empty() || !mechanisms.iter().all(|name| known.contains(&name.as_str())) {
                    mistake(&place, format!("mech_list:{value}, expected plain, login or both"));
                }
            }
            // With pwcheck_method: saslauthd the lines of the auxprop plugins are dead in Cyrus too.
            _ => {}
        }
    }
    if checked_by.is_none() {
        mistake(&Place::file(file), "pwcheck_method is missing, expected pwcheck_method: saslauthd".to_owned());
    }
    Some(mechanisms)
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
        let ["auth", _, module, options @ ..] = fields.as_slice() else { continue };
        return match Module::new(module, options).and_then(|module| module.table(tables)) {
            Ok(table) => Some(Maps::new(vec![Arc::new(table)])),
            Err(text) => {
                mistakes.push(Mistake::new(&place, format!("{text}; {expected}")));
                None
            }
        };
    }
    mistakes.push(Mistake::new(&Place::file(file), format!("no auth line, {expected}")));
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
                "user" | "passwd" | "host" | "db" | "database" | "table" | "usercolumn" | "passwdcolumn" => {
                    pairs.push((key, value));
                }
                "crypt" if value == "1" => pairs.push((key, value)),
                "crypt" => return Err(format!("crypt={value} is not crypt(3)")),
                "verbose" | "sqllog" | "logtable" | "debug" => {}
                other => return Err(format!("option {other:?} is not supported")),
            }
        }
        let module = Self { name, options: pairs };
        module.option("crypt")?;
        Ok(module)
    }

    fn option(&self, name: &str) -> Result<String, String> {
        let found = self.options.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        found.filter(|value| !value.is_empty()).ok_or_else(|| format!("{name}= is missing"))
    }

    fn table(&self, tables: &mut Tables) -> Result<Table, String> {
        let [table, user, password] = [self.option("table")?, self.option("usercolumn")?, self.option("passwdcolumn")?];
        let query = format!("SELECT {password} FROM {table} WHERE {user} = '%s'");
        let statement = Statement::compile(&query)?;
        let kind = if self.name == "pam_sqlite3.so" {
            let path = tables.folder.join(self.option("database")?);
            Kind::Sqlite(sqlite::Table::new(tables.file(&path), statement))
        } else {
            let login = Login {
                hosts: self.option("host").unwrap_or_else(|_| "localhost".to_owned()),
                user: self.option("user")?,
                password: self.option("passwd").unwrap_or_default(),
                database: self.option("db")?,
            };
            let exact = format!("{query} AND CAST(CONVERT({user} USING utf8mb4) AS BINARY) = '%s'");
            Kind::Mysql(mysql::Table::new(tables.servers(login)?, statement, Some(Statement::compile(&exact)?)))
        };
        Ok(Table { name: format!("pam.d/smtp:{table}"), kind })
    }
}
