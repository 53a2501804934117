//! AUTH PLAIN and LOGIN (RFC 4954, RFC 4616, draft-murchison-sasl-login).
//!
//! Base64 that is none is 501 5.5.2 (RFC 4954 §4); base64 of something that no login can be is
//! 535 5.7.8, without asking anybody: an empty user name or password, NUL inside, not UTF-8,
//! somebody else's authorization identity.
use alloc::string::String;
use alloc::vec::Vec;

use base64ct::{Base64, Encoding};

use crate::reply::Reply;

/// The longest response, in base64 (RFC 4954 §4, postconf(5) smtpd_sasl_response_limit).
pub const RESPONSE_LIMIT: usize = 12_288;

/// What the next line of the client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchange {
    /// PLAIN: everything.
    Plain,
    /// LOGIN: the user name.
    LoginUser,
    /// LOGIN: the password; the user name was this, not yet looked at.
    LoginPassword(Vec<u8>),
}

/// What follows from the client's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this 334, then read one more line.
    Challenge(Exchange, Reply),
    /// Ask whether this is right.
    Credentials {
        /// PLAIN or LOGIN.
        mechanism: &'static str,
        /// The user name.
        user: String,
        /// The password.
        password: String,
    },
}

/// The argument of AUTH: a mechanism and, perhaps, an initial response (RFC 4954 §4).
///
/// An error is the reply that ends the exchange.
pub fn begin(arguments: &str) -> Result<Step, Reply> {
    let mut words = arguments.split_ascii_whitespace();
    let (Some(mechanism), initial, None) = (words.next(), words.next(), words.next()) else {
        return Err(Reply::new(501, "5.5.4 Syntax: AUTH mechanism"));
    };
    let exchange = if mechanism.eq_ignore_ascii_case("PLAIN") {
        Exchange::Plain
    } else if mechanism.eq_ignore_ascii_case("LOGIN") {
        Exchange::LoginUser
    } else {
        let text = "5.5.4 Error: authentication mechanism not supported";
        return Err(Reply::new(504, text));
    };
    match initial {
        None => Ok(exchange.challenge()),
        // An empty initial response is written as "=".
        Some("=") => exchange.decoded(Vec::new()),
        Some(initial) => exchange.encoded(initial.as_bytes()),
    }
}

impl Exchange {
    /// The client's answer to a challenge; an error as of `begin`.
    pub fn respond(self, line: &[u8], cut: bool) -> Result<Step, Reply> {
        if line == b"*" {
            return Err(Reply::new(501, "5.7.0 Authentication aborted"));
        }
        if cut {
            return Err(too_long());
        }
        self.encoded(line)
    }

    fn challenge(self) -> Step {
        let prompt = match self {
            Self::Plain => "",
            Self::LoginUser => "VXNlcm5hbWU6",
            Self::LoginPassword(_) => "UGFzc3dvcmQ6",
        };
        Step::Challenge(self, Reply::new(334, prompt))
    }

    fn encoded(self, response: &[u8]) -> Result<Step, Reply> {
        if response.len() > RESPONSE_LIMIT {
            return Err(too_long());
        }
        let decoded = core::str::from_utf8(response).ok().map(Base64::decode_vec);
        match decoded {
            Some(Ok(octets)) => self.decoded(octets),
            _ => Err(Reply::new(501, "5.5.2 Error: malformed base64")),
        }
    }

    fn decoded(self, octets: Vec<u8>) -> Result<Step, Reply> {
        let credentials = match self {
            Self::Plain => plain(&octets),
            Self::LoginUser => return Ok(Self::LoginPassword(octets).challenge()),
            Self::LoginPassword(user) => credentials("LOGIN", &user, &octets),
        };
        credentials.ok_or_else(|| Reply::new(535, "5.7.8 Error: authentication failed"))
    }
}

/// A PLAIN message: authorization identity, NUL, user name, NUL, password (RFC 4616 §2).
fn plain(message: &[u8]) -> Option<Step> {
    let parts: Vec<_> = message.split(|&octet| octet == 0).collect();
    match parts[..] {
        [identity, user, password] if identity.is_empty() || identity == user => {
            credentials("PLAIN", user, password)
        }
        _ => None,
    }
}

fn credentials(mechanism: &'static str, user: &[u8], password: &[u8]) -> Option<Step> {
    let text = |octets: &[u8]| {
        let text = core::str::from_utf8(octets).ok()?;
        (!text.is_empty() && !text.contains('\0')).then(|| String::from(text))
    };
    Some(Step::Credentials {
        mechanism,
        user: text(user)?,
        password: text(password)?,
    })
}

fn too_long() -> Reply {
    Reply::new(500, "5.5.6 SASL response limit exceeded")
}
