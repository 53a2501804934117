//! `within TIME`, at the end of a line that waits.

use std::time::Duration;

use super::Parser;
use crate::scenario::Span;
use crate::scenario::error::What;
use crate::scenario::piece::Piece;

impl<'a> Parser<'a> {
    /// `500ms`, `2s`, `1m`
    pub(super) fn time(&mut self, piece: Piece<'a>) -> Option<Duration> {
        let digits = piece.text.find(|c: char| !c.is_ascii_digit()).unwrap_or(0);
        let (number, unit) = piece.split_at(digits);
        let factor = match unit.text {
            "ms" => Some(1),
            "s" => Some(1000),
            "m" => Some(60_000),
            _ => None,
        };
        let millis = number
            .text
            .parse::<u64>()
            .ok()
            .zip(factor)
            .and_then(|(n, f)| n.checked_mul(f));
        let found = millis.filter(|millis| (1..=3_600_000).contains(millis));
        if found.is_none() {
            self.report(piece.span(), What::BadTime(piece.text.to_owned()));
        }
        found.map(Duration::from_millis)
    }

    /// `… within TIME`: what stands before it, the word's place, and the time.
    pub(super) fn within(
        &mut self,
        rest: Piece<'a>,
    ) -> (Piece<'a>, Option<(Span, Option<Duration>)>) {
        let words = rest.words();
        // One of the last three, so that `2 s` is told to be no time.
        let near_end = words.iter().rev().take(3);
        let Some(&within) = near_end.into_iter().find(|word| word.text == "within") else {
            return (rest, None);
        };
        let (before, after) = rest.split_at(within.start - rest.start);
        let time = after.split_at(within.text.len()).1.trim();
        let found = self
            .wanted(within, time, "a time")
            .and_then(|time| self.time(time));
        (before.trim(), Some((within.span(), found)))
    }
}
