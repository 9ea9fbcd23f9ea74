//! Edges and use cases: HTTP, gRPC, sign-in, reconcilers.
