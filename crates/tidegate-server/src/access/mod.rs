//! Who may do what: credentials in, a [`Principal`] out, one flat table between.
//!
//! Decides from memory alone: the token book is a snapshot that the reconciler swaps, so an
//! evaluation never waits for storage to learn whether its caller is allowed.
//! Deny by default: a permission that the table does not grant is refused, and a route that
//! declares no permission cannot be built (see [`crate::http::routes`]).

mod book;
mod permission;
mod principal;

pub use book::{AccessBook, BookEntry, Refusal};
pub use permission::{Permission, PermissionSet, Role};
pub use principal::{Principal, PrincipalKind};
