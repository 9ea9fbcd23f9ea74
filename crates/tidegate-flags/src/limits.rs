//! What an input may cost, checked before or while it is read.
//!
//! Every limit has a default that a large installation does not reach and that a
//! hostile input cannot turn into memory or time. The edges pass the same value to
//! every entrance, so that "too large" means one thing everywhere.

/// Ceilings on definitions, contexts and evaluation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one flag document.
    pub document_bytes: usize,
    /// Bytes of one evaluation context.
    pub context_bytes: usize,
    /// Nesting levels of arrays and objects, in documents and contexts.
    pub depth: usize,
    /// Object keys plus array items in one evaluation context.
    pub context_items: usize,
    /// Flags in one set.
    pub flags: usize,
    /// Variants of one flag.
    pub variants: usize,
    /// Rules of one flag.
    pub rules: usize,
    /// Targeting keys listed by one rule or one segment.
    pub units: usize,
    /// Bytes of a flag key, variant name, rule id or segment key.
    pub key_bytes: usize,
    /// Length of the longest chain of prerequisites.
    pub prerequisite_depth: usize,
    /// Bytes of JSON that one flag's prerequisites may add to it.
    pub inlined_bytes: usize,
    /// Bytes of JSON that prerequisites may add to a whole set.
    pub inlined_bytes_total: usize,
    /// JSON nodes of one flag's targeting after references, segments and
    /// prerequisites are inlined.
    pub program_nodes: usize,
    /// JSON nodes of a whole set after inlining.
    pub program_nodes_total: usize,
    /// Work units of one evaluation: a visited node, a copied byte or an array item
    /// is one each. An evaluation past it answers ERROR / GENERAL.
    pub evaluation_steps: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            document_bytes: 16 << 20,
            context_bytes: 256 << 10,
            depth: 64,
            context_items: 10_000,
            flags: 50_000,
            variants: 1_000,
            rules: 1_000,
            units: 100_000,
            key_bytes: 256,
            prerequisite_depth: 8,
            inlined_bytes: 256 << 10,
            inlined_bytes_total: 16 << 20,
            program_nodes: 250_000,
            program_nodes_total: 4_000_000,
            evaluation_steps: 200_000,
        }
    }
}
