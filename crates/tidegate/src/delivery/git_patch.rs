//! The identity of what a commit changes: the same lines taken out and put in, in the same files.
//!
//! Unlike `git patch-id` it needs no alignment of lines: of each changed file the lines that are in one version and
//! not in the other (as multisets, white space apart) are sorted and hashed. So it does not depend on where in a file
//! a change stands, nor on what surrounds it, which is what a cherry-pick onto another branch changes.
//! It is worked out for the few commits that may be copies at all, and is absent where an object is missing, a file is
//! larger than 4 MiB or a commit changes more than 2,000 files: those commits then count as changes of their own.
//!
//! Must not know: which commits are copies, and the log.

use std::collections::BTreeMap;

use gix::objs::{CommitRef, Find, Kind, TreeRefIter};
use gix::{ObjectId, Repository};
use rustc_hash::FxHashMap;
use tidegate_delivery::commit_graph::CommitId;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::git_reader::object_id;

const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;
const MAX_FILES: usize = 2000;
const MAX_DEPTH: usize = 64;

/// The identity of a commit with one parent; `None` where it cannot be known or nothing is changed.
pub(super) fn patch_id(repository: &Repository, commit: CommitId) -> Option<String> {
    let (tree, parent) = tree_and_parent(repository, object_id(commit))?;
    let (before, _) = tree_and_parent(repository, parent?)?;
    let mut files = Vec::new();
    changed_files(repository, (Some(before), Some(tree)), "", 0, &mut files)?;
    if files.is_empty() {
        return None;
    }
    let mut whole = Xxh3::new();
    for (path, before, after) in files {
        whole.update(path.as_bytes());
        whole.update(&[0]);
        whole.update(&change_of(repository, before, after)?.to_le_bytes());
    }
    Some(format!("{:032x}", whole.digest128()))
}

type Versions = (Option<ObjectId>, Option<ObjectId>);
type ChangedFile = (String, Option<ObjectId>, Option<ObjectId>);

fn tree_and_parent(
    repository: &Repository,
    commit: ObjectId,
) -> Option<(ObjectId, Option<ObjectId>)> {
    let mut buffer = Vec::new();
    let data = repository.objects.try_find(&commit, &mut buffer).ok()??;
    if data.kind != Kind::Commit {
        return None;
    }
    let parsed = CommitRef::from_bytes(data.data, commit.kind()).ok()?;
    Some((parsed.tree(), parsed.parents().next()))
}

/// Files that differ between two trees, by path.
fn changed_files(
    repository: &Repository,
    (before, after): Versions,
    folder: &str,
    depth: usize,
    found: &mut Vec<ChangedFile>,
) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    let (before, after) = (entries(repository, before)?, entries(repository, after)?);
    let mut names: Vec<&Vec<u8>> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let (old, new) = (before.get(name), after.get(name));
        if old == new {
            continue;
        }
        let path = format!("{folder}/{}", String::from_utf8_lossy(name));
        let part = |wanted: bool| {
            let of = |entry: Option<&Entry>| {
                entry
                    .filter(|entry| entry.is_tree == wanted)
                    .map(|entry| entry.id)
            };
            (of(old), of(new))
        };
        let (trees, blobs) = (part(true), part(false));
        if trees != (None, None) {
            changed_files(repository, trees, &path, depth + 1, found)?;
        }
        if blobs != (None, None) {
            found.push((path, blobs.0, blobs.1));
        }
        if found.len() > MAX_FILES {
            return None;
        }
    }
    Some(())
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    id: ObjectId,
    is_tree: bool,
}

fn entries(repository: &Repository, tree: Option<ObjectId>) -> Option<BTreeMap<Vec<u8>, Entry>> {
    let Some(tree) = tree else {
        return Some(BTreeMap::new());
    };
    let mut buffer = Vec::new();
    let data = repository.objects.try_find(&tree, &mut buffer).ok()??;
    if data.kind != Kind::Tree {
        return None;
    }
    let entry = |entry: gix::objs::tree::EntryRef<'_>| {
        // A submodule names a commit elsewhere; its id alone says what changed.
        let value = Entry {
            id: entry.oid.to_owned(),
            is_tree: entry.mode.is_tree(),
        };
        (entry.filename.to_vec(), value)
    };
    let read = TreeRefIter::from_bytes(data.data, tree.kind());
    read.map(|found| found.ok().map(entry)).collect()
}

/// What is taken out of and put into one file.
fn change_of(
    repository: &Repository,
    before: Option<ObjectId>,
    after: Option<ObjectId>,
) -> Option<u64> {
    let mut balance: FxHashMap<u64, i64> = FxHashMap::default();
    for (version, sign) in [(before, -1), (after, 1)] {
        let Some(id) = version else { continue };
        let mut buffer = Vec::new();
        let data = repository.objects.try_find(&id, &mut buffer).ok()??;
        if data.kind != Kind::Blob || data.data.len() > MAX_FILE_BYTES {
            return None;
        }
        for line in data.data.split(|&byte| byte == b'\n') {
            let bare: Vec<u8> = line
                .iter()
                .copied()
                .filter(|byte| !byte.is_ascii_whitespace())
                .collect();
            *balance.entry(xxh3_64(&bare)).or_default() += sign;
        }
    }
    let mut changed: Vec<(u64, i64)> = balance.into_iter().filter(|&(_, n)| n != 0).collect();
    changed.sort_unstable();
    let mut hash = Xxh3::new();
    for (line, times) in changed {
        hash.update(&line.to_le_bytes());
        hash.update(&times.to_le_bytes());
    }
    Some(hash.digest())
}
