//! Is this the user's password? (saslauthd and pam_mysql of the tutorial.)
//!
//! The hash of the user's full address is compared by crypt(3). It promises: what is not a crypt(3)
//! hash never matches (plain text, empty, NULL, `*`, a locked `!...`); an unknown user costs the
//! same time as a known one; a database that does not answer is a temporary failure and never
//! "wrong password"; nothing is cached, and no password is ever logged.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;
use vmaild_protocol::Reply;
use yescrypt::{PasswordVerifier, Yescrypt};

use crate::tables::Maps;

/// A hash of nobody's password, until a real one was seen.
const SOME_HASH: &str = "abeTm2pJKypwA";
/// yescrypt hashes may ask for any amount of memory; more than this is not a password's.
const YESCRYPT_MEMORY: u64 = 256 << 20;

/// The answer to AUTH, for the client and for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// 235.
    Right,
    /// 535: wrong password, unknown user, unusable hash; nobody learns which.
    Wrong,
    /// 454: the database did not answer.
    Failed,
}

impl Verdict {
    /// What the client hears (RFC 4954 §6).
    pub fn reply(self) -> Reply {
        match self {
            Self::Right => Reply::new(235, "2.7.0 Authentication successful"),
            Self::Wrong => Reply::new(
                535,
                "5.7.8 Error: authentication failed: authentication failure",
            ),
            Self::Failed => Reply::new(
                454,
                "4.7.0 Temporary authentication failure: generic failure",
            ),
        }
    }
}

/// Checks passwords.
#[derive(Debug)]
pub struct Passwords {
    /// Hashing takes a core each; more at once would only slow each other and mail down.
    cores: Arc<Semaphore>,
    /// The last hash that a user had. An unknown user's password is compared with it (and refused
    /// whatever comes of it), so that it takes as long as a known user's.
    typical: Mutex<Arc<str>>,
}

impl Default for Passwords {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            cores: Arc::new(Semaphore::new(cores)),
            typical: Mutex::new(SOME_HASH.into()),
        }
    }
}

impl Passwords {
    /// Is `password` that of `user`? A name without `@` gets `@` and `local_domain`.
    pub async fn check(
        &self,
        hashes: &Maps,
        local_domain: &str,
        user: &str,
        password: String,
    ) -> Verdict {
        let Ok(stored) = hashes.get(&full_name(user, local_domain)).await else {
            return Verdict::Failed;
        };
        let (hash, theirs) = self.hash_to_compare(stored);
        let Ok(permit) = Arc::clone(&self.cores).acquire_owned().await else {
            return Verdict::Failed;
        };
        let compared = tokio::task::spawn_blocking(move || {
            let right = verify(&password, &hash);
            drop(permit);
            right
        });
        match compared.await {
            Ok(true) if theirs => Verdict::Right,
            Ok(_) => Verdict::Wrong,
            // The comparison broke off: nothing is known about the password.
            Err(_) => Verdict::Failed,
        }
    }

    /// The user's hash, or one that takes as long; whether it is theirs.
    fn hash_to_compare(&self, stored: Option<String>) -> (Arc<str>, bool) {
        let mut typical = self.typical.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = stored.filter(|hash| is_crypt(hash));
        let is_theirs = theirs.is_some();
        if let Some(hash) = theirs {
            *typical = hash.into();
        }
        (Arc::clone(&typical), is_theirs)
    }
}

/// The name as the table knows it (saslauthd -r of the tutorial).
fn full_name(user: &str, local_domain: &str) -> String {
    if user.contains('@') || local_domain.is_empty() {
        user.to_owned()
    } else {
        format!("{user}@{local_domain}")
    }
}

/// The text has the form of a crypt(3) hash.
fn is_crypt(hash: &str) -> bool {
    const PREFIXES: [&str; 10] = [
        "$1$", "$5$", "$6$", "$2a$", "$2b$", "$2x$", "$2y$", "$y$", "$sha1$", "_",
    ];
    let is_digit = |b: u8| b.is_ascii_alphanumeric() || b"./".contains(&b);
    let des = hash.len() == 13 && hash.bytes().all(is_digit);
    des || PREFIXES.iter().any(|prefix| hash.starts_with(prefix))
}

