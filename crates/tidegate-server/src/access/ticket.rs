//! Tickets: a capability for one event stream, for callers that cannot send headers.
//!
//! A ticket is `<selector>.<mac>`: the selector of a token, and an HMAC-SHA256 over a fixed
//! purpose keyed by the token's stored verifier hash. It survives a restart, is the same on every
//! replica, needs no storage, and dies with its token. It lets in to the stream of change
//! notifications and nowhere else, so an address that ends up in a proxy's log gives away when
//! something changed and nothing more. The verifier cannot be computed from it.

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What a ticket is for; part of what is authenticated, so that it fits nothing else.
const PURPOSE: &[u8] = b"tidegate/ofrep-events/1";
/// Bytes of the code that travel.
const MAC_BYTES: usize = 16;
/// SHA-256's block.
const BLOCK_BYTES: usize = 64;

/// The ticket of the token `selector` whose verifier hashes to `key`.
#[must_use]
pub(super) fn issue(selector: &str, key: &[u8; 32]) -> String {
    use std::fmt::Write as _;
    let mut ticket = format!("{selector}.");
    for byte in mac(selector, key) {
        let _ = write!(ticket, "{byte:02x}");
    }
    ticket
}

/// The selector a ticket names, to look its key up by.
#[must_use]
pub(super) fn selector_of(ticket: &str) -> Option<&str> {
    ticket.rsplit_once('.').map(|(selector, _)| selector)
}

/// Whether `ticket` is the one that `selector` and `key` make. Compares in constant time.
#[must_use]
pub(super) fn is_genuine(ticket: &str, selector: &str, key: &[u8; 32]) -> bool {
    issue(selector, key)
        .as_bytes()
        .ct_eq(ticket.as_bytes())
        .into()
}

fn mac(selector: &str, key: &[u8; 32]) -> [u8; MAC_BYTES] {
    let whole = hmac(key, &[PURPOSE, b"\0", selector.as_bytes()]);
    let mut short = [0; MAC_BYTES];
    short.copy_from_slice(&whole[..MAC_BYTES]);
    short
}

/// HMAC-SHA256 (RFC 2104) with a key no longer than a block.
fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let padded = |with: u8| {
        let mut block = [with; BLOCK_BYTES];
        block
            .iter_mut()
            .zip(key)
            .for_each(|(byte, key)| *byte ^= key);
        block
    };
    let mut inner = Sha256::new();
    inner.update(padded(0x36));
    parts.iter().for_each(|part| inner.update(part));
    let mut outer = Sha256::new();
    outer.update(padded(0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_standard_one() {
        // RFC 4231, test case 2.
        let code = hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        let text: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            text,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn a_ticket_fits_its_own_token_only() {
        let ticket = issue("live", &[1; 32]);
        assert_eq!(selector_of(&ticket), Some("live"));
        assert!(is_genuine(&ticket, "live", &[1; 32]));
        assert!(!is_genuine(&ticket, "live", &[2; 32]));
        assert!(!is_genuine(&ticket, "other", &[1; 32]));
        assert!(!is_genuine("live.", "live", &[1; 32]));
        assert_eq!(selector_of("garbage"), None);
    }
}
