//! A connection that costs no more than it is used.
//!
//! Two kinds of peer hold a connection without using it: those that never send a request, and
//! those that never read the answer. The first is cut when its first bytes do not come in time,
//! the second when it takes no byte for a while although some wait for it. A peer that is merely
//! quiet, as every event stream is, is left alone.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::Limits;

/// Enough bytes to tell HTTP/2 from HTTP/1: the length of HTTP/2's preface.
const ENOUGH: usize = 24;

/// An I/O stream under the two deadlines.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    inner: S,
    opening: Option<Opening>,
    stall_limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
struct Opening {
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl<S> Guarded<S> {
    pub(super) fn new(inner: S, limits: &Limits) -> Self {
        let deadline = Box::pin(sleep(limits.first_bytes));
        Self {
            inner,
            opening: Some(Opening {
                missing: ENOUGH,
                deadline,
            }),
            stall_limit: limits.stalled_write,
            stalled: None,
        }
    }

    /// Notes the outcome of a write: progress disarms the deadline, waiting arms it.
    fn watched<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            self.opening = None;
            return outcome;
        }
        let limit = self.stall_limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limit)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(timed_out("the peer does not read"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn timed_out(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, reason)
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut this.inner).poll_read(context, buffer);
        let Some(opening) = &mut this.opening else {
            return outcome;
        };
        if outcome.is_ready() {
            opening.missing = opening
                .missing
                .saturating_sub(buffer.filled().len() - before);
            if opening.missing == 0 {
                this.opening = None;
            }
            return outcome;
        }
        match opening.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(timed_out("no request came"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.watched(context, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write_vectored(context, slices);
        this.watched(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    fn limits(first_bytes: u64, stalled_write: u64) -> Limits {
        Limits {
            first_bytes: Duration::from_millis(first_bytes),
            stalled_write: Duration::from_millis(stalled_write),
            ..Limits::default()
        }
    }

    #[tokio::test]
    async fn a_peer_that_sends_nothing_or_only_a_little_is_cut() {
        for sent in [&b""[..], b"PRI * HTTP/2"] {
            let (near, mut far) = duplex(1024);
            let mut guarded = Guarded::new(near, &limits(5, 60_000));
            far.write_all(sent).await.unwrap();
            let mut read = Vec::new();
            let error = guarded.read_to_end(&mut read).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(read, sent);
        }
    }

    #[tokio::test]
    async fn a_peer_that_sent_its_request_may_be_quiet_for_ever() {
        let (near, mut far) = duplex(1024);
        let mut guarded = Guarded::new(near, &limits(1, 60_000));
        far.write_all(&[b'x'; ENOUGH]).await.unwrap();
        guarded.read_exact(&mut [0; ENOUGH]).await.unwrap();
        assert!(guarded.opening.is_none(), "no deadline is left");
        let quiet = tokio::time::timeout(Duration::from_millis(20), guarded.read_u8()).await;
        assert!(
            quiet.is_err(),
            "still waiting after twenty times the deadline"
        );
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_cut() {
        let (near, _far) = duplex(8);
        let mut guarded = Guarded::new(near, &limits(60_000, 5));
        let error = guarded.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_peer_that_reads_slowly_starts_the_deadline_anew_with_each_byte() {
        let (near, mut far) = duplex(8);
        let mut guarded = Guarded::new(near, &limits(60_000, 60_000));
        guarded.write_all(&[0; 8]).await.unwrap();
        let mut waiting = std::pin::pin!(guarded.write(&[0; 8]));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        far.read_exact(&mut [0; 1]).await.unwrap();
        assert_eq!(waiting.await.unwrap(), 1);
        assert!(guarded.stalled.is_none(), "progress took the deadline away");
    }
}
