//! What a person sees: progress, each failure with all that is needed to understand it, the sums.

use std::collections::BTreeMap;
use std::io::Write;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
};

use super::Report;
use super::summary::Summary;
use crate::driver::connection::SILENCE;
use crate::event::{CaseResult, ClauseResult, Event, Verdict};
use crate::scenario::refs;

/// How many lines of the target's log a failure shows.
const LOG_LINES: usize = 12;
/// So many cases that could not be judged for the same reason are named one by one.
const ALIKE: usize = 3;
/// How the reason of a case begins whose target lacks something.
const NEEDS: &str = "needs ";

/// How to show it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// A terminal with colours and a moving line; else plain lines.
    pub tty: bool,
    /// As the run was.
    pub strict: bool,
    /// Whether to say what was declined or noted, case by case.
    pub verbose: bool,
}

/// Writes for people.
#[derive(Debug)]
pub struct Terminal<W> {
    to: W,
    look: Look,
    bar: Option<ProgressBar>,
    cases: usize,
    done: usize,
    summary: Summary,
    /// Cases of which not everything could be judged: state, name, reason.
    unable: Vec<(&'static str, String, String)>,
    /// What the target cannot do: reason, and how many cases wait for it.
    lacking: BTreeMap<String, Lacking>,
}

/// Cases that one reason keeps from being judged.
#[derive(Debug, Default)]
struct Lacking {
    cases: usize,
    /// Those that wait for nothing else.
    alone: usize,
}

impl<W: Write> Terminal<W> {
    /// Writes to `to`.
    pub fn new(to: W, look: Look) -> Self {
        Self {
            to,
            look,
            bar: None,
            cases: 0,
            done: 0,
            summary: Summary::default(),
            unable: Vec::new(),
            lacking: BTreeMap::new(),
        }
    }

    fn started(
        &mut self,
        target: &str,
        database: &str,
        cases: usize,
        notes: &[String],
    ) -> std::io::Result<()> {
        self.cases = cases;
        writeln!(self.to, "{target}\non {database}")?;
        for note in notes {
            writeln!(self.to, "  {note}")?;
        }
        let plural = if cases == 1 { "case" } else { "cases" };
        writeln!(self.to, "{cases} {plural}\n")?;
        if self.look.tty {
            let bar = ProgressBar::with_draw_target(
                Some(u64::try_from(cases).unwrap_or(u64::MAX)),
                ProgressDrawTarget::stderr(),
            );
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {wide_msg}") {
                bar.set_style(style);
            }
            self.bar = Some(bar);
        }
        Ok(())
    }

    fn finished(&mut self, case: &CaseResult) -> std::io::Result<()> {
        self.done += 1;
        self.summary.add(case, self.look.strict);
        let state = state(case);
        if let Some(bar) = self.bar.clone() {
            bar.inc(1);
            bar.set_message(case.name.clone());
            if case.is_broken() {
                return bar.suspend(|| self.failures(case));
            }
        } else if state != UNSUPPORTED || self.look.verbose {
            let width = self.cases.to_string().len();
            let ms = case.took.as_millis();
            writeln!(
                self.to,
                "{:>width$}/{} {state:<11} {} {ms} ms",
                self.done, self.cases, case.name
            )?;
        }
        if let Some(reason) = &case.blocked {
            if state == UNSUPPORTED {
                self.lacks(reason);
            }
            self.unable.push((state, case.name.clone(), reason.clone()));
        }
        if case.is_broken() {
            self.failures(case)?;
        }
        if self.look.verbose {
            self.remarks(case)?;
        }
        Ok(())
    }

    /// A case that needs several things waits for each of them.
    fn lacks(&mut self, reason: &str) {
        let words: Vec<String> = match reason.strip_prefix(NEEDS) {
            Some(words) => words
                .split(", ")
                .map(|word| format!("{NEEDS}{word}"))
                .collect(),
            None => vec![reason.to_owned()],
        };
        let alone = usize::from(words.len() == 1);
        for word in words {
            let lacking = self.lacking.entry(word).or_default();
            lacking.cases += 1;
            lacking.alone += alone;
        }
    }

