//! What no report, no message and no line on the terminal may show: the passwords that a user gave.
//!
//! It promises: a text leaves without the password as it is, as it is written where octets are
//! escaped, and within whatever is encoded by base64 (AUTH PLAIN, AUTH LOGIN, a server that says it
//! back).

use base64ct::{Base64, Base64Unpadded, Encoding as _};

use super::database::url::Url;
use super::outside::{Rows, Secret};
use super::{EnvironmentError, Options};

/// What stands there instead.
const HIDDEN: &str = "***";

/// The passwords of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets(Vec<Secret>);

impl Secrets {
    /// Those that the command line and the target's description hold.
    #[must_use]
    pub fn of(options: &Options) -> Self {
        let mut all = Vec::new();
        let mut add = |text: &str| {
            let escaped = text.as_bytes().escape_ascii().to_string();
            for form in [text.to_owned(), escaped] {
                if !form.is_empty() && !all.contains(&form) {
                    all.push(form);
                }
            }
        };
        let mut urls = vec![options.database.as_str()];
        match options.target.outside().map(|outside| &outside.rows) {
            Some(Rows::Account(account)) => add(&account.password.0),
            Some(Rows::Database(Some(url))) => urls.push(&url.0),
            _ => {}
        }
        for url in urls {
            // As it is written in the URL, and as it is.
            if let Some((login, _)) = url.rsplit_once('@')
                && let Some((_, written)) =
                    login.rsplit_once("//").and_then(|(_, l)| l.split_once(':'))
            {
                add(written);
            }
            if let Ok(url) = Url::parse(url) {
                add(url.password());
            }
        }
        // The longest first: one may be a part of another.
        all.sort_by_key(|form| std::cmp::Reverse(form.len()));
        Self(all.into_iter().map(Secret).collect())
    }

    /// A text without them.
    #[must_use]
    pub fn hidden(&self, text: String) -> String {
        if self.0.is_empty() {
            return text;
        }
        let mut text = self.hidden_in_base64(&text);
        for Secret(secret) in &self.0 {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), HIDDEN);
            }
        }
        text
    }

    /// What went wrong, without them.
    #[must_use]
    pub fn hidden_in(&self, error: EnvironmentError) -> EnvironmentError {
        match error {
            EnvironmentError::Usage(text) => EnvironmentError::Usage(self.hidden(text)),
            EnvironmentError::Unavailable(text) => EnvironmentError::Unavailable(self.hidden(text)),
        }
    }

    fn hidden_in_base64(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
        while let Some(start) = rest.find(inside) {
            let (before, from) = rest.split_at(start);
            let length = from.find(|c| !inside(c)).unwrap_or(from.len());
            let (word, behind) = from.split_at(length);
            out.push_str(before);
            if self.is_within(word) {
                out.push_str(HIDDEN);
                rest = behind.trim_start_matches('=');
            } else {
                out.push_str(word);
                rest = behind;
            }
        }
        out.push_str(rest);
        out
    }

    /// Whether a word of base64 holds one of them.
    fn is_within(&self, word: &str) -> bool {
        // What was cut off in the middle of a group, too.
        let whole = word.get(..word.len() / 4 * 4).unwrap_or_default();
        let decoded = Base64Unpadded::decode_vec(word).or_else(|_| Base64::decode_vec(whole));
        decoded.is_ok_and(|octets| {
            self.0.iter().any(|Secret(secret)| {
                octets
                    .windows(secret.len())
                    .any(|window| window == secret.as_bytes())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{Secret, Secrets};

    #[rstest]
    #[case::plain("said mypassword.", "said ***.")]
    #[case::auth_login("S: 334 bXlwYXNzd29yZA== x", "S: 334 *** x")]
    #[case::auth_plain("AUTH PLAIN AGFAYi50ZXN0AG15cGFzc3dvcmQ=", "AUTH PLAIN ***")]
    #[case::in_quotes("got <AGFAYi50ZXN0AG15cGFzc3dvcmQ=>", "got <***>")]
    #[case::cut_off("AGFAYi50ZXN0AG15cGFzc3dvcmQuLg… (99 octets)", "***… (99 octets)")]
    #[case::nothing(
        "250 2.1.0 Ok, passwords are hidden",
        "250 2.1.0 Ok, passwords are hidden"
    )]
    #[case::another("334 VXNlcm5hbWU6", "334 VXNlcm5hbWU6")]
    fn a_text_leaves_without_the_password(#[case] text: &str, #[case] shown: &str) {
        let secrets = Secrets(vec![Secret("mypassword".to_owned())]);
        assert_eq!(secrets.hidden(text.to_owned()), shown);
    }
}
