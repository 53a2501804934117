//! `sink DOMAIN …`: what came to the next hop, and what a bounce says.

use std::fmt::Write;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::report::Report;
use super::{Look, Stop, messages};
use crate::driver::canary::{self, POLL};
use crate::driver::{Miss, Stage};
use crate::environment::Sunk;
use crate::names::{field, fields, token_of};
use crate::scenario::text::unescape;
use crate::scenario::{ANY, Detail};

/// Exactly `count` messages of the case for recipients in `domain` (or whatever came), with these
/// details each.
pub(crate) async fn check<S: Stage>(
    look: &Look<'_, S>,
    domain: &str,
    count: usize,
    details: &[Detail],
    within: Option<Duration>,
) -> Result<(), Stop> {
    if count == ANY {
        // What has not come before a canary on the same way does not come.
        if let Err(why) = canary::to_sink(look.stage, domain, look.tokens, look.journal).await {
            return Err(Stop::Environment(format!("absence cannot be shown: {why}")));
        }
        let sunk = ours(look, domain);
        let mut each = sunk
            .iter()
            .flat_map(|sunk| details.iter().map(move |one| (sunk, one)));
        return each.try_for_each(|(sunk, detail)| one(look, sunk, detail));
    }
    let mut deadline = look.deadline(within);
    let mut times = 0;
    loop {
        if ours(look, domain).len() >= count {
            break;
        }
        if Instant::now() >= deadline {
            let canary = canary::to_sink(look.stage, domain, look.tokens, look.journal);
            match look.later(&mut times, Box::pin(canary)).await {
                Some(later) => deadline = later,
                None => return Err(Stop::Missed(wrong_count(look, domain, count))),
            }
        }
        sleep(POLL).await;
    }
    for sunk in ours(look, domain) {
        for detail in details {
            one(look, &sunk, detail)?;
        }
    }
    if look.evidence {
        return if ours(look, domain).len() == count {
            Ok(())
        } else {
            Err(Stop::Missed(wrong_count(look, domain, count)))
        };
    }
    // A canary on the same way shows that there are no more.
    let canary = canary::to_sink(look.stage, domain, look.tokens, look.journal).await;
    let there = ours(look, domain).len();
    if there != count {
        return Err(Stop::Missed(wrong_count(look, domain, count)));
    }
    match canary {
        Err(why) if count == 0 => Err(Stop::Environment(format!("absence cannot be shown: {why}"))),
        Err(why) => {
            look.journal
                .note(format!("that there are no more is not shown: {why}"));
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

/// `sink heard TEXT`: a command that begins so came to the case's sink.
pub(crate) async fn heard<S: Stage>(
    look: &Look<'_, S>,
    text: &str,
    within: Option<Duration>,
) -> Result<(), Stop> {
    let deadline = look.deadline(within);
    loop {
        let dialogue = look.stage.sink_dialogue();
        let commands: Vec<&str> = dialogue
            .iter()
            .filter_map(|line| line.split_once(" C: ").map(|(_, command)| command))
            .collect();
        let begins = |command: &str| {
            command
                .get(..text.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(text))
        };
        if commands.iter().copied().any(begins) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let last = commands.last().copied().unwrap_or("nothing");
            let seen = format!("{} commands, at last: {last}", commands.len());
            let expected = format!("the sink to hear {text}");
            return Err(Stop::Missed(Miss::new(look.span, expected, seen)));
        }
        sleep(POLL).await;
    }
}

fn wrong_count<S: Stage>(look: &Look<'_, S>, domain: &str, count: usize) -> Miss {
    let there = ours(look, domain);
    let mut seen = messages(there.len());
    for sunk in there.iter().take(3) {
        let to = sunk.to.join(">, <");
        let _ = write!(seen, ", from <{}> to <{to}>", sunk.from);
    }
    Miss::new(
        look.span,
        format!("{} for {domain} at the sink", messages(count)),
        seen,
    )
    .harmful()
}

/// The case's messages for this domain: no canaries, nothing of other cases.
fn ours<S: Stage>(look: &Look<'_, S>, domain: &str) -> Vec<Sunk> {
    let in_domain = |address: &String| {
        address
            .rsplit_once('@')
            .is_some_and(|(_, of)| of.eq_ignore_ascii_case(domain))
    };
    look.stage
        .sunk()
        .into_iter()
        .filter(|sunk| sunk.to.iter().any(in_domain))
        .filter(|sunk| token_of(&sunk.content).is_none_or(|token| !look.tokens.is_foreign(&token)))
        .collect()
}

/// Letters of a domain are the same in either case, those of a local part are not (RFC 5321 §2.4).
fn is_same(one: &str, other: &str) -> bool {
    match (one.rsplit_once('@'), other.rsplit_once('@')) {
        (Some((one, here)), Some((other, there))) => {
            one == other && here.eq_ignore_ascii_case(there)
        }
        _ => one == other,
    }
}

fn one<S: Stage>(look: &Look<'_, S>, sunk: &Sunk, detail: &Detail) -> Result<(), Stop> {
    let text = look.text(&detail.text);
    let miss =
        |expected: String, seen: String| Stop::Missed(Miss::new(detail.span, expected, seen));
    let unbracketed = text.trim_start_matches('<').trim_end_matches('>');
    match detail.word.as_str() {
        "from" if !is_same(&sunk.from, unbracketed) => Err(miss(
            format!("from {text}"),
            format!("from <{}>", sunk.from),
        )),
        "to" if !sunk.to.iter().any(|to| is_same(to, unbracketed)) => Err(miss(
            format!("to {text}"),
            format!("to <{}>", sunk.to.join(">, <")),
        )),
        "header" => header(&sunk.content, &text).map_err(|(expected, seen)| miss(expected, seen)),
        "date" => date(&sunk.content, &text).map_err(|(expected, seen)| miss(expected, seen)),
        "has" | "lacks" => has(&sunk.content, &detail.word, &text).map_err(|(expected, seen)| {
            let miss = Miss::new(detail.span, expected, seen);
            Stop::Missed(if detail.word == "lacks" {
                miss.harmful()
            } else {
                miss
            })
        }),
        "crlf" if sunk.bare > 0 => {
            let seen = format!("{} CRs or LFs alone", sunk.bare);
            Err(Stop::Missed(
                Miss::new(detail.span, "no CR and no LF alone", seen).harmful(),
            ))
        }
        "line" => line(&sunk.content, &text).map_err(|(expected, seen)| miss(expected, seen)),
        "width" => width(&sunk.content, &text).map_err(|(expected, seen)| miss(expected, seen)),
        "parameter" | "noparameter" => {
            let words = sunk.parameters.iter().flat_map(|all| all.split(' '));
            let there = words.clone().any(|word| {
                word.get(..text.len())
                    .is_some_and(|begin| begin.eq_ignore_ascii_case(&text))
            });
            if there == (detail.word == "parameter") {
                return Ok(());
            }
            let seen = sunk.parameters.join(" | ");
            Err(miss(format!("{} {text}", detail.word), seen))
        }
        "status" | "part" => {
            let report = Report::read(&sunk.content).ok_or_else(|| {
                miss(
                    "a delivery status notification".into(),
                    about(&sunk.content),
                )
            })?;
            let result = if detail.word == "part" {
                report.part(&text)
            } else {
                report.status(&text)
            };
            result.map_err(|(expected, seen)| miss(expected, seen))
        }
        _ => Ok(()),
    }
}

/// What is expected and what there is, in words.
pub(crate) type Difference = (String, String);

/// `width N`: no line has more octets, its end not counted.
pub(crate) fn width(content: &[u8], text: &str) -> Result<(), Difference> {
    let lines = content.split(|&octet| octet == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let longest = lines.max_by_key(|line| line.len()).unwrap_or_default();
    if text.parse().is_ok_and(|limit| longest.len() <= limit) {
        return Ok(());
    }
    let (long, line) = (longest.len(), String::from_utf8_lossy(longest));
    let expected = format!("no line of more than {text} octets");
    Err((expected, format!("one of {long}: {line}")))
}

/// `line TEXT`: one line is exactly this, its end not counted.
pub(crate) fn line(content: &[u8], text: &str) -> Result<(), Difference> {
    let wanted = unescape(text).unwrap_or_default();
    let mut lines = content.split(|&octet| octet == b'\n');
    if lines.any(|line| line.strip_suffix(b"\r").unwrap_or(line) == wanted) {
        return Ok(());
    }
    Err((format!("a message with the line {text}"), about(content)))
}

/// `header NAME: TEXT`: a field of this name has this value, or holds it.
pub(crate) fn header(content: &[u8], text: &str) -> Result<(), Difference> {
    let (name, wanted) = text.split_once(':').unwrap_or((text, ""));
    let (name, wanted) = (name.trim(), wanted.trim());
    let values = fields(content, name);
    if values.iter().any(|value| value.contains(wanted)) {
        return Ok(());
    }
    let seen = match values.as_slice() {
        [] => format!("no field {name}"),
        values => format!("{name}: {}", values.join(&format!("; {name}: "))),
    };
    Err((format!("{name}: {wanted}"), seen))
}

/// `date FIELD`: the first field of this name says (behind its last `;`, as Received does) when the
/// message came, in the form of RFC 5322 §3.3: a year of four digits, a numeric zone, and no more
/// than some minutes from now.
pub(crate) fn date(content: &[u8], name: &str) -> Result<(), Difference> {
    const MINUTES: i64 = 10;
    let expected = || format!("{name}: a date of today with a numeric zone");
    let value = field(content, name).ok_or_else(|| (expected(), format!("no field {name}")))?;
    let date = value.rsplit(';').next().unwrap_or_default();
    // A comment may follow (RFC 5322 §3.3 obs, CFWS).
    let date = date.split('(').next().unwrap_or_default().trim();
    let wrong = || (expected(), format!("{name}: {value}"));
    let zone = date.rsplit(' ').next().unwrap_or_default();
    let numeric = zone.len() == 5 && zone.starts_with(['+', '-']);
    let when = jiff::fmt::rfc2822::parse(date).map_err(|_| wrong())?;
    let apart = jiff::Timestamp::now()
        .duration_since(when.timestamp())
        .abs();
    let four = date
        .split(' ')
        .any(|word| word.len() == 4 && word.parse::<u16>().is_ok());
    let good = numeric && four && apart.as_mins() <= MINUTES;
    if good { Ok(()) } else { Err(wrong()) }
}

/// `has TEXT`, `lacks TEXT`: a line of the message, or of its unfolded text.
pub(crate) fn has(content: &[u8], word: &str, text: &str) -> Result<(), Difference> {
    let whole = String::from_utf8_lossy(content);
    // A text that the server folded is still that text.
    let unfolded: String = whole.split_whitespace().collect::<Vec<_>>().join(" ");
    let found = whole.contains(text) || unfolded.contains(text);
    if found == (word == "has") {
        return Ok(());
    }
    Err((format!("a message that {word} {text}"), about(content)))
}

/// A message in a few words.
pub(crate) fn about(content: &[u8]) -> String {
    let subject = field(content, "Subject").unwrap_or_default();
    format!(
        "a message of {} octets with the subject \"{subject}\"",
        content.len()
    )
}
