//! Signed checkpoints: the statement "the chain had this hash at this place".
//!
//! The key is made at the first start and kept in a file of mode 0600 beside the database,
//! never in it: whoever can write rows cannot sign.
//! A checkpoint names its key by [`Checkpoint::key_id`], so that keys may be rotated and old
//! checkpoints still verify with the old public key.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::AuditHead;
use crate::{
    credential::random_bytes,
    digest::{Digest, Encoder, NotHex, from_hex, to_hex},
    durable,
};

const FILE_HEADER: &str = "tidegate ed25519 signing key v1";

/// Why there is no signing key.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The file cannot be read or written.
    #[error("signing key file: {0}")]
    Io(#[from] io::Error),
    /// Others may read the file.
    #[error(
        "signing key file has mode {mode:03o}; set it to 600, and rotate the key if others read it"
    )]
    Exposed {
        /// Mode found.
        mode: u32,
    },
    /// The file is something else.
    #[error(
        "signing key file is damaged: it must hold the line {FILE_HEADER:?} and 64 hexadecimal digits"
    )]
    Damaged,
    /// No random bytes for a new key.
    #[error("no signing key could be made: {0}")]
    NoEntropy(String),
}

/// A public key that verifies checkpoints; text form is 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// A key from its text form.
    pub fn parse(text: &str) -> Result<Self, NotHex> {
        let bytes = from_hex(text)?;
        VerifyingKey::from_bytes(&bytes)
            .map(Self)
            .map_err(|_| NotHex)
    }

    /// Name of the key in checkpoints: the first 16 digits of the SHA-256 of its bytes.
    pub fn id(&self) -> String {
        to_hex(&Digest::of(self.0.as_bytes()).0[..8])
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&to_hex(self.0.as_bytes()))
    }
}

/// A signed statement about the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Sequence of the entry it is about.
    pub sequence: u64,
    /// Epoch of that entry.
    pub epoch: u64,
    /// Hash of that entry.
    pub hash: Digest,
    /// When it was signed, microseconds since the Unix epoch.
    pub signed_at: i64,
    /// Name of the key.
    pub key_id: String,
    /// Ed25519 signature over [`Checkpoint::message`].
    pub signature: [u8; 64],
}

impl Checkpoint {
    /// The 32 bytes that are signed.
    pub fn message(&self) -> Digest {
        Encoder::new("tidegate.audit.checkpoint.v1")
            .number(self.sequence)
            .number(self.epoch)
            .bytes(&self.hash.0)
            .signed(self.signed_at)
            .text(&self.key_id)
            .finish()
    }

    /// Whether `key` signed it.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let signature = Signature::from_bytes(&self.signature);
        key.id() == self.key_id && key.0.verify_strict(&self.message().0, &signature).is_ok()
    }
}

/// Signs checkpoints.
pub struct CheckpointSigner(SigningKey);

impl CheckpointSigner {
    /// Reads the key, or makes one and has it on disk before returning.
    pub fn open_or_create(path: &Path) -> Result<Self, SignerError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::check(path, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(error.into()),
        }
    }

    /// The key that others verify with; publish it.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs the statement that the chain has this head.
    pub fn sign(&self, head: &AuditHead, now_us: i64) -> Checkpoint {
        let mut checkpoint = Checkpoint {
            sequence: head.sequence,
            epoch: head.epoch,
            hash: head.hash,
            signed_at: now_us,
            key_id: self.public_key().id(),
            signature: [0; 64],
        };
        checkpoint.signature = self.0.sign(&checkpoint.message().0).to_bytes();
        checkpoint
    }

    fn check(path: &Path, text: &str) -> Result<Self, SignerError> {
        let mode = fs::metadata(path)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(SignerError::Exposed { mode });
        }
        let mut lines = text.lines();
        let (Some(FILE_HEADER), Some(digits), None) = (lines.next(), lines.next(), lines.next())
        else {
            return Err(SignerError::Damaged);
        };
        let seed = from_hex(digits).map_err(|_| SignerError::Damaged)?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    fn create(path: &Path) -> Result<Self, SignerError> {
        let mut seed = [0; 32];
        random_bytes(&mut seed).map_err(|error| SignerError::NoEntropy(error.to_string()))?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(format!("{FILE_HEADER}\n{}\n", to_hex(&seed)).as_bytes())?;
        file.sync_all()?;
        durable::sync_parent(path)?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }
}

impl std::fmt::Debug for CheckpointSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CheckpointSigner")
            .field(&self.public_key().id())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> AuditHead {
        AuditHead {
            sequence: 7,
            epoch: 1,
            hash: Digest::of(b"head"),
        }
    }

    #[test]
    fn the_key_survives_a_restart_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.key");
        let first = CheckpointSigner::open_or_create(&path).unwrap();
        let second = CheckpointSigner::open_or_create(&path).unwrap();
        assert_eq!(first.public_key(), second.public_key());
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let text = first.public_key().to_string();
        assert_eq!(PublicKey::parse(&text), Ok(first.public_key()));
    }

    #[test]
    fn an_exposed_or_damaged_key_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.key");
        CheckpointSigner::open_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = CheckpointSigner::open_or_create(&path);
        assert!(matches!(refused, Err(SignerError::Exposed { mode: 0o640 })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, format!("{FILE_HEADER}\nabc\n")).unwrap();
        assert!(matches!(
            CheckpointSigner::open_or_create(&path),
            Err(SignerError::Damaged)
        ));
    }

    #[test]
    fn every_field_is_signed() {
        let dir = tempfile::tempdir().unwrap();
        let signer = CheckpointSigner::open_or_create(&dir.path().join("a")).unwrap();
        let other = CheckpointSigner::open_or_create(&dir.path().join("b")).unwrap();
        let good = signer.sign(&head(), 5);
        assert!(good.is_signed_by(&signer.public_key()));
        assert!(!good.is_signed_by(&other.public_key()));
        let altered = [
            Checkpoint {
                sequence: 8,
                ..good.clone()
            },
            Checkpoint {
                epoch: 2,
                ..good.clone()
            },
            Checkpoint {
                hash: Digest::ZERO,
                ..good.clone()
            },
            Checkpoint {
                signed_at: 6,
                ..good.clone()
            },
            Checkpoint {
                key_id: other.public_key().id(),
                ..good.clone()
            },
        ];
        for bad in altered {
            assert!(!bad.is_signed_by(&signer.public_key()), "{bad:?}");
        }
    }
}