    fn unsupported(&mut self) -> std::io::Result<()> {
        let many = self
            .unable
            .iter()
            .filter(|(state, ..)| *state == UNSUPPORTED);
        let many = many.count();
        if many == 0 {
            return Ok(());
        }
        let plural = if many == 1 { "case" } else { "cases" };
        writeln!(
            self.to,
            "{UNSUPPORTED} in {many} {plural}; a case may wait for several of these (--verbose names them all):"
        )?;
        let mut all: Vec<(&String, &Lacking)> = self.lacking.iter().collect();
        all.sort_by_key(|(_, lacking)| std::cmp::Reverse(lacking.cases));
        for (reason, lacking) in all {
            let alone = match lacking.alone {
                alone if alone == lacking.cases || many == 1 => String::new(),
                alone => format!(" ({alone} for nothing else)"),
            };
            writeln!(self.to, "{:>6} {reason}{alone}", lacking.cases)?;
        }
        writeln!(self.to)
    }

    fn remarks(&mut self, case: &CaseResult) -> std::io::Result<()> {
        for clause in &case.clauses {
            if let (Verdict::Declined | Verdict::Noted, Some(failure)) =
                (clause.verdict, &clause.failure)
            {
                let word = clause.verdict.word();
                writeln!(
                    self.to,
                    "    {word} {}: {}; there was {}",
                    clause.id, clause.claim, failure.seen
                )?;
            }
        }
        Ok(())
    }

    fn failures(&mut self, case: &CaseResult) -> std::io::Result<()> {
        for clause in case.clauses.iter().filter(|clause| clause.is_news()) {
            self.failure(case, clause)?;
        }
        writeln!(self.to, "  The dialogue, in seconds:")?;
        for (at, line) in &case.transcript {
            writeln!(self.to, "    {:>7.3}  {line}", at.as_secs_f64())?;
        }
        if !case.log.is_empty() {
            let skipped = case.log.len().saturating_sub(LOG_LINES);
            let more = if skipped == 0 {
                String::new()
            } else {
                format!(" ({skipped} before)")
            };
            writeln!(self.to, "\n  The server's log{more}:")?;
            for line in case.log.iter().skip(skipped) {
                writeln!(self.to, "    {line}")?;
            }
        }
        writeln!(
            self.to,
            "\n  This case alone:\n    vmailspec run '{}'\n",
            case.name
        )
    }

