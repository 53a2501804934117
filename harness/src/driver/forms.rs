//! The forms that a reply can be asked for: `form NAME` below `S:`.
//!
//! Each is a grammar that an RFC gives, for replies that only the target's author can know word for
//! word.

use std::collections::BTreeSet;

use crate::wire::Reply;

/// What was expected, and what there was.
type Difference = (String, String);

/// Has the reply the form of this name? The parser knows no other names.
pub(super) fn check(form: &str, reply: &Reply) -> Result<(), Difference> {
    let mut lines = reply.lines.iter().map(String::as_str);
    let odd = match form {
        // RFC 5321 §4.1.1.1, ehlo-ok-rsp: Domain [ SP ehlo-greet ].
        "hello" => lines.next().filter(|line| {
            let (name, greet) = line.split_once(' ').unwrap_or((line, "greet"));
            !is_host(name) || greet.is_empty()
        }),
        "keywords" => lines.skip(1).find(|line| !is_keyword_line(line)),
        "unique" => {
            let mut seen = BTreeSet::new();
            lines
                .skip(1)
                .find(|line| !seen.insert(keyword(line).to_ascii_uppercase()))
        }
        // RFC 2034 §4: on each line the same, and of the class of the reply.
        "codes" => {
            let first = reply.lines.first().and_then(|line| status(line));
            lines.find(|line| {
                let code = status(line);
                code.is_none() || code != first || code.is_some_and(|of| of.0 != reply.class())
            })
        }
        _ => lines.find(|line| status(line).is_some()),
    };
    match odd {
        Some(line) => Err((in_words(form).to_owned(), format!("the line \"{line}\""))),
        None => Ok(()),
    }
}

fn in_words(form: &str) -> &'static str {
    match form {
        "hello" => "the server's name in the first line",
        "keywords" => "a keyword and its parameters in each line behind the first",
        "unique" => "each keyword once",
        "codes" => "the same enhanced code in each line, of the reply's class",
        _ => "no enhanced code in any line",
    }
}

/// The word that a line of EHLO's answer begins with. `AUTH=PLAIN`, which the tutorial asks for
/// (postconf(5) broken_sasl_auth_clients), is a word of its own.
fn keyword(line: &str) -> &str {
    match line.split_once(' ').map_or(line, |(word, _)| word) {
        word if word.starts_with("AUTH=") => "AUTH=",
        word => word,
    }
}

/// RFC 5321 §4.1.1.1, ehlo-line; `AUTH=PLAIN LOGIN` is let through, for the tutorial asks for it.
fn is_keyword_line(line: &str) -> bool {
    let line = line.strip_prefix("AUTH=").unwrap_or(line);
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !name.is_empty()
        && !name.starts_with('-')
        && name.chars().all(good)
        && words.all(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_graphic()))
}

/// A domain, or an address literal (RFC 5321 §4.1.2, §4.1.3).
fn is_host(name: &str) -> bool {
    if let Some(inside) = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        let address = inside.strip_prefix("IPv6:").unwrap_or(inside);
        return address.parse::<std::net::IpAddr>().is_ok();
    }
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty()
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // RFC 5321 §2.3.5: a name is fully qualified.
    name.contains('.') && name.split('.').all(label)
}

/// The enhanced status code that a line begins with (RFC 2034 §4): class, subject, detail, none
/// with a zero before it.
fn status(line: &str) -> Option<(u16, u16, u16)> {
    let mut parts = line.split(' ').next()?.split('.');
    let mut number = || {
        let part = parts.next()?;
        let digits = part.bytes().all(|octet| octet.is_ascii_digit());
        let plain =
            digits && (1..=3).contains(&part.len()) && (part == "0" || !part.starts_with('0'));
        plain.then(|| part.parse::<u16>().ok()).flatten()
    };
    let code = (number()?, number()?, number()?);
    parts.next().is_none().then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn differs(form: &str, reply: &str) -> bool {
        let mut octets = reply.replace('\n', "\r\n").into_bytes();
        octets.extend_from_slice(b"\r\n");
        check(form, &crate::wire::reply::take(&mut octets).unwrap()).is_err()
    }

    #[rstest]
    #[case::name("hello", "250 mx.example.org")]
    #[case::name_and_words("hello", "250-mx.example.org at your service\n250 SIZE")]
    #[case::literal("hello", "250 [IPv6:::1]")]
    #[case::parameters(
        "keywords",
        "250-mx.example\n250-SIZE 1000\n250-XTRA-1 a=b\n250 AUTH=PLAIN LOGIN"
    )]
    #[case::different("unique", "250-mx\n250-AUTH PLAIN\n250-AUTH=PLAIN\n250 SIZE")]
    #[case::same("codes", "550-5.7.1 no\n550 5.7.1 never")]
    #[case::none("no-codes", "354 End data with 4.2 dots")]
    fn a_reply_of_the_form_is_good(#[case] form: &str, #[case] reply: &str) {
        assert!(!differs(form, reply));
    }

    #[rstest]
    #[case::words_first("hello", "250 Hello client.example")]
    #[case::dash("hello", "250 -mx.example")]
    #[case::nothing("hello", "250 mx..example")]
    #[case::no_keyword("keywords", "250-mx.example\n250 _SIZE")]
    #[case::two_blanks("keywords", "250-mx.example\n250 SIZE  1000")]
    #[case::twice("unique", "250-mx\n250-SIZE\n250 size 1000")]
    #[case::first_line_only("codes", "550-5.7.1 no\n550 never")]
    #[case::other_class("codes", "450 5.7.1 no")]
    #[case::leading_zero("codes", "550 5.07.1 no")]
    #[case::there("no-codes", "334 3.0.0 VXNlcm5hbWU6")]
    fn a_reply_of_another_form_is_not(#[case] form: &str, #[case] reply: &str) {
        assert!(differs(form, reply));
    }
}
