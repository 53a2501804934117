//! One reading of the parameters: main.cf, or main.cf with the `-o` options of one service.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

use super::main_cf::{Settings, expand};
use super::mistake::{Mistake, Place};
use super::params::{self, Params, Row};
use super::values::Value;
use crate::log;
use crate::tables::source::Tables;

/// Where names in values are looked up.
pub(crate) struct Scope<'a> {
    pub(crate) folder: &'a Path,
    settings: &'a Settings,
    service: &'a str,
}

/// What a value may use while it is parsed.
pub(crate) struct Reader<'a, 'b> {
    pub(crate) scope: &'a Scope<'a>,
    pub(crate) tables: &'b mut Tables,
    pub(crate) mistakes: &'b mut Vec<Mistake>,
    pub(crate) warnings: &'b mut Vec<Mistake>,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(folder: &'a Path, settings: &'a Settings, service: &'a str) -> Self {
        Self {
            folder,
            settings,
            service,
        }
    }

    /// All parameters; `None` when one of them is a mistake.
    pub(crate) fn read(
        &self,
        tables: &mut Tables,
        mistakes: &mut Vec<Mistake>,
        warnings: &mut Vec<Mistake>,
    ) -> Option<Params> {
        let mut reader = Reader {
            scope: self,
            tables,
            mistakes,
            warnings,
        };
        // The tables need to know how long a lookup may take before the first of them is opened.
        let row = params::row("vmaild_lookup_time_limit")?;
        if let Some(limit) = reader.value(row) {
            reader.tables.time_limit = limit;
        }
        Params::read(&mut reader)
    }

    /// The name of smtpd.conf for a service that offers AUTH.
    pub(crate) fn sasl_file(
        &self,
        tables: &mut Tables,
        mistakes: &mut Vec<Mistake>,
        warnings: &mut Vec<Mistake>,
    ) -> Option<PathBuf> {
        let mut reader = Reader {
            scope: self,
            tables,
            mistakes,
            warnings,
        };
        reader
            .value::<bool>(params::row("smtpd_sasl_auth_enable")?)
            .filter(|enabled| *enabled)?;
        let folder: PathBuf = reader.value(params::row("cyrus_sasl_config_path")?)?;
        let name: String = reader.value(params::row("smtpd_sasl_path")?)?;
        Some(folder.join(format!("{name}.conf")))
    }

    /// What `$name` stands for, before expansion.
    fn text_of(&self, name: &str) -> Option<String> {
        if let Some(setting) = self.settings.get(name) {
            return Some(setting.text.clone());
        }
        match name {
            "config_directory" => Some(self.folder.display().to_string()),
            "service_name" => Some(self.service.to_owned()),
            "process_name" => Some("smtpd".to_owned()),
            "system_hostname" => Some(system_hostname()),
            "parent_of_myhostname" => {
                let goes_round = Cell::new(false);
                let host = expand("$myhostname", &|inner| {
                    goes_round.set(goes_round.get() || inner == name);
                    (inner != name).then(|| self.text_of(inner)).flatten()
                });
                if goes_round.get() {
                    // As `myhostname = mail.$mydomain` alone does: told where it is read.
                    return Some("$myhostname".to_owned());
                }
                let host = host.ok()?;
                Some(
                    host.split_once('.')
                        .map_or("localdomain", |(_, parent)| parent)
                        .to_owned(),
                )
            }
            _ => params::row(name).map(|row| row.default.to_owned()),
        }
    }
}

impl Reader<'_, '_> {
    /// Where the parameter in `row` is set, or would be.
    fn place(&self, row: &Row) -> Place {
        let setting = self.scope.settings.get(row.name);
        setting.map_or_else(
            || Place::file(&self.scope.folder.join("main.cf")),
            |setting| setting.place.clone(),
        )
    }

    /// Warns of a value where another is always so.
    pub(crate) fn always(&mut self, row: &Row, text: &str) {
        let (name, default) = (row.name, row.default);
        let warning = format!("{name} = {text} is not honoured: it is always {default}");
        let warning = Mistake::new(&self.place(row), warning);
        self.warnings.push(warning);
    }

    /// The value of the parameter in `row`, set or default.
    pub(crate) fn value<T: Value>(&mut self, row: &Row) -> Option<T> {
        let setting = self.scope.settings.get(row.name);
        let place = self.place(row);
        let text = setting.map_or(row.default, |setting| &setting.text);
        let unknown = RefCell::new(Vec::new());
        let value_of = |name: &str| {
            let text = self.scope.text_of(name);
            if text.is_none() && name != "stress" {
                unknown.borrow_mut().push(name.to_owned());
            }
            text
        };
        let expanded = expand(text, &value_of);
        for name in unknown.into_inner() {
            let text = format!(
                "${name} in {} is not set anywhere and counts as empty",
                row.name
            );
            self.warnings.push(Mistake::new(&place, text));
        }
        // A default that refers to a parameter with a mistake is not a second mistake.
        let elsewhere = setting.is_none() && (expanded.is_err() || T::KIND == "tables");
        let parsed = expanded.and_then(|text| {
            let value = T::parse(text.trim(), row, self)?;
            match value.magnitude() {
                Some(number) if number < row.least => {
                    Err(format!("{text:?}, expected {} or more", row.least))
                }
                _ => Ok(value),
            }
        });
        parsed
            .map_err(|text| {
                if !elsewhere {
                    self.mistakes
                        .push(Mistake::new(&place, format!("{} = {text}", row.name)));
                }
            })
            .ok()
    }
}

fn system_hostname() -> String {
    let name = log::nodename();
    if name.contains('.') {
        name
    } else {
        format!("{name}.localdomain")
    }
}
