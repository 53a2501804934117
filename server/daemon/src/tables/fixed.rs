//! Tables that need no lookup: `static:value`, `inline:{k=v, {k=v}}`, and names written in a list.

use std::collections::HashMap;

use crate::config::main_cf::{bracketed, words};

/// A table whose rows stand in main.cf itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Table {
    /// `static:value`: every key has this value.
    Static(String),
    /// `inline:{ k=v, { k = v } }`.
    Inline(HashMap<String, String>),
    /// A domain written out in a list of domains: it is its own key and value.
    Name(String),
}

impl Table {
    pub(crate) fn get(&self, key: &str) -> Option<String> {
        match self {
            Self::Static(value) => Some(value.clone()),
            Self::Inline(rows) => rows.get(key).cloned(),
            Self::Name(name) => (name == key).then(|| name.clone()),
        }
    }

    /// What follows `inline:`.
    pub(crate) fn parse_inline(text: &str) -> Result<Self, String> {
        let expected = "expected inline:{ key=value, { key = value with blanks } }";
        let text = text.trim();
        if !text.starts_with('{') {
            return Err(expected.to_owned());
        }
        let (inside, behind) = bracketed(text, '{')?;
        if !behind.trim().is_empty() {
            return Err(expected.to_owned());
        }
        let mut rows = HashMap::new();
        for word in words(inside) {
            let row = match word.strip_prefix('{').and_then(|row| row.strip_suffix('}')) {
                Some(row) => row,
                None => word,
            };
            let (key, value) = row
                .split_once('=')
                .ok_or_else(|| format!("{row:?}, {expected}"))?;
            rows.insert(key.trim().to_lowercase(), value.trim().to_owned());
        }
        Ok(Self::Inline(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inline_rows_may_hold_blanks_when_braced() {
        let table = Table::parse_inline("{ a@b = x").unwrap_err();
        assert!(table.contains("lacks its closing }"), "{table}");
        let table = Table::parse_inline("{A=1, {b = smtp:[h]:25, x} c=3}").unwrap();
        let get = |key| table.get(key);
        assert_eq!(
            (get("a").as_deref(), get("b").as_deref()),
            (Some("1"), Some("smtp:[h]:25, x"))
        );
        assert_eq!((get("c").as_deref(), get("d")), (Some("3"), None));
    }
}
