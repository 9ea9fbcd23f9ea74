//! Control-plane state: objects with revisions, audit chain, outbox, tokens, users.
