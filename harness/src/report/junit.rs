//! JUnit XML, for what CI systems show: a suite a scenario file, a test case a clause.

use std::collections::BTreeMap;
use std::io::Write;

use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestSuite};

use super::Report;
use crate::event::{CaseResult, ClauseResult, Event, Verdict};
use crate::scenario::refs;

/// Gathers the cases and writes them when the run has ended.
#[derive(Debug)]
pub struct Junit<W> {
    to: W,
    title: String,
    suites: BTreeMap<String, TestSuite>,
}

impl<W: Write> Junit<W> {
    /// Writes to `to`.
    pub fn new(to: W) -> Self {
        Self {
            to,
            title: "vmailspec".into(),
            suites: BTreeMap::new(),
        }
    }

    fn case(&mut self, case: &CaseResult) {
        let suite = self
            .suites
            .entry(case.path.clone())
            .or_insert_with(|| TestSuite::new(case.path.clone()));
        for (i, clause) in case.clauses.iter().enumerate() {
            let mut test =
                TestCase::new(format!("{} {}", clause.id, case.name), status(case, clause));
            test.set_classname(clause.id.clone());
            test.add_property(Property::new("level", clause.level.word()));
            test.add_property(Property::new("verdict", clause.verdict.word()));
            test.add_property(Property::new("references", clause.references.join(" ")));
            if i == 0 {
                // A case has one time, not one a clause.
                test.set_time(case.took);
            }
            if clause.verdict == Verdict::Broken {
                test.set_system_out(transcript(case));
                test.set_system_err(case.log.join("\n"));
            }
            suite.add_test_case(test);
        }
    }
}

fn status(case: &CaseResult, clause: &ClauseResult) -> TestCaseStatus {
    let skipped = |message: String| {
        let mut status = TestCaseStatus::skipped();
        status.set_message(message);
        status
    };
    let seen = clause.failure.as_ref().map_or_else(String::new, |failure| {
        format!("expected {}; there was {}", failure.expected, failure.seen)
    });
    let reason = || case.blocked.clone().unwrap_or_default();
    match clause.verdict {
        Verdict::Held | Verdict::Taken | Verdict::Declined | Verdict::Noted => {
            TestCaseStatus::success()
        }
        Verdict::Broken => {
            if let Some(reason) = &clause.known {
                return skipped(format!("known failure: {reason}: {seen}"));
            }
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type(clause.level.word());
            status.set_message(seen);
            let words: Vec<String> = clause
                .references
                .iter()
                .map(|reference| refs::in_words(reference))
                .collect();
            status.set_description(format!("{} ({})", clause.claim, words.join("; ")));
            status
        }
        Verdict::Blocked => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_type("blocked");
            status.set_message(reason());
            status
        }
        Verdict::Unreached => skipped("unreached: the dialogue ended before it".into()),
        Verdict::Unsupported => skipped(format!("unsupported: {}", reason())),
    }
}

fn transcript(case: &CaseResult) -> String {
    let lines: Vec<String> = case
        .transcript
        .iter()
        .map(|(at, line)| format!("{:>8.3} {line}", at.as_secs_f64()))
        .collect();
    lines.join("\n")
}

impl<W: Write> Report for Junit<W> {
    fn hear(&mut self, event: &Event) -> std::io::Result<()> {
        match event {
            Event::Started {
                target, database, ..
            } => {
                self.title = format!("vmailspec: {target} on {database}");
            }
            Event::Finished(case) => self.case(case),
            Event::Defect { name, why } => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
                status
                    .set_type("defect of vmailspec")
                    .set_message(why.clone());
                let mut suite = TestSuite::new(name.clone());
                suite.add_test_case(TestCase::new(name.clone(), status));
                self.suites.insert(name.clone(), suite);
            }
            Event::Ended { took, .. } => {
                let mut report = quick_junit::Report::new(self.title.clone());
                report.set_time(*took);
                report.add_test_suites(std::mem::take(&mut self.suites).into_values());
                report
                    .serialize(&mut self.to)
                    .map_err(std::io::Error::other)?;
                self.to.flush()?;
            }
        }
        Ok(())
    }
}
