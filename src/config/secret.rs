//! Bearer tokens: texts that never show, neither in the configuration nor in what is said about it.

use std::fmt;

/// A bearer token: shown and debugged as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// What a token may be, in words.
    pub(crate) const RULE: &'static str =
        "16 to 512 visible ASCII characters without blanks, such as `openssl rand -hex 32` prints";

    /// Takes a token.
    ///
    /// # Errors
    /// What is wrong with it, without repeating it.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("found an empty token".to_owned());
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(
                "found a token with a blank or with something else than visible ASCII".to_owned(),
            );
        }
        if !(16..=512).contains(&text.len()) {
            return Err(format!("found a token of {} characters", text.len()));
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the token, for the one who compares it. Never log it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_shows() {
        let token = Secret::new("0123456789abcdef").unwrap();
        assert_eq!(format!("{token} {token:?}"), "*** ***");
        assert_eq!(token.expose(), "0123456789abcdef");
        for text in [
            "",
            "hunter2hunter2",
            "two words and then some",
            "schlüsselwort-lang",
        ] {
            let fault = Secret::new(text).unwrap_err();
            assert!(text.is_empty() || !fault.contains(text), "{fault}");
        }
    }
}
