//! What is written below the underlined text: what was expected there.

use super::{MOST_CASES, Mistake, SHORT, What};

impl Mistake {
    /// What is written below the underlined text: what was expected there.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.what {
            What::NotText => "not UTF-8 from here on".into(),
            What::ControlCharacter('\t') => "a tab".into(),
            What::ControlCharacter(c) => format!("U+{:04X}", u32::from(*c)),
            What::NothingAbove => "expected a line that begins in the first column".into(),
            What::Uneven => "expected in the column of the lines it stands with".into(),
            What::TakesNoLines(_) => "expected in the first column".into(),
            What::UnknownWord { .. } => "expected a header word, a level or a step".into(),
            What::UnknownLevel { .. } => "expected a level".into(),
            What::UnknownDetail { allowed, .. } | What::NotOneOf { allowed, .. } => {
                format!("expected {}", or(allowed))
            }
            What::NoTitle => "expected `title TEXT` above this".into(),
            What::NoClause => "expected a clause".into(),
            What::HeaderAfterStep(_) => "expected above the first step".into(),
            What::HeaderTwice { first, .. } => format!("the first is on line {first}"),
            What::Missing { expected, .. }
            | What::BadNumber { expected, .. }
            | What::BadAddress { expected, .. }
            | What::BadDetail { expected, .. } => format!("expected {expected}"),
            What::Unexpected { .. } => "expected the end of the line".into(),
            What::BadTime(_) => "expected a time: 500ms, 2s or 1m".into(),
            What::NothingWithoutTime => "expected `nothing within TIME`".into(),
            What::TimeWithoutWaiting => "nothing is waited for here".into(),
            What::BadPattern { why, .. } => (*why).to_owned(),
            What::NoReplyYet => "expected an `S:` before it".into(),
            What::NoConnection(_) => "expected a connection before it".into(),
            What::NoMailerYet => "expected a `mailer ENTRY` before it".into(),
            What::BadId(_) => "expected group.name".into(),
            What::ClauseTwice { first, .. } => format!("already a clause on line {first}"),
            What::BadReference(_) | What::NoReference => "expected a reference".into(),
            What::NoClaim => "expected the claim in words".into(),
            What::NothingExpected(_) => "nothing below it can fail".into(),
            What::UnknownName { .. } => "expected a name that the case has".into(),
            What::NameNotHere("n") => "expected inside of `repeat`".into(),
            What::NameNotHere(_) => "expected after `name`".into(),
            What::LoneDollar => "expected a name, or another `$`".into(),
            What::OpenBracket => "expected `)` before the end of the line".into(),
            What::TooDeep => "one bracket too many".into(),
            What::TimesNeedsTwo => "expected a number from 1 to 100000, a blank and a text".into(),
            What::PlainNeedsTwo => "expected a user, a blank and a password".into(),
            What::BadEscape(_) => "expected \\r \\n \\t \\0 \\\\ or \\xHH".into(),
            What::BlankAtEnd(_) => "expected no blank at the end".into(),
            What::BlankAtStart(_) => "expected one blank before it".into(),
            What::BadAxis(_) => "expected lower-case letters and digits".into(),
            What::AxisTaken(_) => "already the name of something else".into(),
            What::EmptyValue => "expected a value".into(),
            What::ValueTwice(_) | What::DetailTwice(_) | What::ParameterTwice(_) => {
                "expected once".into()
            }
            What::RowWidth { expected, .. } => format!("expected {expected} cells"),
            What::TooManyCases(_) => format!("expected at most {MOST_CASES}"),
            What::DetailOfNothing(_) => "expected no line below `empty`".into(),
            What::NotInRepeat(_) => "expected outside of `repeat`".into(),
            What::Unwritten => "expected what only an author can say".into(),
        }
    }
}

/// `from` or `to`; `has`, `lacks` or `first`; too many to say: the first few.
fn or(allowed: &[&str]) -> String {
    match allowed {
        [] => "nothing".to_owned(),
        [one] => format!("`{one}`"),
        [some @ .., last] if allowed.len() <= SHORT => {
            let some: Vec<String> = some.iter().map(|word| format!("`{word}`")).collect();
            format!("{} or `{last}`", some.join(", "))
        }
        _ => "one of the words below".to_owned(),
    }
}
