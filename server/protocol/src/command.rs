//! One command line, parsed (RFC 5321 §4.1.1 and the extensions that EHLO offers).
//!
//! In two steps, because what is wrong with a command depends on when it comes: [`Command::parse`]
//! finds the verb, and the session asks for the arguments once it knows that the verb may come now.
use alloc::format;
use alloc::string::String;

use crate::address::{BLANKS, Mailbox, ReversePath, cut_path, is_domain};
use crate::reply::Reply;
use crate::session::{Notify, Recipient, Ret};
use crate::xtext;

/// The verbs that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "they are the verbs of RFC 5321, 1985, 3030, 3207, 4954"
)]
pub enum Verb {
    Ehlo,
    Helo,
    Mail,
    Rcpt,
    Data,
    Bdat,
    Rset,
    Noop,
    Vrfy,
    Etrn,
    StartTls,
    Auth,
    Quit,
}

const VERBS: &[(&str, Verb)] = &[
    ("EHLO", Verb::Ehlo),
    ("HELO", Verb::Helo),
    ("MAIL", Verb::Mail),
    ("RCPT", Verb::Rcpt),
    ("DATA", Verb::Data),
    ("BDAT", Verb::Bdat),
    ("RSET", Verb::Rset),
    ("NOOP", Verb::Noop),
    ("VRFY", Verb::Vrfy),
    ("ETRN", Verb::Etrn),
    ("STARTTLS", Verb::StartTls),
    ("AUTH", Verb::Auth),
    ("QUIT", Verb::Quit),
];

/// What HTTP clients and proxies say (postconf(5) smtpd_forbidden_commands).
const FORBIDDEN: &[&str] = &["CONNECT", "GET", "POST"];

/// A verb and what stands behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command<'a> {
    /// The verb.
    pub verb: Verb,
    /// The rest of the line without blanks at its ends.
    pub arguments: &'a str,
}

/// A line that is no command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoCommand {
    /// It is wrong; the reply says how.
    Wrong(Reply),
    /// It speaks another protocol, or is part of a message: the connection is to be closed.
    Foreign,
}

impl<'a> Command<'a> {
    /// Finds the verb of a command line.
    pub fn parse(line: &'a [u8]) -> Result<Self, NoCommand> {
        let wrong = |text: &str| NoCommand::Wrong(Reply::new(500, text));
        let line =
            core::str::from_utf8(line).map_err(|_| wrong("5.5.2 Error: bad UTF-8 syntax"))?;
        let line = line.trim_matches(BLANKS);
        let (word, arguments) = line.split_once(BLANKS).unwrap_or((line, ""));
        if word.is_empty() {
            return Err(wrong("5.5.2 Error: bad syntax"));
        }
        let verb = VERBS
            .iter()
            .find(|(name, _)| word.eq_ignore_ascii_case(name));
        // A NUL is refused with its line: cutting the line there could make two addresses of one.
        if line.contains('\0') && (verb.is_some() || word.starts_with('\0')) {
            return Err(wrong("5.5.2 Error: bad syntax"));
        }
        match verb {
            Some(&(_, verb)) => Ok(Self {
                verb,
                arguments: arguments.trim_matches(BLANKS),
            }),
            None if is_foreign(word) => Err(NoCommand::Foreign),
            None => Err(wrong("5.5.2 Error: command not recognized")),
        }
    }
}

/// Not a letter first, a header field's name, or HTTP.
fn is_foreign(word: &str) -> bool {
    !word.starts_with(|letter: char| letter.is_ascii_alphabetic())
        || word.contains(':')
        || FORBIDDEN.iter().any(|verb| word.eq_ignore_ascii_case(verb))
}

/// The arguments of MAIL (RFC 5321 §4.1.1.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mail {
    /// FROM:.
    pub reverse_path: ReversePath,
    /// SIZE= (RFC 1870); more than 64 bits hold is the largest number they hold.
    pub size: Option<u64>,
    /// BODY= (RFC 6152) was given; what the content is shows when it comes.
    pub body: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// RET= (RFC 3461).
    pub ret: Option<Ret>,
    /// ENVID= (RFC 3461), in xtext.
    pub envid: Option<String>,
    /// AUTH= (RFC 4954 §5) was given; nobody here is trusted to vouch for another, so it is as
    /// good as `AUTH=<>`.
    pub auth: bool,
}

