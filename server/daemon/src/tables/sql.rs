//! A query of mysql_table(5) or sqlite_table(5) as a statement with bound values.
//!
//! It promises that no address can change a query: `%s`, `%u` and `%d` never become part of the SQL
//! text. A quoted literal that holds one, such as `'%u@%d'`, becomes one bound value as a whole.

use std::iter::Peekable;
use std::str::Chars;

/// What a bound value is put together from.
#[derive(Debug)]
enum Part {
    Text(String),
    /// `%s`
    Key,
    /// `%u`
    User,
    /// `%d`
    Domain,
}

/// A statement with `?` for each bound value.
#[derive(Debug)]
pub(crate) struct Statement {
    /// The text between the bound values; one more than there are values.
    text: Vec<String>,
    values: Vec<Vec<Part>>,
}

impl Statement {
    /// Compiles `query`.
    pub(crate) fn compile(query: &str) -> Result<Self, String> {
        let mut statement = Self {
            text: vec![String::new()],
            values: Vec::new(),
        };
        let mut rest = query.chars().peekable();
        while let Some(c) = rest.next() {
            match c {
                '\'' | '"' => statement.literal(query, c, &mut rest)?,
                '?' => {
                    return Err(format!(
                        "{query:?} has a ? outside of quotes, expected %s, %u or %d"
                    ));
                }
                '%' => match part(rest.next())? {
                    Part::Text(text) => statement.push(&text),
                    part => statement.bind(vec![part]),
                },
                other => statement.push(other.encode_utf8(&mut [0; 4])),
            }
        }
        Ok(statement)
    }

    fn push(&mut self, text: &str) {
        if let Some(last) = self.text.last_mut() {
            last.push_str(text);
        }
    }

    fn bind(&mut self, value: Vec<Part>) {
        self.values.push(value);
        self.text.push(String::new());
    }

    /// A literal of `query` up to its closing `quote`: as it stands there, or bound as the database
    /// would read it where a key, user or domain is in it.
    fn literal(
        &mut self,
        query: &str,
        quote: char,
        rest: &mut Peekable<Chars<'_>>,
    ) -> Result<(), String> {
        let (mut raw, mut text, mut parts) = (String::from(quote), String::new(), Vec::new());
        loop {
            match rest.next() {
                None => return Err(format!("{query:?} lacks a closing {quote}")),
                Some('%') => match part(rest.next_if(|&next| next != quote))? {
                    Part::Text(percent) => {
                        raw.push_str(&percent);
                        text.push_str(&percent);
                    }
                    part => parts.extend([Part::Text(std::mem::take(&mut text)), part]),
                },
                Some('\\') => {
                    let escaped = rest.next_if(|&next| next != '%');
                    raw.push('\\');
                    raw.extend(escaped);
                    text.extend(escaped);
                }
                Some(letter) if letter == quote => {
                    raw.push(quote);
                    let Some(doubled) = rest.next_if_eq(&quote) else {
                        break;
                    };
                    raw.push(doubled);
                    text.push(doubled);
                }
                Some(letter) => {
                    raw.push(letter);
                    text.push(letter);
                }
            }
        }
        if parts.is_empty() {
            self.push(&raw);
        } else {
            parts.push(Part::Text(text));
            self.bind(parts);
        }
        Ok(())
    }

    /// The SQL text, with `placeholder` where a value is bound.
    pub(crate) fn sql(&self, placeholder: &str) -> String {
        self.text.join(placeholder)
    }

    /// The bound values for `key`; `None` where the query asks for a domain, or a name, that the key has not.
    pub(crate) fn values(&self, key: &str) -> Option<Vec<String>> {
        let address = key.rsplit_once('@');
        let user = address.map_or(key, |(user, _)| user);
        let value = |parts: &Vec<Part>| {
            let texts = parts.iter().map(|part| match part {
                Part::Text(text) => Some(text.as_str()),
                Part::Key => Some(key),
                // Of `@domain` there is none, and no query is asked that would ask for it.
                Part::User => Some(user).filter(|user| !user.is_empty()),
                Part::Domain => address.map(|(_, domain)| domain),
            });
            texts.collect()
        };
        self.values.iter().map(value).collect()
    }
}

fn part(letter: Option<char>) -> Result<Part, String> {
    match letter {
        Some('%') => Ok(Part::Text("%".to_owned())),
        Some('s' | 'S') => Ok(Part::Key),
        Some('u' | 'U') => Ok(Part::User),
        Some('d' | 'D') => Ok(Part::Domain),
        Some(other) => Err(format!(
            "%{other} is not supported, expected %s, %u, %d or %%"
        )),
        None => Err("a lone % at the end, expected %s, %u, %d or %%".to_owned()),
    }
}

/// One row of a key: the columns of all rows are one value, joined by commas. NULL and empty ones
/// do not count.
pub(super) fn add_row(
    value: &mut Option<String>,
    columns: impl IntoIterator<Item = Option<String>>,
) {
    let value = value.get_or_insert_default();
    for text in columns
        .into_iter()
        .flatten()
        .filter(|text| !text.is_empty())
    {
        if !value.is_empty() {
            value.push(',');
        }
        value.push_str(&text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("SELECT a FROM t WHERE k = '%s'", "SELECT a FROM t WHERE k = ?", &["x'y@d"])]
    #[case("SELECT a FROM t WHERE k = %s", "SELECT a FROM t WHERE k = ?", &["x'y@d"])]
    #[case("WHERE u = \"%u\" AND d = '%d'", "WHERE u = ? AND d = ?", &["x'y", "d"])]
    #[case("WHERE k = '%u/it''s\\'%%/%d'", "WHERE k = ?", &["x'y/it's'%/d"])]
    #[case("SELECT 'a''b?100%%', SUBSTRING_INDEX(email,'@',-1)", "SELECT 'a''b?100%', SUBSTRING_INDEX(email,'@',-1)", &[])]
    fn a_query_becomes_a_statement_with_bound_values(
        #[case] query: &str,
        #[case] sql: &str,
        #[case] values: &[&str],
    ) {
        let statement = Statement::compile(query).unwrap();
        assert_eq!(statement.sql("?"), sql);
        assert_eq!(statement.values("x'y@d").unwrap(), values);
    }

    #[test]
    fn a_key_without_domain_is_not_asked_where_the_query_wants_one() {
        assert_eq!(Statement::compile("'%d'").unwrap().values("name"), None);
        assert_eq!(Statement::compile("'%u%%'").unwrap().values("@d"), None);
        assert_eq!(
            Statement::compile("'%u'").unwrap().values("name").unwrap(),
            ["name"]
        );
    }

    #[rstest]
    #[case("k = '%s")]
    #[case("k = ?")]
    #[case("k = '%1'")]
    #[case("k = 5%")]
    fn a_query_that_cannot_be_bound_is_a_mistake(#[case] query: &str) {
        assert!(Statement::compile(query).is_err());
    }
}
