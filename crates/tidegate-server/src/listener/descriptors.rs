//! How many connections the limit of open files leaves room for.
//!
//! Where descriptors run out, nothing can be opened any more: no file of the store, no log, no
//! stop. So some are kept for the house, and connections get the rest. Read where the kernel
//! shows it; elsewhere the ordinary limit stands.

/// What the store, the logs, their rotation and a backup have open at a time, with room to spare.
const OF_THE_HOUSE: usize = 96;

/// The fewest connections that are taken, however small the limit.
const FEWEST: usize = 8;

/// How many connections to take, at most `wanted`, beside a reserve of `reserve`.
pub(super) fn for_connections(wanted: usize, reserve: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    match open_files(&limits) {
        Some(files) => wanted
            .min(files.saturating_sub(OF_THE_HOUSE + reserve))
            .max(FEWEST),
        None => wanted,
    }
}

/// The soft limit in the kernel's table; `None` where there is none.
fn open_files(limits: &str) -> Option<usize> {
    let row = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    row.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read_from_the_kernels_table() {
        let table = "Limit                     Soft Limit           Hard Limit           Units\n\
                     Max processes             7823                 7823                 processes\n\
                     Max open files            1024                 524288               files\n";
        assert_eq!(open_files(table), Some(1024));
        let unlimited = "Max open files            unlimited            unlimited            files";
        assert_eq!(open_files(unlimited), None);
        assert_eq!(open_files(""), None);
    }
}
