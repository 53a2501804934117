//! smtpd restrictions (postconf(5) smtpd_recipient_restrictions and its kin).
//!
//! A list is asked from its beginning until one entry decides. An unknown name is a mistake in the
//! configuration and never passed over: a server that ignores a restriction is an open relay.

use std::str::FromStr;

/// One entry of a list of restrictions; `NAMES` says what each does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "NAMES says it")]
pub enum Restriction {
    PermitMynetworks,
    PermitSaslAuthenticated,
    RejectUnauthDestination,
    DeferUnauthDestination,
    Permit,
    Reject,
    Defer,
}

/// All restrictions, under Postfix's names, with what they do for the manual.
pub(crate) const NAMES: [(&str, Restriction, &str); 7] = [
    (
        "permit_mynetworks",
        Restriction::PermitMynetworks,
        "Permit clients in mynetworks.",
    ),
    (
        "permit_sasl_authenticated",
        Restriction::PermitSaslAuthenticated,
        "Permit clients that have authenticated.",
    ),
    (
        "reject_unauth_destination",
        Restriction::RejectUnauthDestination,
        "Refuse recipients whose mail is neither delivered here nor relayed for everybody: 554 5.7.1.",
    ),
    (
        "defer_unauth_destination",
        Restriction::DeferUnauthDestination,
        "The same, for now: 454 4.7.1.",
    ),
    ("permit", Restriction::Permit, "Permit."),
    ("reject", Restriction::Reject, "Refuse."),
    ("defer", Restriction::Defer, "Refuse for now."),
];

impl FromStr for Restriction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut names = NAMES.iter();
        let found = names.find(|(name, ..)| name.eq_ignore_ascii_case(text));
        found.map(|row| row.1).ok_or_else(|| {
            let names = NAMES.map(|(name, ..)| name).join(", ");
            format!("unknown restriction {text:?}, expected {names}")
        })
    }
}

/// What is known about who asks for what.
#[derive(Debug, Clone, Copy, Default)]
pub struct Facts {
    /// In mynetworks.
    pub neighbour: bool,
    /// Has authenticated.
    pub authenticated: bool,
    /// The destination is ours; or the list is not about one, and what it says of that passes.
    pub ours: bool,
}

/// A list refuses.
#[derive(Debug, Clone, Copy)]
pub struct Refusal {
    /// 554 is for good, others are for now.
    pub code: u16,
    /// Because the destination is not ours.
    pub relaying: bool,
}

/// Asks `list`; `None` where an entry permits or none decides.
pub fn ask(list: &[Restriction], facts: Facts) -> Option<Refusal> {
    for restriction in list {
        let (code, relaying) = match restriction {
            Restriction::PermitMynetworks if facts.neighbour => return None,
            Restriction::PermitSaslAuthenticated if facts.authenticated => return None,
            Restriction::Permit => return None,
            Restriction::Reject => (554, false),
            Restriction::Defer => (450, false),
            Restriction::RejectUnauthDestination if !facts.ours => (554, true),
            Restriction::DeferUnauthDestination if !facts.ours => (454, true),
            Restriction::PermitMynetworks
            | Restriction::PermitSaslAuthenticated
            | Restriction::RejectUnauthDestination
            | Restriction::DeferUnauthDestination => continue,
        };
        return Some(Refusal { code, relaying });
    }
    None
}

/// A stranger's mail for another domain does not get past `list`.
pub fn stops_relaying(list: &[Restriction]) -> bool {
    ask(list, Facts::default()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn list(text: &str) -> Vec<Restriction> {
        text.split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect()
    }

    #[rstest]
    #[case("permit_mynetworks permit_sasl_authenticated defer_unauth_destination")]
    #[case("permit_sasl_authenticated reject")]
    #[case("Reject_Unauth_Destination permit")]
    fn these_stop_a_stranger_from_relaying_too(#[case] text: &str) {
        assert!(stops_relaying(&list(text)));
    }
}
