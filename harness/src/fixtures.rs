//! The files of `fixtures/`, carried in the binary: an installed `vmailspec` needs none beside it.

// Made by build.rs: `static FIXTURES: &[(&str, &str)]`, sorted by name.
include!(concat!(env!("OUT_DIR"), "/fixtures.rs"));

/// The text of a fixture by its name below `fixtures/`, as `sql/schema.sql`.
#[must_use]
pub fn file(name: &str) -> Option<&'static str> {
    let at = FIXTURES
        .binary_search_by(|(known, _)| (*known).cmp(name))
        .ok()?;
    FIXTURES.get(at).map(|(_, text)| *text)
}

/// Names and texts of the fixtures below a folder, sorted, as `postfix`.
pub fn folder(folder: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    FIXTURES.iter().copied().filter(move |(name, _)| {
        name.strip_prefix(folder)
            .is_some_and(|rest| rest.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use super::FIXTURES;

    #[test]
    fn every_fixture_is_found_by_its_name() {
        for (name, text) in FIXTURES {
            assert_eq!(super::file(name), Some(*text));
        }
        assert_eq!(super::file("no/such.file"), None);
    }
}
