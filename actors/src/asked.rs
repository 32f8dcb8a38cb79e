//! What an enqueuer asks for one task, checked against itself and against the policy of the task's kind.
//!
//! A worker caps what nobody checked (see [`Policy::limits_for`]); this says so to whoever still can change it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::envelope::Overrides;
use crate::policy::Policy;

/// The most headers a task has.
pub const MAX_HEADERS: usize = 64;
/// The longest key of a header, in bytes.
pub const MAX_HEADER_KEY: usize = 128;
/// The longest value of a header, in bytes.
pub const MAX_HEADER_VALUE: usize = 4_096;

/// Why a task cannot be enqueued as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// No attempt at all.
    #[error("max_attempts is 0; a task has at least one attempt")]
    NoAttempt,
    /// More attempts than the kind allows.
    #[error("max_attempts is {asked}; its kind allows {allowed}")]
    Attempts {
        /// How many were asked for.
        asked: u16,
        /// How many its kind allows.
        allowed: u16,
    },
    /// A limit that ends every attempt at once.
    #[error("{0} is 0; an attempt would end before it began")]
    NoTime(&'static str),
    /// A soft limit that would never be reached.
    #[error("soft_limit is {soft:?}, beyond {whose} hard limit of {hard:?}")]
    SoftBeyondHard {
        /// The soft limit asked for.
        soft: Duration,
        /// The hard limit that holds.
        hard: Duration,
        /// Whose hard limit it is.
        whose: &'static str,
    },
    /// A longer attempt than the kind allows.
    #[error("hard_limit is {asked:?}; its kind allows {allowed:?}")]
    HardLimit {
        /// The limit asked for.
        asked: Duration,
        /// The longest one that its kind allows.
        allowed: Duration,
    },
    /// Too many headers.
    #[error("there are {0} headers; a task has at most {MAX_HEADERS}")]
    Headers(usize),
    /// A key that is empty, too long or not printable.
    #[error(
        "the header `{0}` has no usable name: 1 to {MAX_HEADER_KEY} bytes without control characters"
    )]
    HeaderKey(String),
    /// A value that is too long.
    #[error("the header `{key}` has {len} bytes; at most {MAX_HEADER_VALUE} are stored")]
    HeaderValue {
        /// Its key.
        key: String,
        /// Its length in bytes.
        len: usize,
    },
}

/// Checks what is asked for one task; `policy` is that of its kind, where it is known.
///
/// # Errors
/// The first thing that cannot be, or that the policy forbids.
pub fn check(
    overrides: &Overrides,
    headers: &BTreeMap<String, String>,
    policy: Option<&Policy>,
) -> Result<(), AskError> {
    check_headers(headers)?;
    if let Some(asked) = overrides.max_attempts {
        let allowed = policy.map_or(u16::MAX, Policy::attempts_at_most);
        match asked {
            0 => return Err(AskError::NoAttempt),
            asked if asked > allowed => return Err(AskError::Attempts { asked, allowed }),
            _ => {}
        }
    }
    let (soft, hard) = (overrides.soft_limit(), overrides.hard_limit());
    for (name, limit) in [("soft_limit", soft), ("hard_limit", hard)] {
        if limit.is_some_and(|limit| limit.is_zero()) {
            return Err(AskError::NoTime(name));
        }
    }
    if let (Some(asked), Some(policy)) = (hard, policy)
        && asked > policy.hard_limit_at_most()
    {
        let allowed = policy.hard_limit_at_most();
        return Err(AskError::HardLimit { asked, allowed });
    }
    let holds = match hard {
        Some(hard) => Some((hard, "its")),
        None => policy.map(|policy| (policy.hard(), "its kind's")),
    };
    match (soft, holds) {
        (Some(soft), Some((hard, whose))) if soft > hard => {
            Err(AskError::SoftBeyondHard { soft, hard, whose })
        }
        _ => Ok(()),
    }
}

fn check_headers(headers: &BTreeMap<String, String>) -> Result<(), AskError> {
    if headers.len() > MAX_HEADERS {
        return Err(AskError::Headers(headers.len()));
    }
    for (key, value) in headers {
        let is_usable = (1..=MAX_HEADER_KEY).contains(&key.len());
        if !is_usable || key.chars().any(char::is_control) {
            let shown = crate::failure::cut(key.escape_debug().to_string(), MAX_HEADER_KEY);
            return Err(AskError::HeaderKey(shown));
        }
        if value.len() > MAX_HEADER_VALUE {
            let (key, len) = (key.clone(), value.len());
            return Err(AskError::HeaderValue { key, len });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::minutes;

    fn asked(soft: Option<u64>, hard: Option<u64>, attempts: Option<u16>) -> Overrides {
        Overrides {
            soft_limit_ms: soft,
            hard_limit_ms: hard,
            max_attempts: attempts,
            ..Overrides::default()
        }
    }

    #[test]
    fn what_contradicts_itself_or_the_policy_is_named() {
        let policy = Policy::default()
            .hard_limit(minutes(30))
            .at_most_attempts(9)
            .at_most_hard_limit(minutes(60));
        for (overrides, policy, said) in [
            (asked(None, None, Some(0)), None, "at least one attempt"),
            (
                asked(None, None, Some(10)),
                Some(&policy),
                "its kind allows 9",
            ),
            (asked(Some(0), None, None), None, "soft_limit is 0"),
            (asked(None, Some(0), None), None, "hard_limit is 0"),
            (
                asked(Some(2_000), Some(1_000), None),
                None,
                "its hard limit of 1s",
            ),
            (
                asked(Some(1_800_001), None, None),
                Some(&policy),
                "its kind's hard limit of 1800s",
            ),
            (
                asked(None, Some(3_600_001), None),
                Some(&policy),
                "its kind allows 3600s",
            ),
        ] {
            let error = check(&overrides, &BTreeMap::new(), policy).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
        for overrides in [
            asked(Some(1_800_000), None, Some(9)),
            asked(Some(3_600_000), Some(3_600_000), None),
            // Its kind's soft limit is later: the hard one caps it.
            asked(None, Some(1_000), None),
        ] {
            assert_eq!(check(&overrides, &BTreeMap::new(), Some(&policy)), Ok(()));
        }
        // Of a kind that nobody knows here, only what contradicts itself is known.
        let much = asked(Some(99_000_000), None, Some(999));
        assert_eq!(check(&much, &BTreeMap::new(), None), Ok(()));
    }

    #[test]
    fn headers_have_bounds() {
        let of = |key: &str, value: String| BTreeMap::from([(key.to_owned(), value)]);
        let none = Overrides::default();
        for (headers, said) in [
            (of("", "x".into()), "no usable name"),
            (of("a\nb", "x".into()), "`a\\nb`"),
            (of(&"k".repeat(129), "x".into()), "no usable name"),
            (of("k", "x".repeat(4_097)), "has 4097 bytes"),
            (
                (0..65).map(|n| (n.to_string(), String::new())).collect(),
                "65 headers",
            ),
        ] {
            let error = check(&none, &headers, None).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
        let fits = of(&"k".repeat(128), "ä".repeat(2_048));
        assert_eq!(check(&none, &fits, Some(&Policy::default())), Ok(()));
    }
}