impl Mail {
    /// Parses `FROM:<path> parameters`.
    pub fn parse(arguments: &str) -> Result<Self, Reply> {
        let (path, parameters) = cut_argument(arguments, "FROM:")
            .ok_or_else(|| Reply::new(501, "5.5.4 Syntax: MAIL FROM:<address>"))?;
        let mut mail = Self {
            reverse_path: path.parse().map_err(|_| bad_sender())?,
            ..Self::default()
        };
        for parameter in parameters.split_ascii_whitespace() {
            mail.parameter(parameter)?;
        }
        if mail
            .reverse_path
            .mailbox()
            .is_some_and(|mailbox| !mailbox.is_ascii())
            && !mail.smtputf8
        {
            return Err(needs_smtputf8());
        }
        Ok(mail)
    }

    fn parameter(&mut self, parameter: &str) -> Result<(), Reply> {
        let (keyword, value) = keyword_and_value(parameter);
        let known = match (keyword.as_str(), value) {
            ("SIZE", Some(value)) => self.size.replace(size(value)?).is_none(),
            ("BODY", Some(value))
                if value.eq_ignore_ascii_case("8BITMIME") || value.eq_ignore_ascii_case("7BIT") =>
            {
                !core::mem::replace(&mut self.body, true)
            }
            ("SMTPUTF8", None) => !core::mem::replace(&mut self.smtputf8, true),
            ("RET", Some(value)) => self.ret.replace(ret(value)?).is_none(),
            ("ENVID", Some(value)) => {
                if value.is_empty() || xtext::decode(value).is_none() {
                    return Err(bad_parameter("ENVID"));
                }
                self.envid.replace(value.into()).is_none()
            }
            ("AUTH", Some(value)) => {
                if value.is_empty() || xtext::decode(value).is_none() {
                    return Err(bad_parameter("AUTH"));
                }
                !core::mem::replace(&mut self.auth, true)
            }
            _ => return Err(unsupported(parameter)),
        };
        if known {
            Ok(())
        } else {
            Err(bad_parameter(&keyword))
        }
    }
}

/// Parses `TO:<path> parameters` (RFC 5321 §4.1.1.3).
pub fn rcpt(arguments: &str, smtputf8: bool) -> Result<Recipient, Reply> {
    let (path, parameters) = cut_argument(arguments, "TO:")
        .ok_or_else(|| Reply::new(501, "5.5.4 Syntax: RCPT TO:<address>"))?;
    let mailbox: Mailbox = path.parse().map_err(|_| bad_recipient())?;
    let mut recipient = Recipient {
        mailbox,
        ..Recipient::default()
    };
    for parameter in parameters.split_ascii_whitespace() {
        let (keyword, value) = keyword_and_value(parameter);
        let bad = || Reply::new(501, format!("5.5.4 Error: Bad {keyword} parameter syntax"));
        let first = match (keyword.as_str(), value) {
            ("NOTIFY", Some(value)) => recipient
                .notify
                .replace(notify(value).ok_or_else(bad)?)
                .is_none(),
            ("ORCPT", Some(value)) if is_orcpt(value, smtputf8) => {
                recipient.orcpt.replace(value.into()).is_none()
            }
            ("ORCPT", Some(_)) => false,
            _ => return Err(unsupported(parameter)),
        };
        if !first {
            return Err(bad());
        }
    }
    if smtputf8 || recipient.mailbox.is_ascii() {
        Ok(recipient)
    } else {
        Err(needs_smtputf8())
    }
}

/// Parses the argument of VRFY: an address, and `SMTPUTF8` (RFC 6531 §3.7.4.2).
pub fn vrfy(arguments: &str) -> Result<Mailbox, Reply> {
    let syntax = || Reply::new(501, "5.5.4 Syntax: VRFY address [SMTPUTF8]");
    if arguments.is_empty() {
        return Err(syntax());
    }
    let (path, flag) = cut_path(arguments);
    let mailbox: Mailbox = path.parse().map_err(|_| bad_recipient())?;
    match flag.trim_matches(BLANKS) {
        "" if mailbox.is_ascii() => Ok(mailbox),
        "" => Err(needs_smtputf8()),
        flag if flag.eq_ignore_ascii_case("SMTPUTF8") => Ok(mailbox),
        _ => Err(syntax()),
    }
}

