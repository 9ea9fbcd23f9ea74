//! Messages, servers and clients generated from `proto/`.
//!
//! The clients are generated too, because tests and benchmarks speak to the server as a stranger
//! would.

/// `flagd.evaluation.v1`.
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    reason = "generated from documented definitions"
)]
pub mod evaluation_v1 {
    tonic::include_proto!("flagd.evaluation.v1");
}

/// `flagd.evaluation.v2`.
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    reason = "generated from documented definitions"
)]
pub mod evaluation_v2 {
    tonic::include_proto!("flagd.evaluation.v2");
}

/// `flagd.sync.v1`.
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    reason = "generated from documented definitions"
)]
pub mod sync_v1 {
    tonic::include_proto!("flagd.sync.v1");
}
