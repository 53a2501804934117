//! sasl/smtpd.conf and pam.d/smtp: where passwords are.
//!
//! In the tutorial's setup smtpd asks saslauthd, saslauthd asks PAM, and pam_mysql asks the
//! database. Here the two files are read and the database is asked directly; there is no cache, so a
//! password that was changed is changed. For the embedded database pam.d/smtp names
//! `pam_sqlite3.so` with `database=PATH`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::main_cf::{Settings, logical_lines, read_text};
use super::mistake::{Mistake, Place};
use super::reader::Reader;
use crate::tables::mysql::Login;
use crate::tables::source::Tables;
use crate::tables::sql::Statement;
use crate::tables::{Kind, Maps, Table, mysql, sqlite};

/// The table of crypt(3) hashes, by the user's full address, for a service that offers AUTH.
pub(super) fn read(reader: &mut Reader) -> Option<Maps> {
    if !reader.value::<bool>("smtpd_sasl_auth_enable")? {
        return None;
    }
    let folder: PathBuf = reader.value("cyrus_sasl_config_path")?;
    let name: String = reader.value("smtpd_sasl_path")?;
    let conf = folder.join(format!("{name}.conf"));
    smtpd_conf(&conf, &mut reader.mistakes);
    let table = pam_smtp(&mut reader.tables, &mut reader.mistakes)?;
    Some(Maps::new(vec![Arc::new(table)]))
}

fn smtpd_conf(file: &Path, mistakes: &mut Vec<Mistake>) {
    let Some(text) = read_text(file, mistakes) else {
        return;
    };
    // With pwcheck_method: saslauthd the lines of the auxprop plugins are dead in Cyrus too.
    let conf = Settings::parse(file, &text, ':', mistakes);
    let value = |name| conf.get(name).map(|setting| setting.text.as_str());
    let method = value("pwcheck_method").unwrap_or_default();
    if method != "saslauthd" {
        let text = format!("pwcheck_method: {method:?}, expected saslauthd");
        mistakes.push(Mistake::new(&conf.place("pwcheck_method"), text));
    }
    let list = value("mech_list").unwrap_or("plain login");
    let lower = list.to_ascii_lowercase();
    let mut mechanisms: Vec<_> = lower.split_whitespace().collect();
    mechanisms.sort_unstable();
    if mechanisms != ["login", "plain"] {
        let text = format!("mech_list: {list:?}, expected plain login");
        mistakes.push(Mistake::new(&conf.place("mech_list"), text));
    }
}

/// Reads pam.d/smtp in the configuration's folder, or beside it as in /etc.
fn pam_smtp(tables: &mut Tables, mistakes: &mut Vec<Mistake>) -> Option<Table> {
    let inside = tables.folder.join("pam.d/smtp");
    let file = match tables.folder.parent() {
        Some(parent) if !inside.exists() => parent.join("pam.d/smtp"),
        _ => inside,
    };
    let text = read_text(&file, mistakes)?.replace("\\\n", " ");
    let auth = logical_lines(&text).into_iter().find_map(|(number, line)| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let ["auth", _, module, options @ ..] = fields.as_slice() else {
            return None;
        };
        Some((Place::new(&file, number), table(module, options, tables)))
    });
    let (place, table) = auth.unwrap_or_else(|| (Place::file(&file), Err("no auth line".into())));
    let wrong = table.as_ref().err().map(|text| {
        format!(
            "{text}; expected a line: auth required pam_mysql.so user=... passwd=... host=... \
             db=... table=... usercolumn=... passwdcolumn=... crypt=1"
        )
    });
    mistakes.extend(wrong.map(|text| Mistake::new(&place, text)));
    table.ok()
}

/// What the line of a PAM module describes.
fn table(module: &str, options: &[&str], tables: &mut Tables) -> Result<Table, String> {
    let module = module.rsplit('/').next().unwrap_or(module);
    if !["pam_mysql.so", "pam_sqlite3.so"].contains(&module) {
        return Err(format!("module {module:?} is not supported"));
    }
    let mut given = HashMap::new();
    for option in options {
        let (key, value) = option.split_once('=').unwrap_or((*option, ""));
        match key {
            "crypt" if value != "1" => return Err(format!("crypt={value} is not crypt(3)")),
            "user" | "passwd" | "host" | "db" | "database" | "table" | "usercolumn"
            | "passwdcolumn" | "crypt" => {
                given.insert(key, value);
            }
            "verbose" | "sqllog" | "logtable" | "debug" => {}
            other => return Err(format!("option {other:?} is not supported")),
        }
    }
    let option = |name: &str| match given.get(name) {
        None | Some(&"") => Err(format!("{name}= is missing")),
        Some(value) => Ok((*value).to_owned()),
    };
    option("crypt")?;
    let (table, user) = (option("table")?, option("usercolumn")?);
    let password = option("passwdcolumn")?;
    let query = format!("SELECT {password} FROM {table} WHERE {user} = '%s'");
    let statement = Statement::compile(&query)?;
    let kind = if module == "pam_sqlite3.so" {
        let path = tables.folder.join(option("database")?);
        Kind::Sqlite(sqlite::Table::new(tables.file(&path), statement))
    } else {
        let login = Login {
            hosts: option("host").unwrap_or_else(|_| "localhost".to_owned()),
            user: option("user")?,
            password: option("passwd").unwrap_or_default(),
            database: option("db")?,
        };
        let exact = format!("{query} AND CAST(CONVERT({user} USING utf8mb4) AS BINARY) = '%s'");
        let exact = Statement::compile(&exact)?;
        let servers = tables.servers(login)?;
        Kind::Mysql(mysql::Table::new(servers, statement, Some(exact)))
    };
    Ok(Table::new(format!("pam.d/smtp:{table}"), kind))
}
