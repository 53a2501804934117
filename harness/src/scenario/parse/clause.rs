//! `LEVEL id references claim`

use super::Parser;
use crate::scenario::Clause;
use crate::scenario::error::What;
use crate::scenario::lines::Node;
use crate::scenario::nearest::nearest;
use crate::scenario::piece::Piece;
use crate::scenario::refs::{Reference, is_id, looks_like_reference};
use crate::scenario::words::{self, LEVEL_MEANINGS, LEVELS};

impl<'a> Parser<'a> {
    pub(super) fn clause(
        &mut self,
        node: &Node<'a>,
        word: Piece<'a>,
        rest: Piece<'a>,
    ) -> Option<Clause> {
        let level = words::meaning(word.text, LEVEL_MEANINGS);
        let (id, mut rest) = rest.word();
        if level.is_none() || id.text == "NOT" {
            let meant = if id.text == "NOT" {
                format!("{} NOT", word.text)
            } else {
                word.text.to_owned()
            };
            let near = nearest(&meant.replace([' ', '_'], "-"), LEVELS.iter().copied());
            self.report(
                word.span(),
                What::UnknownLevel {
                    word: meant,
                    nearest: near,
                },
            );
            return None;
        }
        self.wanted(word, id, "the clause's id")?;
        let known = is_id(id.text);
        if !known {
            self.report(id.span(), What::BadId(id.text.to_owned()));
        }
        let mut references = Vec::new();
        let mut all_read = true;
        loop {
            let (reference, tail) = rest.word();
            if !looks_like_reference(reference.text) {
                break;
            }
            if Reference::parse(reference.text).is_none() {
                self.report(
                    reference.span(),
                    What::BadReference(reference.text.to_owned()),
                );
                all_read = false;
            }
            references.push(reference.text.to_owned());
            rest = tail;
        }
        if references.is_empty() {
            self.report(id.end(), What::NoReference);
        }
        if rest.is_empty() {
            self.report(node.line.content.end(), What::NoClaim);
        }
        self.unwritten(rest);
        let whole = known && all_read && !references.is_empty() && !rest.is_empty();
        whole.then_some(())?;
        Some(Clause {
            level: level?,
            id: id.text.to_owned(),
            references,
            claim: rest.text.to_owned(),
            span: node.line.content.span(),
        })
    }
}
