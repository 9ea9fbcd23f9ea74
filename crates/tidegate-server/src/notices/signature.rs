//! Signatures as Standard Webhooks 1.0 defines them, and where their keys come from.
//!
//! A message is signed over `{id}.{timestamp}.{body}` with HMAC-SHA256 (RFC 2104), once for each live
//! key of its endpoint, so that a receiver can change keys while messages flow.
//!
//! A key is *derived*, not stored: HMAC of a random name with the server's own master key, which lies
//! in a private file of the data folder. So neither the database nor the audit trail, a backup or an
//! answer of the API holds a secret that could be read back.

use std::fmt;
use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tidegate_delivery::webhook::hmac_sha256;

/// The file of the master key, in the data folder.
pub const KEY_FILE: &str = "notices.key";

/// From which the keys of all endpoints are derived.
#[derive(Clone)]
pub struct MasterKey([u8; 32]);

/// One endpoint's key.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey([u8; 32]);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[master key]")
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[signing key]")
    }
}

impl MasterKey {
    /// The key of a data folder, made at the first call.
    ///
    /// # Errors
    /// The file cannot be read or made, or is no key.
    pub fn open_or_create(data_dir: &Path) -> std::io::Result<Self> {
        let path = data_dir.join(KEY_FILE);
        match std::fs::read(&path) {
            Ok(bytes) => {
                let bytes = <[u8; 32]>::try_from(bytes.as_slice());
                bytes.map(Self).map_err(|_| {
                    std::io::Error::other(format!("{} does not hold 32 bytes", path.display()))
                })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mut bytes = [0; 32];
                getrandom::fill(&mut bytes)
                    .map_err(|error| std::io::Error::other(error.to_string()))?;
                let mut options = std::fs::OpenOptions::new();
                options.write(true).create_new(true);
                std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
                let mut file = options.open(&path)?;
                file.write_all(&bytes)?;
                file.sync_all()?;
                Ok(Self(bytes))
            }
            Err(error) => Err(error),
        }
    }

    /// A master key of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key called `name` of an endpoint.
    #[must_use]
    pub fn key(&self, project: &str, endpoint: &str, name: &str) -> SigningKey {
        // The parts cannot contain a zero byte, so no two endpoints share a text.
        let text = format!("tidegate webhook v1\0{project}\0{endpoint}\0{name}");
        SigningKey(hmac_sha256(&self.0, &[text.as_bytes()]))
    }
}

impl SigningKey {
    /// The secret as its receiver is given it: `whsec_` and base64.
    #[must_use]
    pub fn to_secret(&self) -> String {
        format!("whsec_{}", BASE64.encode(self.0))
    }

    /// The signature of one message: `v1,` and base64.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp_seconds: i64, body: &[u8]) -> String {
        signature(&self.0, id, timestamp_seconds, body)
    }
}

fn signature(key: &[u8], id: &str, timestamp_seconds: i64, body: &[u8]) -> String {
    let head = format!("{id}.{timestamp_seconds}.");
    let mac = hmac_sha256(key, &[head.as_bytes(), body]);
    format!("v1,{}", BASE64.encode(mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's `hmac`, as a receiver would.
    #[test]
    fn a_message_is_signed_as_its_receiver_checks_it() {
        let key: [u8; 32] = std::array::from_fn(|index| u8::try_from(index).unwrap());
        let key = SigningKey(key);
        assert_eq!(
            key.to_secret(),
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
        );
        let signed = key.sign("evt_1", 1_700_000_000, br#"{"type":"flag.update"}"#);
        assert_eq!(signed, "v1,vRYou6c4oZoJuRWxclqbCyYpf5rze32j9uadcauJS1Y=");
    }

    /// The example that the implementations of Standard Webhooks share.
    #[test]
    fn the_signature_agrees_with_the_published_example() {
        let key = BASE64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let body = br#"{"test": 2432232314}"#;
        let signed = signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn keys_differ_by_endpoint_and_name_and_come_back_from_the_same_file() {
        let folder = tempfile::tempdir().unwrap();
        let master = MasterKey::open_or_create(folder.path()).unwrap();
        let again = MasterKey::open_or_create(folder.path()).unwrap();
        let key = |master: &MasterKey, endpoint, name| master.key("p", endpoint, name).to_secret();
        assert_eq!(key(&master, "a", "1"), key(&again, "a", "1"));
        assert_ne!(key(&master, "a", "1"), key(&master, "a", "2"));
        assert_ne!(key(&master, "a", "1"), key(&master, "b", "1"));
        let mode = std::fs::metadata(folder.path().join(KEY_FILE))
            .unwrap()
            .permissions();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
            0o600
        );
        std::fs::write(folder.path().join(KEY_FILE), b"short").unwrap();
        assert!(MasterKey::open_or_create(folder.path()).is_err());
        assert!(!format!("{master:?}").contains(&key(&master, "a", "1")));
    }
}
