//! Routes: which queue a task goes to by the pattern its name matches.
//!
//! Pure. A pattern is a glob of `*` (any text, also none) and `?` (one character); everything else stands for itself.

use serde::Serialize;

/// Sends the tasks whose names match a pattern to a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The pattern of task names, such as `billing.*`.
    pub task: String,
    /// The queue's name.
    pub queue: String,
}

impl Route {
    /// Creates a route.
    #[must_use]
    pub fn new(task: impl Into<String>, queue: impl Into<String>) -> Self {
        Self {
            task: task.into(),
            queue: queue.into(),
        }
    }
}

/// The routes that exist without any configuration; they come after the configured ones.
#[must_use]
pub fn built_in() -> Vec<Route> {
    vec![
        Route::new("billing.*", "billing"),
        Route::new("kyb.*", "kyb"),
        Route::new("notifications.*", "notifications"),
        Route::new("notification.*", "notifications"),
    ]
}

/// Returns the queue of the first route whose pattern matches `task`.
#[must_use]
pub fn queue_for<'a>(routes: &'a [Route], task: &str) -> Option<&'a str> {
    let hit = routes.iter().find(|route| matches(&route.task, task))?;
    Some(&hit.queue)
}

/// Tells whether the whole of `text` matches the glob `pattern`.
///
/// Takes at most `pattern` × `text` steps: only the last `*` is ever taken back.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None; // Behind the last `*`, and where its text ends so far.
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                p += 1;
                star = Some((p, t));
            }
            Some('?') => (p, t) = (p + 1, t + 1),
            Some(c) if *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => {
                let Some((behind, end)) = star else {
                    return false;
                };
                star = Some((behind, end + 1));
                (p, t) = (behind, end + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn globs_match_whole_names() {
        for (pattern, text, expected) in [
            ("billing.*", "billing.charge", true),
            ("billing.*", "billing.", true),
            ("billing.*", "billing", false),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*.charge", "a.b.charge", true),
            ("*a*b", "xaxbxab", true),
            ("*a*b", "xaxbxa", false),
            ("a.b", "axb", false),
            ("?", "ü", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_match_wins() {
        let mut routes = vec![Route::new("billing.slow_*", "slow")];
        routes.extend(built_in());
        assert_eq!(queue_for(&routes, "billing.slow_report"), Some("slow"));
        assert_eq!(queue_for(&routes, "billing.charge"), Some("billing"));
        assert_eq!(
            queue_for(&routes, "notification.mail"),
            Some("notifications")
        );
        assert_eq!(queue_for(&routes, "other"), None);
    }

    /// The obvious definition, exponential in the worst case.
    fn slow(pattern: &[char], text: &[char]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some('*'), _) => {
                slow(&pattern[1..], text) || (!text.is_empty() && slow(pattern, &text[1..]))
            }
            (Some('?'), Some(_)) => slow(&pattern[1..], &text[1..]),
            (Some(a), Some(b)) if a == b => slow(&pattern[1..], &text[1..]),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*?]{0,7}", text in "[ab]{0,8}") {
            let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(matches(&pattern, &text), slow(&p, &t));
        }
    }
}
