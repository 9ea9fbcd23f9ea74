//! Bearer credentials: tokens, sign-in sessions, one-time links.
//!
//! A credential reads `tg_<word>_<selector>_<verifier>`.
//! The selector finds the row and is no secret; it is what the audit names.
//! The verifier is 43 characters drawn uniformly from 62, which is 256 bits from the operating
//! system's generator.
//!
//! Stored is the SHA-256 of the verifier.
//! A slow password hash would protect nothing here: it exists to make guessing of *likely*
//! texts expensive, and no guess at 256 random bits is likely; it would only hand an attacker
//! a way to burn our processors with garbage tokens.
//! Passwords of people are a different matter and are hashed by argon2id in the server.
//!
//! Hashes are compared in constant time.

use std::fmt;

use subtle::ConstantTimeEq as _;

use crate::{digest::Digest, secret::Secret};

/// Length of a selector in characters: 95 bits, so that they never collide.
pub const SELECTOR_LEN: usize = 16;
/// Length of a verifier in characters: 256 bits.
pub const VERIFIER_LEN: usize = 43;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Largest multiple of 62 in a byte: bytes from here on are drawn again, or the first letters
/// of the alphabet would be likelier than the others.
const UNBIASED_BELOW: u8 = 248;

/// What is stored of a verifier.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CredentialHash([u8; 32]);

/// A credential just made: shown once, then only its hash exists.
#[derive(Debug, Clone)]
pub struct MintedCredential {
    /// The whole text, to be shown to its owner once.
    pub text: Secret,
    /// Its public part.
    pub selector: String,
    /// What is stored.
    pub hash: CredentialHash,
}

/// A credential as somebody presents it; nothing about it is known to be true yet.
#[derive(Debug, Clone)]
pub struct PresentedCredential {
    /// The word after `tg_`: a token kind, `session` or `link`.
    pub word: String,
    /// Its public part.
    pub selector: String,
    /// Its secret part.
    pub verifier: Secret,
}

/// Text that has not the form of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no credential of the form tg_<kind>_<selector>_<verifier>")]
pub struct MalformedCredential;

/// The operating system gave no random bytes.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the operating system gave no random bytes: {0}")]
pub struct NoEntropy(pub(crate) String);

impl CredentialHash {
    /// Hash of a verifier.
    pub fn of(verifier: &str) -> Self {
        Self(Digest::of(verifier.as_bytes()).0)
    }

    /// A hash as stored.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether `verifier` is the one, in time that does not depend on how much of it is right.
    pub fn matches(&self, verifier: &Secret) -> bool {
        Self::of(verifier.expose()).0.ct_eq(&self.0).into()
    }
}

impl fmt::Debug for CredentialHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hash]")
    }
}

impl MintedCredential {
    /// Makes a credential for `word` from the operating system's generator.
    pub fn mint(word: &str) -> Result<Self, NoEntropy> {
        let selector = random_text(SELECTOR_LEN)?;
        let verifier = random_text(VERIFIER_LEN)?;
        let hash = CredentialHash::of(&verifier);
        let text = Secret::new(format!("tg_{word}_{selector}_{verifier}"));
        Ok(Self {
            text,
            selector,
            hash,
        })
    }
}

impl PresentedCredential {
    /// Takes a text apart; looks at nothing beyond its form and allocates no more than its
    /// fixed length.
    pub fn parse(text: &str) -> Result<Self, MalformedCredential> {
        let mut parts = text
            .strip_prefix("tg_")
            .ok_or(MalformedCredential)?
            .splitn(3, '_');
        let mut part = || parts.next().ok_or(MalformedCredential);
        let (word, selector, verifier) = (part()?, part()?, part()?);
        let word_is_plain =
            (1..=16).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase());
        if !word_is_plain
            || !is_base62(selector, SELECTOR_LEN)
            || !is_base62(verifier, VERIFIER_LEN)
        {
            return Err(MalformedCredential);
        }
        Ok(Self {
            word: word.to_owned(),
            selector: selector.to_owned(),
            verifier: Secret::new(verifier),
        })
    }
}

fn is_base62(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn random_text(len: usize) -> Result<String, NoEntropy> {
    let mut text = String::with_capacity(len);
    let mut block = [0_u8; 64];
    while text.len() < len {
        random_bytes(&mut block)?;
        let drawn = block.iter().filter(|&&byte| byte < UNBIASED_BELOW);
        let letters = drawn.map(|byte| char::from(ALPHABET[usize::from(byte % 62)]));
        text.extend(letters.take(len - text.len()));
    }
    Ok(text)
}

/// Fills `bytes` from the operating system's generator.
pub(crate) fn random_bytes(bytes: &mut [u8]) -> Result<(), NoEntropy> {
    getrandom::fill(bytes).map_err(|error| NoEntropy(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minted_credentials_parse_and_match() {
        let minted = MintedCredential::mint("server").unwrap();
        let presented = PresentedCredential::parse(minted.text.expose()).unwrap();
        assert_eq!(presented.word, "server");
        assert_eq!(presented.selector, minted.selector);
        assert!(minted.hash.matches(&presented.verifier));
        assert!(!minted.hash.matches(&Secret::new("0".repeat(VERIFIER_LEN))));
        assert!(!format!("{minted:?} {presented:?}").contains(presented.verifier.expose()));
    }

    #[test]
    fn anything_else_is_malformed() {
        let minted = MintedCredential::mint("ci").unwrap();
        let text = minted.text.expose();
        for bad in [
            "",
            "tg_",
            "tg_ci_x_y",
            "xx_ci_0000000000000000_0",
            &text[1..],
            &text[..text.len() - 1],
            &format!("{text}0"),
            &text.replace("_ci_", "_CI_"),
            &text.replace("_ci_", "__"),
        ] {
            assert!(
                PresentedCredential::parse(bad).is_err(),
                "{bad:?} was accepted"
            );
        }
    }

    #[test]
    fn parsing_arbitrary_text_never_panics_and_keeps_what_it_accepts() {
        bolero_like(|text| {
            if let Ok(presented) = PresentedCredential::parse(text) {
                let (word, selector) = (&presented.word, &presented.selector);
                let again = format!("tg_{word}_{selector}_{}", presented.verifier.expose());
                assert_eq!(again, text);
            }
        });
    }

    fn bolero_like(check: impl Fn(&str)) {
        use proptest::{prelude::*, test_runner::TestRunner};
        let texts = "(tg_)?[a-z]{0,17}_?[0-9A-Za-z]{15,17}_[0-9A-Za-z_é]{42,44}";
        TestRunner::default()
            .run(&texts, |text| {
                check(&text);
                Ok(())
            })
            .unwrap();
        TestRunner::default()
            .run(&any::<String>(), |text| {
                check(&text);
                Ok(())
            })
            .unwrap();
    }
}
