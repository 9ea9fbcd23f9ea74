//! Credentials the server presents to others, each tied to the one origin it is meant for.
//!
//! A source or hook is written by whoever may change definitions, and names a credential. If the
//! name alone decided, that person could have it sent anywhere; so a credential goes to its origin
//! and nowhere else. Values come from the server's configuration and are never stored, shown,
//! audited or logged.

use std::collections::BTreeMap;
use std::fmt;

use super::destination::Destination;

/// One credential.
#[derive(Clone)]
pub struct Credential {
    origin: String,
    header: String,
    value: String,
}

/// Why a credential cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCredential {
    /// The origin is no destination.
    #[error("its origin cannot be used: {0}")]
    Origin(#[from] super::destination::BadUrl),
    /// The header has a name that no header has, or one that is not the configurer's to set.
    #[error("{0:?} is no header for a credential")]
    Header(String),
    /// The value would end the header.
    #[error("its value must be 1 to 8192 visible characters")]
    Value,
}

impl Credential {
    /// A credential that is sent to `origin` in `header`.
    ///
    /// # Errors
    /// Which part cannot be used.
    pub fn new(origin: &str, header: &str, value: &str) -> Result<Self, BadCredential> {
        let origin = Destination::parse(origin)?.origin();
        let header = header.to_ascii_lowercase();
        let is_name = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let is_ours = ["host", "content-length", "transfer-encoding", "connection"];
        if !is_name(&header) || is_ours.contains(&header.as_str()) {
            return Err(BadCredential::Header(header));
        }
        let is_visible = value.bytes().all(|b| (b' '..=b'~').contains(&b));
        if value.is_empty() || value.len() > 8192 || !is_visible {
            return Err(BadCredential::Value);
        }
        Ok(Self {
            origin,
            header,
            value: value.to_owned(),
        })
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}: [redacted]", self.header, self.origin)
    }
}

/// Every configured credential, by name.
#[derive(Debug, Clone, Default)]
pub struct Credentials(BTreeMap<String, Credential>);

/// Why a request goes without the credential it names, which is not at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCredential {
    /// No such name is configured.
    #[error("no credential {0:?} is configured")]
    Unknown(String),
    /// The credential is meant for another origin.
    #[error("credential {name:?} is not meant for {origin}")]
    Elsewhere {
        /// Its name.
        name: String,
        /// Where it would have gone.
        origin: String,
    },
}

impl Credentials {
    /// These credentials.
    #[must_use]
    pub fn new(credentials: impl IntoIterator<Item = (String, Credential)>) -> Self {
        Self(credentials.into_iter().collect())
    }

    /// Header and value of a credential, if it is meant for this destination.
    ///
    /// # Errors
    /// It is unknown, or meant for somewhere else.
    pub(crate) fn header_for(
        &self,
        name: &str,
        destination: &Destination,
    ) -> Result<(String, String), NoCredential> {
        let found = self.0.get(name);
        let found = found.ok_or_else(|| NoCredential::Unknown(name.to_owned()))?;
        let origin = destination.origin();
        if found.origin != origin {
            let name = name.to_owned();
            return Err(NoCredential::Elsewhere { name, origin });
        }
        Ok((found.header.clone(), found.value.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_goes_to_its_origin_and_nowhere_else() {
        let credential = Credential::new(
            "https://Prometheus.internal:9090/x",
            "Authorization",
            "Bearer s3cr3t",
        );
        let credentials = Credentials::new([("prometheus".to_owned(), credential.unwrap())]);
        let header =
            |name: &str, url: &str| credentials.header_for(name, &Destination::parse(url).unwrap());
        let sent = header(
            "prometheus",
            "https://prometheus.internal:9090/api/v1/query?query=up",
        );
        assert_eq!(
            sent.unwrap(),
            ("authorization".to_owned(), "Bearer s3cr3t".to_owned())
        );
        for elsewhere in [
            "https://prometheus.internal/",
            "http://prometheus.internal:9090/",
            "https://evil.example:9090/",
        ] {
            assert!(header("prometheus", elsewhere).is_err(), "{elsewhere}");
        }
        assert!(header("other", "https://prometheus.internal:9090/").is_err());
        assert!(!format!("{credentials:?}").contains("s3cr3t"));
    }

    #[test]
    fn a_credential_that_could_break_the_request_is_refused() {
        for (header, value) in [
            ("host", "x"),
            ("content-length", "1"),
            ("a b", "x"),
            ("", "x"),
            ("authorization", ""),
            ("authorization", "a\r\nhost: b"),
        ] {
            assert!(
                Credential::new("https://a.example", header, value).is_err(),
                "{header}"
            );
        }
    }
}
