//! Compiles the protocol definitions in `proto/` without needing `protoc` on the machine.

use std::error::Error;
use std::path::Path;

const DEFINITIONS: [&str; 3] = [
    "flagd/evaluation/v1/evaluation.proto",
    "flagd/evaluation/v2/evaluation.proto",
    "flagd/sync/v1/sync.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    println!("cargo:rerun-if-changed={}", folder.display());
    let definitions = protox::compile(DEFINITIONS, [&folder])?;
    tonic_prost_build::configure()
        .codec_path("crate::grpc::codec::StrictCodec")
        .compile_fds(definitions)?;
    Ok(())
}
