//! A body taken off the wire into memory that was reserved for it.
//!
//! A body that came as one piece is passed on as it is. Of a longer one a MiB is reserved at
//! first and four times as much whenever that is full, so that nobody holds room by announcing a
//! length and sending nothing; the announced length is where growing ends. Who stops sending, or
//! sends so slowly that it takes minutes, is sent away, and what it held is given back.

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError};
use hyper::body::Frame;

use super::room::Held;
use super::{BodyError, MIB};

/// How long a body is waited for.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// With nothing coming.
    stalled: Duration,
    /// For all of it.
    in_all: Duration,
}

const PATIENCE: Patience = Patience {
    stalled: Duration::from_secs(15),
    in_all: Duration::from_secs(120),
};

/// A body as it travelled, and the room it takes.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) bytes: Bytes,
    pub(super) held: Held,
}

impl Packed {
    /// A part of it, under the same reservation.
    pub(crate) fn map(self, part: impl FnOnce(Bytes) -> Bytes) -> Self {
        Self {
            bytes: part(self.bytes),
            held: self.held,
        }
    }
}

/// Takes a body of at most `limit` bytes into the room that `held` gets hold of.
///
/// # Errors
/// [`BodyError`].
pub(crate) async fn receive(
    held: Held,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<Packed, BodyError> {
    receive_within(PATIENCE, held, headers, body, limit).await
}

async fn receive_within(
    patience: Patience,
    held: Held,
    headers: &HeaderMap,
    body: Body,
    limit: usize,
) -> Result<Packed, BodyError> {
    let arriving = arriving(patience, held, headers, body, limit);
    let arrived = tokio::time::timeout(patience.in_all, arriving).await;
    arrived.map_err(|_| too_slow(patience.in_all))?
}

fn too_slow(limit: Duration) -> BodyError {
    BodyError::Broken {
        detail: format!("the rest of it did not come within {} s", limit.as_secs()),
    }
}

async fn arriving(
    patience: Patience,
    held: Held,
    headers: &HeaderMap,
    mut body: Body,
    limit: usize,
) -> Result<Packed, BodyError> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|text| {
        let length = text.to_str().ok()?.parse::<usize>().ok()?;
        Some(length.min(limit))
    });
    let mut whole = Whole {
        most: declared.unwrap_or(limit),
        held,
        first: Bytes::new(),
        bytes: Vec::new(),
    };
    while let Some(frame) = next_frame(patience, &mut body).await? {
        let frame = frame.map_err(|error| broken(&error, limit))?;
        let Ok(piece) = frame.into_data() else {
            continue;
        };
        if whole.len() + piece.len() > limit {
            return Err(BodyError::TooLarge { limit });
        }
        whole.push(piece)?;
        if body.is_end_stream() {
            break;
        }
    }
    Ok(whole.into_packed())
}

async fn next_frame(
    patience: Patience,
    body: &mut Body,
) -> Result<Option<Result<Frame<Bytes>, axum::Error>>, BodyError> {
    let frame = tokio::time::timeout(patience.stalled, body.frame()).await;
    frame.map_err(|_| too_slow(patience.stalled))
}

fn broken(error: &axum::Error, limit: usize) -> BodyError {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = cause {
        if inner.is::<LengthLimitError>() {
            return BodyError::TooLarge { limit };
        }
        cause = inner.source();
    }
    BodyError::Broken {
        detail: error.to_string(),
    }
}

/// What has arrived: one piece, or several copied together.
struct Whole {
    most: usize,
    held: Held,
    first: Bytes,
    bytes: Vec<u8>,
}

impl Whole {
    fn len(&self) -> usize {
        self.first.len() + self.bytes.len()
    }

    fn push(&mut self, piece: Bytes) -> Result<(), BodyError> {
        if self.len() == 0 {
            self.held.set(piece.len())?;
            self.first = piece;
            return Ok(());
        }
        let needed = self.len() + piece.len();
        let capacity = self.bytes.capacity();
        if needed > capacity {
            let wanted = capacity
                .saturating_mul(4)
                .max(MIB)
                .min(self.most)
                .max(needed);
            // Both stand in memory while one is copied to the other.
            self.held.set(self.first.len() + capacity + wanted)?;
            self.bytes.reserve_exact(wanted - self.bytes.len());
            self.held.set(wanted)?;
        }
        let first = std::mem::take(&mut self.first);
        self.bytes.extend_from_slice(&first);
        self.bytes.extend_from_slice(&piece);
        Ok(())
    }

    fn into_packed(self) -> Packed {
        let bytes = if self.bytes.is_empty() {
            self.first
        } else {
            self.bytes.into()
        };
        Packed {
            bytes,
            held: self.held,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::room::Room;
    use super::*;
    use futures_util::{StreamExt as _, stream};

    fn pieces(count: usize, bytes: usize) -> Body {
        let piece = move |index: usize| {
            let piece = vec![u8::try_from(index % 251).unwrap(); bytes];
            Ok::<_, std::io::Error>(Bytes::from(piece))
        };
        Body::from_stream(stream::iter((0..count).map(piece)))
    }

    #[tokio::test]
    async fn pieces_are_put_together_in_order() {
        let room = Room::of(8 * MIB, 1);
        for (count, bytes) in [(0, 0), (1, 10), (2, 10), (40, 70_000)] {
            let body = pieces(count, bytes);
            let packed = receive(room.hold("p"), &HeaderMap::new(), body, 4 * MIB).await;
            let packed = packed.unwrap().bytes;
            assert_eq!(packed.len(), count * bytes);
            let expected = (0..count).flat_map(|index| vec![u8::try_from(index).unwrap(); bytes]);
            assert!(packed.iter().copied().eq(expected), "{count} of {bytes}");
        }
    }

    #[tokio::test]
    async fn who_stops_sending_gives_the_room_back() {
        let (short, long) = (Duration::from_millis(5), Duration::from_secs(3_600));
        for (stalled, in_all) in [(short, long), (long, short)] {
            let room = Room::of(4 * MIB, 1);
            let piece = || Ok::<_, std::io::Error>(Bytes::from_static(b"a piece"));
            let two = stream::iter([piece(), piece()]);
            let body = Body::from_stream(two.chain(stream::pending()));
            let (patience, none) = (Patience { stalled, in_all }, HeaderMap::new());
            let slow = receive_within(patience, room.hold("p"), &none, body, MIB).await;
            assert!(matches!(slow, Err(BodyError::Broken { .. })), "{slow:?}");
            room.hold("p").set(3 * MIB).unwrap();
        }
    }

    #[tokio::test]
    async fn a_body_stops_at_its_limit_and_at_the_room_of_all() {
        let room = Room::of(2 * MIB, 1);
        let none = HeaderMap::new();
        let over = receive(room.hold("p"), &none, pieces(100, 10_000), 999_999).await;
        assert_eq!(over.unwrap_err(), BodyError::TooLarge { limit: 999_999 });
        let crowded = receive(room.hold("p"), &none, pieces(60, 100_000), 16 * MIB).await;
        assert_eq!(crowded.unwrap_err(), BodyError::Crowded);
        // Whatever they held was given back.
        room.hold("p").set(3 * MIB / 2).unwrap();
    }
}