/// crypt(3) takes phrases shorter than this (CRYPT_MAX_PASSPHRASE_SIZE), and rightly: the work of
/// `$5$` and `$6$` grows with their length.
const PHRASE_LIMIT: usize = 512;

/// crypt(3).
fn verify(password: &str, hash: &str) -> bool {
    if !is_crypt(hash) || password.contains('\0') || password.len() >= PHRASE_LIMIT {
        return false;
    }
    if let Some(rest) = hash.strip_prefix("$y$") {
        return is_affordable(rest)
            && Yescrypt::default()
                .verify_password(password.as_bytes(), hash)
                .is_ok();
    }
    if let Some(rest) = hash.strip_prefix("$2x$") {
        // The flaw that $2x$ keeps concerns octets above 127 only.
        return password.is_ascii() && pwhash::unix::verify(password, &format!("$2y${rest}"));
    }
    pwhash::unix::verify(password, hash)
}

fn is_affordable(yescrypt: &str) -> bool {
    let parameters = yescrypt.split('$').next().unwrap_or_default();
    parameters.parse::<yescrypt::Params>().is_ok_and(|asked| {
        let memory = asked.n().checked_mul(128 * u64::from(asked.r()));
        memory.is_some_and(|memory| memory <= YESCRYPT_MEMORY)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("")]
    #[case("*0")]
    #[case("$y$j9T$")]
    #[case("$y$jzzT$abcdefghijklmnopqrstu.$5FwCjo8BttzxiiKOaCoGKLDSFZedi3RiqbIQijaNp19")]
    #[case("$6$")]
    #[case("$2y$")]
    fn what_is_no_hash_never_matches(#[case] stored: &str) {
        for password in ["mypassword", "", stored] {
            assert!(!verify(password, stored));
        }
    }

    #[rstest]
    #[case::eight_characters_count("mypasswoXYZ", true)]
    #[case("mypassw", false)]
    #[case::a_nul_is_no_end("mypassword\0", false)]
    #[case::of_511_octets(&format!("{:x<511}", "mypasswo"), true)]
    #[case::of_512_octets(&format!("{:x<512}", "mypasswo"), false)]
    fn a_phrase_is_compared_as_crypt_does_it(#[case] phrase: &str, #[case] right: bool) {
        assert_eq!(verify(phrase, "abeTm2pJKypwA"), right);
    }

    #[test]
    fn an_unknown_user_is_compared_with_a_hash_of_the_usual_kind() {
        let passwords = Passwords::default();
        let bcrypt = "$2b$05$abcdefghijklmnopqrstuuvDJJb4sDt60MZ9eZ0TlqpI/4MXR.lyS";
        for (stored, theirs) in [(Some(bcrypt), true), (None, false), (Some("plain"), false)] {
            let compared = passwords.hash_to_compare(stored.map(str::to_owned));
            assert_eq!(compared, (bcrypt.into(), theirs));
        }
    }

    #[test]
    fn a_name_without_domain_gets_the_local_one() {
        assert_eq!(full_name("user", "domain.com"), "user@domain.com");
        assert_eq!(full_name("user@d", "domain.com"), "user@d");
        assert_eq!(full_name("user", ""), "user");
    }

    proptest::proptest! {
        #[test]
        fn no_stored_text_makes_the_comparison_panic(stored in "[$_156ya.]{0,4}[./0-9a-z$]{0,20}", password in "\\PC{0,12}") {
            // Rounds and costs that a row could ask for are bounded elsewhere; here only short texts.
            if !stored.contains("rounds") && !stored.starts_with("$2") && !stored.starts_with("$sha1") {
                let _ = verify(&password, &stored);
            }
        }
    }
}
