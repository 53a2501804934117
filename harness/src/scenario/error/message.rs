//! What is wrong, in one line.

use std::fmt;

use super::{Mistake, What};

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::NotText => f.write_str("the file is not text"),
            What::ControlCharacter(_) => f.write_str("a control character in the text"),
            What::NothingAbove => f.write_str("an indented line with no line above it"),
            What::Uneven => f.write_str("uneven indentation"),
            What::TakesNoLines(word) => write!(f, "`{word}` takes no indented lines"),
            What::UnknownWord { word, .. } => write!(f, "`{word}` is no word of the language"),
            What::UnknownLevel { word, .. } => write!(f, "`{word}` is no level"),
            What::UnknownDetail { word, below, .. } => {
                write!(f, "`{word}` is nothing that `{below}` knows")
            }
            What::NotOneOf { what, word, .. } => write!(f, "`{word}` is no {what}"),
            What::NoTitle => f.write_str("the scenario has no title"),
            What::NoClause => f.write_str("the scenario has no clause: it judges nothing"),
            What::HeaderAfterStep(word) => write!(f, "`{word}` belongs to the header"),
            What::HeaderTwice { word, .. } | What::DetailTwice(word) => {
                write!(f, "a second `{word}`")
            }
            What::Missing { after, .. } => write!(f, "`{after}` wants more"),
            What::Unexpected { after, .. } => write!(f, "too much after `{after}`"),
            What::BadNumber { text, .. } => write!(f, "`{text}` is not a number that fits"),
            What::BadTime(text) => write!(f, "`{text}` is no time"),
            What::NothingWithoutTime => f.write_str("`nothing`, for how long?"),
            What::TimeWithoutWaiting => f.write_str("`within` where nothing is waited for"),
            What::BadPattern { text, .. } => write!(f, "`{text}` is no pattern of a reply"),
            What::NoReplyYet => f.write_str("`S=` has no reply to look at"),
            What::NoConnection(word) => write!(f, "`{word}` without a connection"),
            What::NoMailerYet => f.write_str("no mailer has sent anything"),
            What::BadId(id) => write!(f, "`{id}` is not the id of a clause"),
            What::ClauseTwice { id, .. } => write!(f, "a second clause {id}"),
            What::BadReference(text) => write!(f, "`{text}` is no reference"),
            What::NoReference => f.write_str("the clause does not say where it comes from"),
            What::NoClaim => f.write_str("the clause claims nothing"),
            What::NothingExpected(id) => write!(f, "the clause {id} expects nothing"),
            What::UnknownName { name, .. } => write!(f, "`${name}` is unknown"),
            What::NameNotHere(name) => write!(f, "`${name}` has no value here"),
            What::LoneDollar => f.write_str("a dollar sign that begins no name"),
            What::OpenBracket => f.write_str("a bracket that does not end"),
            What::TooDeep => f.write_str("too many brackets in brackets"),
            What::TimesNeedsTwo => f.write_str("`$times(…)` needs a number and a text"),
            What::PlainNeedsTwo => f.write_str("`$plain(…)` needs two words"),
            What::BadEscape(text) => write!(f, "`{text}` is no escape"),
            What::BlankAtEnd(word) => write!(f, "a blank at the end of `{word}`"),
            What::BlankAtStart(word) => write!(f, "more than one blank after `{word}`"),
            What::BadAxis(name) => write!(f, "`{name}` cannot be a name"),
            What::AxisTaken(name) => write!(f, "`{name}` is taken"),
            What::EmptyValue => f.write_str("an empty value"),
            What::ValueTwice(value) => write!(f, "`{value}` stands here twice"),
            What::RowWidth { .. } => f.write_str("the row does not fit its table"),
            What::TooManyCases(many) => write!(f, "{many} cases from one scenario"),
            What::BadAddress { text, .. } => write!(f, "`{text}` is no address for this place"),
            What::DetailOfNothing(word) => write!(f, "`{word}` below `empty`"),
            What::BadDetail { word, .. } => write!(f, "`{word}` needs another form"),
            What::NotInRepeat(word) => write!(f, "`{word}` cannot be repeated"),
            What::ParameterTwice(name) => write!(f, "`{name}` is set twice"),
            What::Unwritten => f.write_str("`write this` still stands here"),
        }
    }
}
