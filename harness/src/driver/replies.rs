//! A reply that was heard against the reply that a scenario expects.

use std::time::Duration;

use super::connection::told;
use super::forms;
use super::score::Miss;
use super::steps::Stop;
use crate::scenario::{Reply, ReplyPattern, Span, Text};
use crate::verdict::Harm;
use crate::wire::{End, Fault, Heard};

/// Compares; `utf8`: the client asked for SMTPUTF8, so replies may hold it.
pub(super) fn check(
    expected: &Reply,
    heard: &Heard,
    limit: Duration,
    utf8: bool,
    span: Span,
    expand: impl Fn(&Text) -> String,
) -> Result<(), Stop> {
    let fits = |pattern: &ReplyPattern| matches(pattern, heard, utf8);
    if !expected.patterns.iter().any(fits) {
        let words: Vec<String> = expected
            .patterns
            .iter()
            .map(|pattern| in_words(pattern, limit))
            .collect();
        let mut miss = Miss::new(span, words.join(" or "), told(heard));
        if !matches!(heard, Heard::Reply(_)) {
            // Silence is a hang and an end is a crash, where a reply was due.
            miss.harm = Harm::Done;
        }
        return Err(if expected.again {
            Stop::Missed(miss)
        } else {
            Stop::Surprise(miss)
        });
    }
    let Heard::Reply(reply) = heard else {
        return Ok(());
    };
    let raw = String::from_utf8_lossy(&reply.raw);
    for detail in &expected.details {
        let text = expand(&detail.text);
        if detail.word == "form" {
            forms::check(&text, reply)
                .map_err(|(expected, seen)| Stop::Missed(Miss::new(detail.span, expected, seen)))?;
            continue;
        }
        if detail.word == "says" {
            if !reply.lines.contains(&text) {
                let expected = format!("a reply with the line {text}");
                return Err(Stop::Missed(Miss::new(detail.span, expected, told(heard))));
            }
            continue;
        }
        let found = raw.lines().any(|line| line.contains(&text));
        let wanted = detail.word == "has";
        if found != wanted {
            let word = if wanted { "has" } else { "lacks" };
            let miss = Miss::new(
                detail.span,
                format!("a reply that {word} {text}"),
                told(heard),
            );
            // What must not be told and is told, is disclosed.
            return Err(Stop::Missed(if wanted { miss } else { miss.harmful() }));
        }
    }
    Ok(())
}

fn matches(pattern: &ReplyPattern, heard: &Heard, utf8: bool) -> bool {
    match (pattern, heard) {
        (ReplyPattern::Alert, Heard::Alert(..)) => true,
        (ReplyPattern::ClosedInOrder, Heard::Closed(End::Eof, rest))
        | (ReplyPattern::Closed, Heard::Closed(_, rest))
        | (ReplyPattern::Nothing, Heard::Silence(rest)) => rest.is_empty(),
        (ReplyPattern::Code { digits, enhanced }, Heard::Reply(reply)) => {
            let code = [reply.code / 100, reply.code / 10 % 10, reply.code % 10];
            let same = digits
                .iter()
                .zip(code)
                .all(|(digit, seen)| digit.is_none_or(|digit| u16::from(digit) == seen));
            // A malformed reply is no reply that a client can rely on.
            let sound = reply
                .faults
                .iter()
                .all(|fault| utf8 && *fault == Fault::NotPrintable);
            let enhanced = enhanced.is_none_or(|wanted| {
                reply.enhanced().is_some_and(|seen| {
                    wanted
                        .iter()
                        .zip(seen)
                        .all(|(want, seen)| want.is_none_or(|want| want == seen))
                })
            });
            same && sound && enhanced
        }
        _ => false,
    }
}

fn in_words(pattern: &ReplyPattern, limit: Duration) -> String {
    match pattern {
        ReplyPattern::Closed => "the connection to be closed".into(),
        ReplyPattern::ClosedInOrder => "the connection to be closed in order".into(),
        ReplyPattern::Alert => "a TLS alert".into(),
        ReplyPattern::Nothing => format!("nothing within {limit:?}"),
        ReplyPattern::Code { digits, enhanced } => {
            let mut text: String = digits
                .iter()
                .zip(['x', 'y', 'z'])
                .map(|(digit, any)| digit.map_or(any, |digit| char::from(b'0' + digit % 10)))
                .collect();
            if let Some(enhanced) = enhanced {
                let parts: Vec<String> = enhanced
                    .iter()
                    .map(|part| part.map_or("x".into(), |part| part.to_string()))
                    .collect();
                text.push(' ');
                text.push_str(&parts.join("."));
            }
            text
        }
    }
}
