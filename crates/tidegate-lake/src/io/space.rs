//! How full a disk is, and how loudly that is to be said.

use serde::Serialize;
use std::io;
use std::path::Path;

/// Room on the disk that holds a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes the disk holds in all, as far as we may use them.
    pub bytes: u64,
    /// Bytes still free for us.
    pub available_bytes: u64,
}

/// How urgent it is to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskAlert {
    /// Below 80 % used.
    None,
    /// From 80 %: plan for more room.
    Notice,
    /// From 90 %: make room soon.
    Warning,
    /// From 95 %: events will be refused when only the reserve is left.
    Critical,
}

impl DiskSpace {
    /// The disk under a directory.
    ///
    /// # Errors
    /// As the operating system reports them.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let room = rustix::fs::statvfs(dir)?;
        let blocks = |count: u64| count.saturating_mul(room.f_frsize);
        let used = blocks(room.f_blocks.saturating_sub(room.f_bfree));
        let available_bytes = blocks(room.f_bavail);
        Ok(Self {
            bytes: used.saturating_add(available_bytes),
            available_bytes,
        })
    }

    /// Share in use, in whole per cent.
    #[must_use]
    pub fn used_percent(&self) -> u64 {
        let used = self.bytes.saturating_sub(self.available_bytes);
        let percent = u128::from(used) * 100 / u128::from(self.bytes.max(1));
        u64::try_from(percent).unwrap_or(100)
    }

    /// How urgent it is.
    #[must_use]
    pub fn alert(&self) -> DiskAlert {
        match self.used_percent() {
            95.. => DiskAlert::Critical,
            90.. => DiskAlert::Warning,
            80.. => DiskAlert::Notice,
            _ => DiskAlert::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_begin_at_80_90_and_95_per_cent() {
        let alert = |used: u64| {
            let space = DiskSpace {
                bytes: 100,
                available_bytes: 100 - used,
            };
            space.alert()
        };
        let found: Vec<_> = [0, 79, 80, 89, 90, 94, 95, 100].map(alert).into();
        use DiskAlert::{Critical, None, Notice, Warning};
        assert_eq!(
            found,
            [
                None, None, Notice, Notice, Warning, Warning, Critical, Critical
            ]
        );
        let nothing = DiskSpace {
            bytes: 0,
            available_bytes: 0,
        };
        assert_eq!(nothing.used_percent(), 0);
        let here = DiskSpace::of(Path::new(".")).unwrap();
        assert!(here.bytes >= here.available_bytes);
    }
}
