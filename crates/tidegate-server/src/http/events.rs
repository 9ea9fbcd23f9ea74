//! `POST /api/v1/events`: a JSON array or NDJSON, plain, gzip or zstd.
//!
//! The body limit holds for what travels, and again for what comes out of decompression, which is
//! read in pieces and abandoned at the limit: a bomb costs its fuse.

use std::io::{Read, Take};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::header::CONTENT_ENCODING;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::problem::Problem;
use super::sent_at::{arrival, source_of};
use crate::access::Principal;
use crate::app::{App, AppError};

/// The largest batch after decompression.
const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;

/// Takes a batch of events.
pub(crate) async fn ingest(
    State(app): State<App>,
    Extension(principal): Extension<Principal>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, AppError> {
    let batch = match plain(&headers, bytes)? {
        Some(batch) => batch,
        None => return Ok(Problem::too_large(MAX_BATCH_BYTES).into_response()),
    };
    let arrival = arrival(&headers, app.clock.now_us());
    let source = source_of(&headers);
    let ingested = app
        .events
        .ingest(principal.default_project(), &batch, arrival)
        .await?;
    let newest_us = ingested.batch.newest_us;
    app.operations
        .note_clock(&principal, source, arrival, newest_us);
    let all_refused = ingested.appended.accepted == 0
        && ingested.appended.duplicates == 0
        && ingested.batch.rejected_events > 0;
    let status = if all_refused {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::ACCEPTED
    };
    let answer = json!({
        "accepted": ingested.appended.accepted,
        "duplicates": ingested.appended.duplicates,
        "quarantined": ingested.batch.quarantined,
        "rejected": ingested.batch.rejected,
    });
    Ok((status, Json(answer)).into_response())
}

/// The batch as it was before it was encoded; `None` if it is over the limit.
fn plain(headers: &HeaderMap, bytes: Bytes) -> Result<Option<Bytes>, AppError> {
    let encoding = headers
        .get(CONTENT_ENCODING)
        .map(|value| value.to_str().unwrap_or("?"));
    let broken = |error: std::io::Error| {
        AppError::invalid(
            "",
            "broken-encoding",
            format!("the body does not decompress: {error}"),
        )
    };
    match encoding {
        None | Some("identity" | "") => Ok(Some(bytes)),
        Some("gzip") => bounded(flate2::read::MultiGzDecoder::new(&bytes[..])).map_err(broken),
        Some("zstd") => zstd::Decoder::new(&bytes[..])
            .and_then(bounded)
            .map_err(broken),
        Some(other) => Err(AppError::invalid(
            "",
            "unknown-encoding",
            format!("Content-Encoding {other:?} is not understood; use gzip, zstd or none"),
        )),
    }
}

fn bounded(reader: impl Read) -> std::io::Result<Option<Bytes>> {
    let mut limited: Take<_> = reader.take(MAX_BATCH_BYTES as u64 + 1);
    let mut plain = Vec::new();
    limited.read_to_end(&mut plain)?;
    Ok((plain.len() <= MAX_BATCH_BYTES).then(|| plain.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Bytes {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap().into()
    }

    fn with(encoding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(encoding))])
    }

    #[test]
    fn encodings_are_undone_within_the_limit() {
        let text = b"{\"a\":1}\n".repeat(1000);
        assert_eq!(plain(&with("gzip"), gzip(&text)).unwrap().unwrap(), text);
        let packed = zstd::encode_all(&text[..], 1).unwrap();
        assert_eq!(plain(&with("zstd"), packed.into()).unwrap().unwrap(), text);
        assert_eq!(
            plain(&HeaderMap::new(), Bytes::from(text.clone()))
                .unwrap()
                .unwrap(),
            text
        );
    }

    #[test]
    fn a_bomb_is_abandoned_at_the_limit_and_garbage_is_refused() {
        let bomb = gzip(&vec![b' '; 64 * 1024 * 1024]);
        assert!(bomb.len() < 1024 * 1024);
        assert_eq!(plain(&with("gzip"), bomb).unwrap(), None);
        for encoding in ["gzip", "zstd", "br"] {
            let outcome = plain(&with(encoding), Bytes::from_static(b"no such thing"));
            assert!(matches!(outcome, Err(AppError::Invalid(_))), "{encoding}");
        }
    }
}
