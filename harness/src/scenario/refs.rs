//! Ids of clauses, and references: where a requirement comes from.
//!
//! | written | read |
//! |---|---|
//! | `rfc5321#4.5.2`, `rfc5321` | RFC 5321, section 4.5.2 <https://www.rfc-editor.org/rfc/rfc5321#section-4.5.2> |
//! | `rfc5321#F.2` | RFC 5321, appendix F.2 |
//! | `draft-ietf-emailcore-rfc5321bis-43#2.3.8` | the draft, section 2.3.8 |
//! | `postfix:virtual_alias_maps` | Postfix, postconf(5): virtual_alias_maps |
//! | `postfix:virtual(8)` | Postfix, virtual(8) |
//! | `tutorial:mysql-virtual_domains.cf` | the tutorial: mysql-virtual_domains.cf |
//! | `maildir++`, `maildir5`, `crypt3` | Maildir++, maildir(5), crypt(3) |
//! | `vmailspec:WORD` | this suite's own: what no text asks for and every operator expects |

use std::fmt;

/// Where a requirement comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// `rfc5321#4.5.2`
    Rfc {
        /// `5321`
        number: u32,
        /// `4.5.2`, or `F.2` for an appendix.
        section: Option<String>,
    },
    /// `draft-ietf-emailcore-rfc5321bis-43#2.3.8`
    Draft {
        /// The draft's name.
        name: String,
        /// `2.3.8`
        section: Option<String>,
    },
    /// `postfix:virtual_alias_maps`, `postfix:virtual(8)`
    Postfix(String),
    /// `tutorial:WORD`
    Tutorial(String),
    /// `vmailspec:WORD`
    Own(String),
    /// `maildir++`
    MaildirPlusPlus,
    /// `maildir5`
    Maildir,
    /// `crypt3`
    Crypt,
}

impl Reference {
    /// Reads a reference as scenarios write it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "maildir++" => return Some(Self::MaildirPlusPlus),
            "maildir5" => return Some(Self::Maildir),
            "crypt3" => return Some(Self::Crypt),
            _ => {}
        }
        if let Some((scheme, word)) = text.split_once(':') {
            return match scheme {
                "postfix" if is_parameter(word) || is_manual(word) => {
                    Some(Self::Postfix(word.to_owned()))
                }
                "tutorial" if is_word(word) => Some(Self::Tutorial(word.to_owned())),
                "vmailspec" if is_word(word) => Some(Self::Own(word.to_owned())),
                _ => None,
            };
        }
        let (document, section) = match text.split_once('#') {
            Some((document, section)) if is_section(section) => {
                (document, Some(section.to_owned()))
            }
            Some(_) => return None,
            None => (text, None),
        };
        if let Some(number) = document.strip_prefix("rfc") {
            let digits = number.chars().all(|c| c.is_ascii_digit()) && !number.starts_with('0');
            let number = number
                .parse()
                .ok()
                .filter(|_| digits && number.len() <= 5)?;
            return Some(Self::Rfc { number, section });
        }
        let name = document.strip_prefix("draft-")?;
        let whole = !name.is_empty() && !name.ends_with('-');
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        (whole && name.chars().all(plain)).then(|| Self::Draft {
            name: document.to_owned(),
            section,
        })
    }

    /// Where to read it, for what the Internet's standards say.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        let place = |section: &Option<String>| {
            section.as_ref().map_or_else(String::new, |section| {
                let kind = if is_appendix(section) {
                    "appendix"
                } else {
                    "section"
                };
                format!("#{kind}-{section}")
            })
        };
        match self {
            Self::Rfc { number, section } => Some(format!(
                "https://www.rfc-editor.org/rfc/rfc{number}{}",
                place(section)
            )),
            Self::Draft { name, section } => Some(format!(
                "https://datatracker.ietf.org/doc/html/{name}{}",
                place(section)
            )),
            _ => None,
        }
    }
}

/// In words: `RFC 5321, section 4.5.2`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (document, section) = match self {
            Self::Rfc { number, section } => (format!("RFC {number}"), section.as_deref()),
            Self::Draft { name, section } => (name.clone(), section.as_deref()),
            Self::Postfix(word) if is_manual(word) => return write!(f, "Postfix, {word}"),
            Self::Postfix(word) => return write!(f, "Postfix, postconf(5): {word}"),
            Self::Tutorial(word) => return write!(f, "the tutorial: {word}"),
            Self::Own(word) => return write!(f, "this suite's own: {word}"),
            Self::MaildirPlusPlus => return f.write_str("Maildir++"),
            Self::Maildir => return f.write_str("maildir(5)"),
            Self::Crypt => return f.write_str("crypt(3)"),
        };
        f.write_str(&document)?;
        match section {
            Some(section) if is_appendix(section) => write!(f, ", appendix {section}"),
            Some(section) => write!(f, ", section {section}"),
            None => Ok(()),
        }
    }
}

/// In words, with the address where there is one; as it stands where it is no reference.
#[must_use]
pub fn in_words(reference: &str) -> String {
    Reference::parse(reference).map_or_else(
        || reference.to_owned(),
        |known| match known.url() {
            Some(url) => format!("{known} <{url}>"),
            None => known.to_string(),
        },
    )
}

/// Is this meant as a reference, rightly spelt or not? The claim begins at the first word that
/// is not.
pub(crate) fn looks_like_reference(word: &str) -> bool {
    let lower = word.to_lowercase();
    let rfc = lower.strip_prefix("rfc").is_some_and(|rest| {
        rest.chars()
            .next()
            .is_some_and(|c| c.is_ascii_digit() || "-#:_§".contains(c))
    });
    let scheme = word.split_once(':').is_some_and(|(scheme, rest)| {
        !rest.is_empty() && !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric())
    });
    rfc || scheme
        || word.contains('#')
        || lower.starts_with("draft-")
        || ["maildir++", "maildir5", "crypt3", "crypt(3)", "maildir(5)"].contains(&lower.as_str())
}

/// `group.name`: lower case, digits, dashes; further dots may follow (`esc.code-5.1.1`).
#[must_use]
pub fn is_id(text: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    text.contains('.') && text.split('.').all(part)
}

/// A postconf parameter.
pub(crate) fn is_parameter(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// A manual page, `virtual(8)`.
fn is_manual(word: &str) -> bool {
    word.strip_suffix(')')
        .and_then(|word| word.split_once('('))
        .is_some_and(|(page, section)| {
            is_word(page) && section.len() == 1 && section.chars().all(|c| c.is_ascii_digit())
        })
}

fn is_word(word: &str) -> bool {
    !word.is_empty()
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_-.+*".contains(c))
}

/// `4.5.2`, or `F.2` for an appendix.
fn is_section(section: &str) -> bool {
    let mut parts = section.split('.');
    let first = parts.next().unwrap_or_default();
    let number =
        |part: &str| (1..=3).contains(&part.len()) && part.chars().all(|c| c.is_ascii_digit());
    (number(first) || is_appendix(section)) && parts.all(number)
}

fn is_appendix(section: &str) -> bool {
    let first = section.split('.').next().unwrap_or_default();
    first.len() == 1 && first.chars().all(|c| c.is_ascii_uppercase())
}
