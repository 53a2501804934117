//! What a case cannot do without: the capabilities that its header names, and what its lines show.
//! And what it only looks at: a clause that does not look there can be judged all the same.

use super::{Case, all_steps};
use crate::scenario::text::PASSWORD;
use crate::scenario::{Entry, MailboxAction, Start, Step, StepKind, Vantage};

/// The server listens on port 25, or what stands for it.
pub const PORT_25: &str = "port 25";
/// It listens on port 465.
pub const PORT_465: &str = "port 465";
/// There is an address from which it takes mail for others.
pub const NEIGHBOUR: &str = "a neighbour";
/// It comes to know the names of cases.
pub const ROWS: &str = "rows";
/// `address@$domain` is an account with a password that is known.
pub const ACCOUNT: &str = "an account";
/// The mailboxes are the cases' own and lie here, so that one can act as their owner.
pub const OWNER: &str = "mailboxes to act in";

/// Where a case may look without doing anything there: what a clause asks of it is unsupported where
/// it cannot be seen, and the clauses beside it are judged.
pub const SIGHTS: [&str; 4] = ["maildir", "owner", "queue", "log"];

/// What every server has that we start ourselves.
pub const ALWAYS: [&str; 6] = [PORT_25, PORT_465, NEIGHBOUR, ROWS, ACCOUNT, OWNER];

impl Case {
    /// What it lacks of these capabilities so that nothing of it can be judged; empty: some of its
    /// clauses can be, or all of them.
    #[must_use]
    pub fn lacks(&self, capabilities: &[String]) -> Vec<&str> {
        let missing = |word: &&str| !capabilities.iter().any(|has| has == word);
        let mut lacks: Vec<&str> = self.needs().into_iter().filter(missing).collect();
        let unseen: Vec<&str> = self.sights().into_iter().filter(missing).collect();
        if !unseen.is_empty() && (!lacks.is_empty() || !self.is_judged_without(&unseen)) {
            lacks.extend(unseen);
        }
        lacks
    }

    /// Of [`SIGHTS`] those that its clauses look at.
    fn sights(&self) -> Vec<&'static str> {
        let steps = || all_steps(&self.scenario.steps);
        let looks = |word: &&str| steps().any(|step| sights(&step.kind).contains(word));
        SIGHTS.into_iter().filter(looks).collect()
    }

    /// Whether a clause is left to which something is asked, and nothing that cannot be seen.
    fn is_judged_without(&self, unseen: &[&str]) -> bool {
        let hidden = |step: &Step| sights(&step.kind).iter().any(|word| unseen.contains(word));
        let mut judged = false;
        let mut clause = None;
        for step in all_steps(&self.scenario.steps) {
            if let StepKind::Clause(_) = &step.kind {
                judged |= clause == Some((true, true));
                clause = Some((false, true));
            } else if let Some((asked, seen)) = &mut clause {
                *asked |= asks(&step.kind);
                *seen &= !hidden(step);
            } else if hidden(step) {
                // What is waited for before the first clause is what all of them stand on.
                return false;
            }
        }
        judged || clause == Some((true, true))
    }

    /// The capabilities that it needs whatever it asks, and those of [`ALWAYS`].
    #[must_use]
    pub fn needs(&self) -> Vec<&str> {
        let header = &self.scenario.header;
        let said = header.needs.iter().map(String::as_str);
        let mut needs: Vec<&str> = said.filter(|word| !SIGHTS.contains(word)).collect();
        let mut add = |word: &'static str, needed: bool| {
            if needed && !needs.contains(&word) {
                needs.push(word);
            }
        };
        add("own-target", self.own_target);
        add(
            "main-cf",
            !header.main_cf.is_empty() || !header.master_cf.is_empty(),
        );
        if header.start != Start::Nothing {
            entry_needed(self.entry, &mut add);
        }
        add(NEIGHBOUR, self.from == Vantage::Neighbour);
        for step in all_steps(&self.scenario.steps) {
            match &step.kind {
                StepKind::Connect { from, entry, .. } => {
                    add(NEIGHBOUR, *from == Some(Vantage::Neighbour));
                    entry_needed(entry.unwrap_or(self.entry), &mut add);
                }
                StepKind::Mailer { entry, .. } => entry_needed(*entry, &mut add),
                StepKind::Sql(_) | StepKind::Rows(..) => add("database", true),
                StepKind::Maildir { details, .. } => {
                    // Where somebody lives, others leave things in tmp too.
                    add(ROWS, details.iter().any(|detail| detail.word == "tidy"));
                }
                StepKind::Mailbox(_, action) => {
                    add("maildir", true);
                    add(OWNER, *action != MailboxAction::Measured);
                }
                // Its canary comes from a neighbour.
                StepKind::Sink { .. } => {
                    add("sink", true);
                    add(NEIGHBOUR, true);
                }
                StepKind::SinkAnswers { .. }
                | StepKind::SinkListens(_)
                | StepKind::SinkHeard(..) => add("sink", true),
                _ => {}
            }
        }
        add("sink", self.sends_blindly());
        let texts = self.texts();
        // Whether somebody else has rows of the tutorial's names is looked at first.
        add("database", self.literal_names);
        add(
            ROWS,
            self.literal_names || texts.iter().any(|text| needs_rows(text)),
        );
        add(ACCOUNT, texts.iter().any(|text| needs_account(text)));
        needs
    }

    /// Whether data for a foreign domain leaves before it is known that the recipient was refused.
    fn sends_blindly(&self) -> bool {
        let mut foreign = false;
        for step in all_steps(&self.scenario.steps) {
            let texts = match &step.kind {
                StepKind::Client(text) => std::slice::from_ref(text),
                StepKind::Bytes(texts) => texts,
                // What was said before is answered now.
                StepKind::Reply(_) => {
                    foreign = false;
                    continue;
                }
                _ => continue,
            };
            for line in texts.iter().flat_map(|text| text.raw.split("\\r\\n")) {
                let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
                if verb == "RCPT" {
                    foreign |= ["@$elsewhere", "@$sender"]
                        .iter()
                        .any(|name| line.contains(name));
                } else if foreign && (verb == "DATA" || verb == "BDAT") {
                    return true;
                }
            }
        }
        false
    }

    /// The text of its steps, of its start, and of its cells.
    pub(super) fn texts(&self) -> Vec<&str> {
        let scenario = &self.scenario;
        let first = scenario.steps.first().map_or(0, |step| step.span.start);
        let mut texts = vec![scenario.source.get(first..).unwrap_or_default()];
        texts.extend(self.bindings.values().map(String::as_str));
        if let Start::Authenticated(user) = &scenario.header.start {
            texts.push(&user.raw);
        }
        texts
    }
}

