use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The fewest characters of a token: shorter ones can be guessed.
const MIN_CHARACTERS: usize = 16;
/// The most characters of a token: it has to fit into a header.
const MAX_CHARACTERS: usize = 4096;

/// A secret that clients have to know. Only its hash is kept, and nothing shows it.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// A token with this text, without the white space around it. The error says what is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if !(MIN_CHARACTERS..=MAX_CHARACTERS).contains(&text.len()) {
            return Err(format!("a token has {MIN_CHARACTERS} to {MAX_CHARACTERS} characters"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a token is made of visible ASCII characters, and no spaces".to_owned());
        }
        Ok(Self(hash(text)))
    }

    /// Whether this is its text. How long the answer takes does not tell how much of it is right.
    pub fn is(&self, text: &str) -> bool {
        self.0.ct_eq(&hash(text)).into()
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0123456789abcdef";

    #[test]
    fn only_its_own_text_is_it() {
        let token = Token::new(&format!(" {TEXT}\n")).unwrap();
        assert!(token.is(TEXT));
        for wrong in ["", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeF", " 0123456789abcdef"] {
            assert!(!token.is(wrong), "{wrong}");
        }
        assert_eq!(format!("{token:?}"), "Token(…)");
    }

    #[test]
    fn what_cannot_be_a_token_is_told_why() {
        for (text, why) in
            [("short", "16"), ("", "16"), ("with spaces in between", "spaces"), (&"x".repeat(4097), "4096")]
        {
            assert!(Token::new(text).unwrap_err().contains(why), "{text}");
        }
    }
}