/// Checks the argument of ETRN (RFC 1985 §5.1): a domain, perhaps with `@` or `#` in front.
pub fn etrn(arguments: &str) -> Result<String, Reply> {
    match arguments.trim_start_matches(['@', '#']) {
        _ if arguments.is_empty() => Err(Reply::new(501, "5.5.4 Syntax: ETRN domain")),
        domain if is_domain(domain) => Ok(arguments.into()),
        _ => Err(Reply::new(501, "5.5.4 Error: invalid parameter syntax")),
    }
}

/// The arguments of BDAT (RFC 3030 §2): how many octets follow, and whether they are the last.
pub fn bdat(arguments: &str) -> Option<(u64, bool)> {
    let mut words = arguments.split_ascii_whitespace();
    let size = words.next()?;
    let size = size
        .bytes()
        .all(|octet| octet.is_ascii_digit())
        .then(|| size.parse().ok())??;
    match (words.next(), words.next()) {
        (None, None) => Some((size, false)),
        (Some(last), None) if last.eq_ignore_ascii_case("LAST") => Some((size, true)),
        _ => None,
    }
}

/// The path and the parameters behind `FROM:` or `TO:`: `None` where that or the path is missing.
fn cut_argument<'a>(arguments: &'a str, keyword: &str) -> Option<(&'a str, &'a str)> {
    let (word, rest) = arguments.split_at_checked(keyword.len())?;
    let rest = rest.trim_start_matches(BLANKS);
    let present = word.eq_ignore_ascii_case(keyword) && !rest.is_empty();
    present.then(|| cut_path(rest))
}

/// `keyword=value`, the keyword in upper case (RFC 5321 §4.1.2, esmtp-param).
fn keyword_and_value(parameter: &str) -> (String, Option<&str>) {
    let (keyword, value) = parameter
        .split_once('=')
        .map_or((parameter, None), |(keyword, value)| (keyword, Some(value)));
    (keyword.to_ascii_uppercase(), value)
}

/// SIZE= (RFC 1870 §3). A number that does not fit is too big, not wrong.
fn size(value: &str) -> Result<u64, Reply> {
    if value.is_empty() || !value.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(Reply::new(501, "5.5.4 Bad message size syntax"));
    }
    Ok(value.parse().unwrap_or(u64::MAX))
}

fn ret(value: &str) -> Result<Ret, Reply> {
    if value.eq_ignore_ascii_case("FULL") {
        Ok(Ret::Full)
    } else if value.eq_ignore_ascii_case("HDRS") {
        Ok(Ret::Headers)
    } else {
        Err(bad_parameter("RET"))
    }
}

/// NEVER, or a list of the others (RFC 3461 §4.1).
pub fn notify(value: &str) -> Option<Notify> {
    let mut notify = Notify::default();
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(notify);
    }
    for word in value.split(',') {
        match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => notify.success = true,
            "FAILURE" => notify.failure = true,
            "DELAY" => notify.delay = true,
            _ => return None,
        }
    }
    Some(notify)
}

/// An address type and xtext (RFC 3461 §4.2); of the type utf-8, letters beyond ASCII too, where
/// MAIL said SMTPUTF8 (RFC 6533 §3).
fn is_orcpt(value: &str, smtputf8: bool) -> bool {
    value.split_once(';').is_some_and(|(kind, address)| {
        let letter = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-';
        let as_it_is = smtputf8 && kind.eq_ignore_ascii_case("utf-8");
        let encoded = address.replace(|c: char| as_it_is && !c.is_ascii() && !c.is_control(), "");
        !kind.is_empty() && kind.bytes().all(letter) && xtext::decode(&encoded).is_some()
    })
}

fn bad_sender() -> Reply {
    Reply::new(501, "5.1.7 Bad sender address syntax")
}

fn bad_recipient() -> Reply {
    Reply::new(501, "5.1.3 Bad recipient address syntax")
}

fn bad_parameter(keyword: &str) -> Reply {
    Reply::new(501, format!("5.5.4 Bad {keyword} parameter syntax"))
}

fn unsupported(parameter: &str) -> Reply {
    Reply::new(555, format!("5.5.4 Unsupported option: {parameter}"))
}

/// RFC 6531 §3.5.
fn needs_smtputf8() -> Reply {
    Reply::new(553, "5.6.7 Error: address beyond ASCII needs SMTPUTF8")
}