/// Whether a line is an expectation.
fn asks(kind: &StepKind) -> bool {
    matches!(
        kind,
        StepKind::Reply(_)
            | StepKind::Tls(_)
            | StepKind::MailerResult(_)
            | StepKind::Crowd { .. }
            | StepKind::Rows(..)
            | StepKind::Sink { .. }
            | StepKind::SinkHeard(..)
            | StepKind::Maildir { .. }
            | StepKind::Queue(..)
            | StepKind::Log(..)
    )
}

/// Of [`SIGHTS`] those that a line looks at.
pub(crate) fn sights(kind: &StepKind) -> &'static [&'static str] {
    match kind {
        StepKind::Maildir { details, .. } => {
            let of_owner = |word: &str| matches!(word, "mode" | "foldermode" | "owner");
            if details.iter().any(|detail| of_owner(&detail.word)) {
                &["maildir", "owner"]
            } else {
                &["maildir"]
            }
        }
        StepKind::Queue(..) => &["queue"],
        StepKind::Log(..) => &["log"],
        _ => &[],
    }
}

fn entry_needed(entry: Entry, add: &mut impl FnMut(&'static str, bool)) {
    add(PORT_465, entry == Entry::Smtps);
    add(PORT_25, entry != Entry::Smtps);
}

/// Another address of the hosted domain, or the domain with a route.
fn needs_rows(text: &str) -> bool {
    let hosted = text.match_indices("$domain").any(|(place, _)| {
        let before = text.get(..place).unwrap_or_default();
        let word = before.strip_suffix("address@");
        word.is_none_or(|word| {
            word.ends_with(|c: char| c.is_ascii_alphanumeric() || "+.-_".contains(c))
        })
    });
    hosted || text.contains("$transport")
}

fn needs_account(text: &str) -> bool {
    text.contains("$domain") || text.contains(PASSWORD)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rstest::rstest;

    use super::needs_rows;
    use crate::plan::cases;
    use crate::scenario::parse::parse;

    /// What is lacking, of a server of which only the replies are seen.
    #[rstest]
    #[case::replies_only("MUST a.b rfc5321#4.1 x\nC: NOOP\nS: 250", &[])]
    #[case::one_of_two("MUST a.b rfc5321#4.1 x\nC: NOOP\nS: 250\n\nMUST a.c rfc5321#4.1 x\nqueue empty", &[])]
    #[case::looked_at("MUST a.b rfc5321#4.1 x\nC: NOOP\nS: 250\nqueue empty", &["queue"])]
    #[case::waited_for("queue empty\n\nMUST a.b rfc5321#4.1 x\nC: NOOP\nS: 250", &["queue"])]
    #[case::acted_in("maildir a@$domain empty-out\n\nMUST a.b rfc5321#4.1 x\nC: NOOP\nS: 250", &["rows", "maildir", "mailboxes to act in"])]
    fn a_case_lacks_what_none_of_its_clauses_can_do_without(
        #[case] steps: &str,
        #[case] lacks: &[&str],
    ) {
        let text = format!("title   Lacks\nneeds   queue maildir\n\n{steps}\n");
        let scenario = parse("needs/one.case", text).expect("a scenario");
        let cases = cases(&Arc::new(scenario));
        let has = ["port 25", "an account"].map(str::to_owned);
        let mut found = cases[0].lacks(&has);
        let mut lacks = lacks.to_vec();
        found.sort_unstable();
        lacks.sort_unstable();
        assert_eq!(found, lacks);
    }

    #[test]
    fn one_account_will_do_where_no_other_address_of_the_domain_is_named() {
        for (text, rows) in [
            ("C: RCPT TO:<address@$domain>", false),
            ("C: AUTH PLAIN $plain(address@$domain mypassword)", false),
            ("C: RCPT TO:<someone@$elsewhere>", false),
            ("C: RCPT TO:<myforward@$domain>", true),
            ("C: RCPT TO:<otheraddress@$domain>", true),
            ("C: RCPT TO:<address+tag@$domain>", true),
            ("C: RCPT TO:<a@$transport>", true),
        ] {
            assert_eq!(needs_rows(text), rows, "{text}");
        }
    }
}
