//! "Did you mean": the known word that is nearest to a misspelt one.

/// The candidate with the fewest slips from `word`, if they are few enough to be slips.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let most = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (slips(&word, &candidate.to_lowercase()), candidate))
        .filter(|(slips, _)| *slips <= most)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// Up to `many` candidates, nearest first: those with few slips, then those that contain the word.
#[must_use]
pub fn nearest_all(word: &str, candidates: &[&str], many: usize) -> Vec<String> {
    let lower = word.to_lowercase();
    let most = (lower.chars().count() / 3).max(2);
    let mut near: Vec<(usize, &str)> = candidates
        .iter()
        .map(|candidate| {
            let slips = slips(&lower, &candidate.to_lowercase());
            let inside = candidate.to_lowercase().contains(&lower);
            (if inside { slips.min(most) } else { slips }, *candidate)
        })
        .filter(|(slips, _)| *slips <= most)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter()
        .take(many)
        .map(|(_, candidate)| candidate.to_owned())
        .collect()
}

/// Insertions, deletions, substitutions and swaps of neighbours between two words. Long words
/// are not compared: nobody misspells a hundred letters into a word of the language.
fn slips(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(101).collect();
    let b: Vec<char> = b.chars().take(101).collect();
    if a.len() > 100 || b.len() > 100 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, &from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &to) in b.iter().enumerate() {
            let mut least = (above[j] + usize::from(from != to))
                .min(above[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && from == b[j - 1] && a[i - 1] == to {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::{nearest, nearest_all};

    #[test]
    fn a_swap_is_one_slip() {
        assert_eq!(nearest("quatoa", ["queue", "quota"]), Some("quota"));
        assert_eq!(nearest("titel", ["title"]), Some("title"));
    }

    #[test]
    fn what_is_far_is_not_suggested() {
        assert_eq!(nearest("frobnicate", ["title", "from"]), None);
    }

    #[test]
    fn a_part_of_a_name_finds_it() {
        assert_eq!(
            nearest_all("relay", &["tutorial/relay", "quota"], 3),
            ["tutorial/relay"]
        );
    }
}
