//! `S: PATTERN | PATTERN within TIME` and `S= PATTERN`.

use super::Parser;
use crate::scenario::error::What;
use crate::scenario::lines::Node;
use crate::scenario::piece::Piece;
use crate::scenario::words::REPLY_DETAILS;
use crate::scenario::{Reply, ReplyPattern};

impl<'a> Parser<'a> {
    pub(super) fn reply(
        &mut self,
        node: &Node<'a>,
        word: Piece<'a>,
        rest: Piece<'a>,
    ) -> Option<Reply> {
        let again = word.text == "S=";
        let below = if again { "S=" } else { "S:" };
        let details = self.details(node, below, REPLY_DETAILS);
        let rest = self.wanted(word, rest, "a pattern, as 250")?;
        let (expected, within) = self.within(rest);
        if let Some((span, _)) = within.filter(|_| again) {
            self.report(span, What::TimeWithoutWaiting);
        }
        let mut patterns = Vec::new();
        for piece in expected.split("|").into_iter().map(Piece::trim) {
            match pattern(piece) {
                Ok(ReplyPattern::Nothing) if within.is_none() && !again => {
                    self.report(piece.span(), What::NothingWithoutTime);
                }
                Ok(pattern) => patterns.push(pattern),
                Err((piece, why)) => {
                    let text = piece.text.to_owned();
                    self.report(piece.span(), What::BadPattern { text, why });
                }
            }
        }
        Some(Reply {
            again,
            patterns,
            details,
            within: within.and_then(|(_, time)| time),
        })
    }
}

/// One alternative, or what is wrong with it.
fn pattern(piece: Piece<'_>) -> Result<ReplyPattern, (Piece<'_>, &'static str)> {
    let words = piece.words();
    let (code, enhanced) = match words.as_slice() {
        [] => return Err((piece, "expected a pattern here")),
        [word] if word.text == "closed" => return Ok(ReplyPattern::Closed),
        [word] if word.text == "alert" => return Ok(ReplyPattern::Alert),
        [one, two, three] if [one.text, two.text, three.text] == ["closed", "in", "order"] => {
            return Ok(ReplyPattern::ClosedInOrder);
        }
        [word] if word.text == "nothing" => return Ok(ReplyPattern::Nothing),
        [code] => (*code, None),
        [code, enhanced] => (*code, Some(*enhanced)),
        _ => {
            return Err((
                piece,
                "expected a code, an enhanced code, and `|` before the next",
            ));
        }
    };
    let digits = digits(code.text).map_err(|why| (code, why))?;
    let Some(piece) = enhanced else {
        return Ok(ReplyPattern::Code {
            digits,
            enhanced: None,
        });
    };
    let enhanced =
        status(piece.text).ok_or((piece, "expected an enhanced code, as 5.7.1 or 5.x.x"))?;
    let classes = digits[0].map(u16::from).zip(enhanced[0]);
    if classes.is_some_and(|(reply, status)| reply != status) {
        return Err((piece, "expected the class of the reply: its first digit"));
    }
    Ok(ReplyPattern::Code {
        digits,
        enhanced: Some(enhanced),
    })
}

/// `250`, `4yz`: the digits that RFC 5321 §4.2.1 knows.
fn digits(code: &str) -> Result<[Option<u8>; 3], &'static str> {
    let place = |c: char, least: u8, most: u8| match c {
        'x' | 'y' | 'z' => Some(None),
        _ => c
            .to_digit(10)
            .map(|digit| digit as u8)
            .filter(|digit| (least..=most).contains(digit))
            .map(Some),
    };
    let places: Vec<char> = code.chars().collect();
    let [first, second, third] = places.as_slice() else {
        return Err("expected three places, each a digit or x, y, z");
    };
    Ok([
        place(*first, 2, 5).ok_or("expected 2, 3, 4, 5 or x in the first place")?,
        place(*second, 0, 5).ok_or("expected 0 to 5 or y in the second place")?,
        place(*third, 0, 9).ok_or("expected a digit or z in the third place")?,
    ])
}

/// `5.7.1`, `5.x.x`
fn status(text: &str) -> Option<[Option<u16>; 3]> {
    let place = |part: &str| match part {
        "x" => Some(None),
        _ if part.len() > 3 || part.starts_with('+') => None,
        _ => part.parse().ok().map(Some),
    };
    let parts: Vec<&str> = text.split('.').collect();
    let [class, subject, detail] = parts.as_slice() else {
        return None;
    };
    let class = place(class).filter(|class| matches!(class, None | Some(2 | 4 | 5)))?;
    Some([class, place(subject)?, place(detail)?])
}
