//! Files and standard input, read up to a limit.

use std::fs::File;
use std::io::{BufReader, Read};

use super::Refusal;

/// A reader of the file, or of standard input for `-`.
pub(crate) fn open(path: &str) -> Result<Box<dyn Read>, Refusal> {
    if path == "-" {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    let file = File::open(path).map_err(|error| Refusal::Data(format!("{path}: {error}")))?;
    Ok(Box::new(BufReader::new(file)))
}

/// The whole input, refused when longer than `bytes_max`.
pub(crate) fn read_limited(path: &str, bytes_max: u64) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    open(path)?
        .take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Refusal::Data(format!("{path}: {error}")))?;
    if bytes.len() as u64 > bytes_max {
        return Err(Refusal::Data(format!(
            "{path}: longer than {bytes_max} bytes"
        )));
    }
    Ok(bytes)
}
