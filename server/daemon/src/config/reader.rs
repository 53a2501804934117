//! One reading of the parameters: main.cf, or main.cf with the `-o` options of one service.

use super::main_cf::{Settings, expand};
use super::mistake::Mistake;
use super::params::{self, Params, Row};
use super::values::Value;
use crate::log;
use crate::tables::source::Tables;

/// Makes values of settings; what there is to say of them gathers over all readings.
#[derive(Default)]
pub(crate) struct Reader {
    pub(crate) settings: Settings,
    /// The service that they are for; empty for main.cf alone.
    pub(crate) service: String,
    pub(crate) tables: Tables,
    pub(crate) mistakes: Vec<Mistake>,
    pub(crate) warnings: Vec<Mistake>,
}

impl Reader {
    /// All parameters; `None` when one of them is a mistake.
    pub(crate) fn params(&mut self) -> Option<Params> {
        self.warnings.extend(params::unhonoured(&self.settings));
        // The tables need to know how long a lookup may take before the first of them is opened.
        if let Some(limit) = self.value("vmaild_lookup_time_limit") {
            self.tables.time_limit = limit;
        }
        Params::read(self)
    }

    /// What `$name` stands for, before expansion.
    fn text_of(&self, name: &str) -> Option<String> {
        if let Some(setting) = self.settings.get(name) {
            return Some(setting.text.clone());
        }
        match name {
            "config_directory" => Some(self.tables.folder.display().to_string()),
            "service_name" => Some(self.service.clone()),
            "process_name" => Some("smtpd".to_owned()),
            "system_hostname" => Some(system_hostname()),
            "parent_of_myhostname" => {
                let host = expand("$myhostname", &mut |inner| match inner {
                    "parent_of_myhostname" => Some("$parent_of_myhostname".to_owned()),
                    _ => self.text_of(inner),
                });
                let parent = |host: String| match host.split_once('.') {
                    Some((_, parent)) => parent.to_owned(),
                    None => "localdomain".to_owned(),
                };
                // What goes round, as `myhostname = mail.$mydomain` does: told where it is read.
                Some(host.map_or_else(|_| "$myhostname".to_owned(), parent))
            }
            _ => params::row(name).map(|row| row.default.to_owned()),
        }
    }

    /// Warns of a value where another is always so.
    pub(crate) fn always(&mut self, row: &Row, text: &str) {
        let (name, default) = (row.name, row.default);
        let warning = format!("{name} = {text} is not honoured: it is always {default}");
        let warning = Mistake::new(&self.settings.place(name), warning);
        self.warnings.push(warning);
    }

    /// The value of the parameter called `name`, set or default; `None` when it is a mistake.
    pub(crate) fn value<T: Value>(&mut self, name: &str) -> Option<T> {
        let row = params::row(name)?;
        let place = self.settings.place(name);
        let mut unknown = Vec::new();
        let expanded = expand(&self.text_of(name)?, &mut |inner| {
            let text = self.text_of(inner);
            if text.is_none() && inner != "stress" {
                unknown.push(inner.to_owned());
            }
            text
        });
        for unknown in unknown {
            let text = format!("${unknown} in {name} is not set anywhere and counts as empty");
            self.warnings.push(Mistake::new(&place, text));
        }
        // A default that refers to a parameter with a mistake is not a second mistake.
        let is_set = self.settings.get(name).is_some();
        let elsewhere = !is_set && (expanded.is_err() || T::KIND == "tables");
        let parsed = expanded.and_then(|text| T::parse(text.trim(), row, self));
        if let Err(text) = &parsed
            && !elsewhere
        {
            let text = format!("{name} = {text}");
            self.mistakes.push(Mistake::new(&place, text));
        }
        parsed.ok()
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