    fn failure(&mut self, case: &CaseResult, clause: &ClauseResult) -> std::io::Result<()> {
        writeln!(
            self.to,
            "\nBROKEN {} {}: {}",
            clause.level.word(),
            clause.id,
            clause.claim
        )?;
        for reference in &clause.references {
            writeln!(self.to, "  {}", refs::in_words(reference))?;
        }
        let Some(failure) = &clause.failure else {
            return Ok(());
        };
        let source = NamedSource::new(case.path.clone(), case.source.to_string());
        let diagnostic = Underlined {
            text: format!("expected {}", failure.expected),
            seen: failure.seen.clone(),
            place: failure.place,
            source,
        };
        let mut text = String::new();
        let theme = if self.look.tty {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(100)
            .with_context_lines(2);
        if handler.render_report(&mut text, &diagnostic).is_err() {
            text = format!("  {}\n  there was {}", diagnostic.text, diagnostic.seen);
        }
        writeln!(self.to, "{text}")
    }

    fn ended(&mut self, took: std::time::Duration, interrupted: bool) -> std::io::Result<()> {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        writeln!(self.to)?;
        // Many for one reason are one line, unless all of them are asked for.
        let mut told: Vec<&str> = Vec::new();
        let shown = |state: &str| state != UNSUPPORTED || self.look.verbose;
        for (state, name, why) in self.unable.iter().filter(|(state, ..)| shown(state)) {
            let alike = self
                .unable
                .iter()
                .filter(|(.., other)| other == why)
                .count();
            if alike <= ALIKE || self.look.verbose {
                writeln!(self.to, "{state} {name}: {why}")?;
            } else if !told.contains(&why.as_str()) {
                told.push(why);
                writeln!(self.to, "{state} {alike} cases: {why}")?;
            }
        }
        if self.unable.iter().any(|(state, ..)| shown(state)) {
            writeln!(self.to)?;
        }
        self.unsupported()?;
        let counts = |summary: &BTreeMap<Verdict, usize>| {
            let words: Vec<String> = Verdict::ALL
                .iter()
                .filter_map(|verdict| {
                    summary
                        .get(verdict)
                        .map(|n| format!("{n} {}", verdict.word()))
                })
                .collect();
            words.join(", ")
        };
        for (level, verdicts) in &self.summary.levels {
            writeln!(self.to, "{:<10} {}", level.word(), counts(verdicts))?;
        }
        let clauses: usize = self.summary.verdicts.values().sum();
        let known = match self.summary.known {
            0 => String::new(),
            n => format!(" ({n} broken as known)"),
        };
        writeln!(
            self.to,
            "\n{} of {} cases, {clauses} clauses: {}{known}; {:.1} s{}",
            self.done,
            self.cases,
            counts(&self.summary.verdicts),
            took.as_secs_f64(),
            if interrupted { ", interrupted" } else { "" },
        )?;
        self.to.flush()
    }
}

/// The word for a case of which something cannot be judged.
const UNSUPPORTED: &str = "unsupported";

/// The worst of a case, in a word.
fn state(case: &CaseResult) -> &'static str {
    let has = |verdict: Verdict| case.clauses.iter().any(|clause| clause.verdict == verdict);
    if case.is_broken() {
        "BROKEN"
    } else if has(Verdict::Broken) {
        "known"
    } else if has(Verdict::Blocked) {
        "blocked"
    } else if has(Verdict::Unreached) {
        "unreached"
    } else if has(Verdict::Unsupported) {
        UNSUPPORTED
    } else if has(Verdict::Declined) {
        "declined"
    } else if has(Verdict::Noted) {
        "noted"
    } else {
        "ok"
    }
}

impl<W: Write> Report for Terminal<W> {
    fn hear(&mut self, event: &Event) -> std::io::Result<()> {
        match event {
            Event::Started {
                target,
                database,
                cases,
                notes,
            } => self.started(target, database, *cases, notes),
            Event::Finished(case) => self.finished(case),
            Event::Defect { name, why } => {
                writeln!(
                    self.to,
                    "DEFECT of vmailspec in {name}: {why}; please report it"
                )
            }
            Event::Ended { took, interrupted } => self.ended(*took, *interrupted),
        }
    }
}

/// The scenario's lines with the expectation underlined.
#[derive(Debug)]
struct Underlined {
    text: String,
    seen: String,
    place: (usize, usize),
    source: NamedSource<String>,
}

impl std::fmt::Display for Underlined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Underlined {}

impl Diagnostic for Underlined {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = format!("there was {}", self.seen);
        Some(Box::new(std::iter::once(LabeledSpan::new(
            Some(label),
            self.place.0,
            self.place.1,
        ))))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn std::fmt::Display + 'a>> {
        let silent = self.seen == SILENCE || self.seen.starts_with(&format!("{SILENCE}, "));
        silent.then(|| {
            Box::new(
                "the connection stood and nothing came in time. What the server waits for is \
                 in its log: mostly a database or a name server that does not answer it. \
                 Whether it is only slow, the case alone or `--jobs 1` tells.",
            ) as Box<dyn std::fmt::Display>
        })
    }
}
