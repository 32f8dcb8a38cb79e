//! Suggestions: the known word that a mistyped one is closest to.
//!
//! Pure. Suggests nothing rather than something far away.

/// Returns the candidate closest to `typed`, when it is close enough to have been meant.
///
/// Case and the choice between `-`, `_` and `.` do not count. At most one edit in three characters is forgiven, at
/// least one; swapping two neighbours is one edit. The first of several equally close candidates wins.
pub(crate) fn closest<'a>(
    typed: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    const LONGEST: usize = 80; // The distance costs the product of both lengths.
    if typed.is_empty() || typed.len() > LONGEST {
        return None;
    }
    let typed = plain(typed);
    let limit = (typed.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&typed, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns the question that offers `closest`, such as ``did you mean `lease`?``.
pub(crate) fn did_you_mean<'a>(
    typed: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    closest(typed, candidates).map(|word| format!("did you mean `{}`?", word.escape_debug()))
}

fn plain(text: &str) -> Vec<char> {
    text.chars()
        .map(|c| match c {
            '-' | '.' => '_',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

/// The optimal string alignment distance: insert, delete, replace, swap two neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = last;
        last = row;
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn suggests_what_was_meant_and_nothing_else() {
        let keys = ["lease", "sweep", "data_dir", "max_frame"];
        for (typed, expected) in [
            ("laese", Some("lease")),
            ("LEASE", Some("lease")),
            ("leas", Some("lease")),
            ("data-dir", Some("data_dir")),
            ("maxframe", Some("max_frame")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(closest(typed, keys), expected, "{typed}");
        }
    }

    proptest! {
        #[test]
        fn the_distance_is_symmetric_and_zero_only_for_equals(a in "[a-e]{0,8}", b in "[a-e]{0,8}") {
            let (x, y) = (plain(&a), plain(&b));
            prop_assert_eq!(distance(&x, &y), distance(&y, &x));
            prop_assert_eq!(distance(&x, &y) == 0, a == b);
        }
    }
}
