//! The page that describes the language says what the parser does.

use vmailspec::scenario::{parse, words};

const README: &str = include_str!("../../scenarios/README.md");

/// The fenced examples of the page.
fn examples() -> Vec<&'static str> {
    README.split("```\n").skip(1).step_by(2).collect()
}

#[test]
fn every_example_of_the_page_parses() {
    assert!(!examples().is_empty());
    for example in examples() {
        if let Err(mistakes) = parse("example.case", example) {
            panic!(
                "{}",
                vmailspec::scenario::error::render("README".as_ref(), example, &mistakes, false)
            );
        }
    }
}

#[test]
fn every_word_of_the_language_is_on_the_page() {
    let lists = [
        words::HEADERS,
        words::STEPS,
        words::LEVELS,
        words::CAPABILITIES,
        words::PROFILES,
        words::STARTS,
        words::VERBS,
        words::NAMES,
        words::FUNCTIONS,
        words::REPLY_DETAILS,
        words::FORMS,
        words::MESSAGE_DETAILS,
        words::MAILER_DETAILS,
        words::MAILDIR_DETAILS,
        words::SINK_DETAILS,
    ];
    let missing: Vec<&str> = lists
        .into_iter()
        .flatten()
        .copied()
        .filter(|word| !README.contains(word))
        .collect();
    assert!(
        missing.is_empty(),
        "not in scenarios/README.md: {missing:?}"
    );
}
