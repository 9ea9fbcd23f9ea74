//! How many connections the limit of open files leaves room for.
//!
//! Where descriptors run out, nothing can be opened any more: no file of the store, no log, no
//! stop. So some are kept for the house, and connections get the rest. Machines start programs
//! with a low limit that each may raise up to a hard one; it is raised as far as connections need.

/// What the store, the logs, their rotation and a backup have open at a time, with room to spare.
const OF_THE_HOUSE: usize = 96;

/// The fewest connections that are taken, however small the limit.
const FEWEST: usize = 8;

/// How many connections to take, at most `wanted`, beside a reserve of `reserve`.
pub(super) fn for_connections(wanted: usize, reserve: usize) -> usize {
    let kept = OF_THE_HOUSE + reserve;
    let needed = u64::try_from(wanted + kept).unwrap_or(u64::MAX);
    match rlimit::increase_nofile_limit(needed) {
        Ok(files) => within(files, wanted, kept),
        Err(error) => {
            tracing::warn!(%error, "the limit of open files is not known; connections may exhaust it");
            wanted
        }
    }
}

/// At most `wanted` of `files`, with `kept` left over.
fn within(files: u64, wanted: usize, kept: usize) -> usize {
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    files.saturating_sub(kept).clamp(FEWEST.min(wanted), wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_house_keeps_its_descriptors_and_a_few_connections_are_always_taken() {
        let cases = [
            (u64::MAX, 20_000, 20_000),
            (20_112, 20_000, 20_000),
            (1_024, 20_000, 912),
            (160, 20_000, 48),
            (50, 20_000, FEWEST),
            (0, 3, 3),
        ];
        for (files, wanted, expected) in cases {
            assert_eq!(within(files, wanted, 112), expected, "{files} files");
        }
    }
}
