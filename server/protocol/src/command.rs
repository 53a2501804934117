//! One command line, parsed (RFC 5321 §4.1.1 and the extensions that EHLO offers).
//!
//! In two steps, because what is wrong with a command depends on when it comes: [`verb`]
//! finds the verb, and the session asks for the arguments once it knows that the verb may come now.
use alloc::format;
use alloc::string::String;
use core::mem::replace;

use crate::address::{BLANKS, Mailbox, cut_path, is_domain};
use crate::reply::Reply;
use crate::session::{Envelope, Notify, Recipient, Ret};
use crate::xtext;

/// The verbs that are served (RFC 5321, 1985, 3030, 3207, 4954).
const VERBS: &[&str] = &[
    "EHLO", "HELO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "VRFY", "ETRN", "STARTTLS",
    "AUTH", "QUIT",
];

/// What HTTP clients and proxies say (postconf(5) smtpd_forbidden_commands).
const FORBIDDEN: &[&str] = &["CONNECT", "GET", "POST"];

/// The verb of a command line, in upper case, and the rest of the line without blanks at its ends.
/// What is no command is refused, and what is of another protocol with 221.
pub fn verb(line: &[u8]) -> Result<(&'static str, &str), Reply> {
    let bad_syntax = || Reply::new(500, "5.5.2 Error: bad syntax");
    let line =
        core::str::from_utf8(line).map_err(|_| Reply::new(500, "5.5.2 Error: bad UTF-8 syntax"))?;
    let line = line.trim_matches(BLANKS);
    let (word, arguments) = line.split_once(BLANKS).unwrap_or((line, ""));
    if word.is_empty() {
        return Err(bad_syntax());
    }
    let verb = VERBS.iter().find(|verb| word.eq_ignore_ascii_case(verb));
    // A NUL is refused with its line: cutting the line there could make two addresses of one.
    if line.contains('\0') && (verb.is_some() || word.starts_with('\0')) {
        return Err(bad_syntax());
    }
    match verb {
        Some(&verb) => Ok((verb, arguments.trim_matches(BLANKS))),
        None if is_foreign(word) => Err(foreign()),
        None => Err(Reply::new(500, "5.5.2 Error: command not recognized")),
    }
}

/// Somebody speaks HTTP, TLS or the text of a message to us: the session ends.
pub(crate) fn foreign() -> Reply {
    Reply::new(221, "2.7.0 Error: I can break rules, too. Goodbye.")
}

/// Not a letter first, a header field's name, or HTTP.
fn is_foreign(word: &str) -> bool {
    !word.starts_with(|letter: char| letter.is_ascii_alphabetic())
        || word.contains(':')
        || FORBIDDEN.iter().any(|verb| word.eq_ignore_ascii_case(verb))
}

/// Parses `FROM:<path> parameters` (RFC 5321 §4.1.1.2): the envelope, with what they say of it, and
/// whether AUTH= was given. Nobody here is trusted to vouch for another, so it is as good as
/// `AUTH=<>` (RFC 4954 §5); what BODY= says, the content shows when it comes (RFC 6152).
pub fn mail(arguments: &str) -> Result<(Envelope, bool), Reply> {
    let (path, parameters) = cut_argument(arguments, "FROM:")
        .ok_or_else(|| Reply::new(501, "5.5.4 Syntax: MAIL FROM:<address>"))?;
    let mut envelope = Envelope {
        reverse_path: path
            .parse()
            .map_err(|_| Reply::new(501, "5.1.7 Bad sender address syntax"))?,
        ..Envelope::default()
    };
    let (mut body, mut auth) = (false, false);
    for parameter in parameters.split_ascii_whitespace() {
        let (keyword, value) = keyword_and_value(parameter);
        let bad = || Reply::new(501, format!("5.5.4 Bad {keyword} parameter syntax"));
        let is_xtext = |value: &str| !value.is_empty() && xtext::decode(value).is_some();
        // Whether the value is right and the first one.
        let good = match (keyword.as_str(), value) {
            ("SIZE", Some(value)) => envelope.size.replace(size(value)?).is_none(),
            ("BODY", Some(value))
                if value.eq_ignore_ascii_case("8BITMIME") || value.eq_ignore_ascii_case("7BIT") =>
            {
                !replace(&mut body, true)
            }
            ("SMTPUTF8", None) => !replace(&mut envelope.smtputf8, true),
            ("RET", Some(value)) => {
                let ret = ret(value).ok_or_else(bad)?;
                envelope.ret.replace(ret).is_none()
            }
            ("ENVID", Some(value)) => {
                is_xtext(value) && envelope.envid.replace(value.into()).is_none()
            }
            ("AUTH", Some(value)) => is_xtext(value) && !replace(&mut auth, true),
            _ => return Err(unsupported(parameter)),
        };
        if !good {
            return Err(bad());
        }
    }
    match envelope.reverse_path.mailbox() {
        Some(mailbox) if !mailbox.is_ascii() && !envelope.smtputf8 => Err(needs_smtputf8()),
        _ => Ok((envelope, auth)),
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
        let good = match (keyword.as_str(), value) {
            ("NOTIFY", Some(value)) => {
                let notify = notify(value).ok_or_else(bad)?;
                recipient.notify.replace(notify).is_none()
            }
            ("ORCPT", Some(value)) if is_orcpt(value, smtputf8) => {
                recipient.orcpt.replace(value.into()).is_none()
            }
            ("ORCPT", Some(_)) => false,
            _ => return Err(unsupported(parameter)),
        };
        if !good {
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
    let size = words.next().filter(|word| is_number(word))?.parse().ok()?;
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
    match parameter.split_once('=') {
        Some((keyword, value)) => (keyword.to_ascii_uppercase(), Some(value)),
        None => (parameter.to_ascii_uppercase(), None),
    }
}

/// SIZE= (RFC 1870 §3). A number that does not fit is too big, not wrong.
fn size(value: &str) -> Result<u64, Reply> {
    if !is_number(value) {
        return Err(Reply::new(501, "5.5.4 Bad message size syntax"));
    }
    Ok(value.parse().unwrap_or(u64::MAX))
}

/// Digits and nothing else: `parse` alone would take a sign too.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit())
}

/// RET= (RFC 3461 §4.3).
fn ret(value: &str) -> Option<Ret> {
    match value.to_ascii_uppercase().as_str() {
        "FULL" => Some(Ret::Full),
        "HDRS" => Some(Ret::Headers),
        _ => None,
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

fn bad_recipient() -> Reply {
    Reply::new(501, "5.1.3 Bad recipient address syntax")
}

fn unsupported(parameter: &str) -> Reply {
    Reply::new(555, format!("5.5.4 Unsupported option: {parameter}"))
}

/// RFC 6531 §3.5.
fn needs_smtputf8() -> Reply {
    Reply::new(553, "5.6.7 Error: address beyond ASCII needs SMTPUTF8")
}
