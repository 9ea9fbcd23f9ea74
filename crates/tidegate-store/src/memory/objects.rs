//! Projects and objects in the reference model.

use async_trait::async_trait;

use super::{EPOCH, MemoryStore, Place, Remembered, State, Waiting};
use crate::{
    audit::{AuditDraft, AuditObject},
    digest::Digest,
    error::{StoreError, StoreResult},
    key::{ObjectKey, ProjectKey},
    object::{
        CHANGES_PER_COMMIT_MAX, Committed, ConfigVersion, Expected, ObjectChange, ObjectKind,
        ObjectPage, Snapshot, StoredObject, Write, json_text,
    },
    outbox::{OutboxMessage, OutboxRow},
    project::{Project, ProjectPut},
    store::{ObjectStore, PAGE_LIMIT_MAX},
};

impl State {
    fn commit(&mut self, change: &ObjectChange) -> StoreResult<Committed> {
        let request = (
            change.kind,
            change.key.as_str().to_owned(),
            change.write.clone(),
        );
        let memory_key = change
            .idempotency_key
            .clone()
            .map(|key| (change.project.clone(), key));
        if let Some(first) = memory_key.as_ref().and_then(|key| self.remembered.get(key)) {
            if first.request == request {
                return Ok(first.result);
            }
            return Err(StoreError::invalid(
                "idempotency_key",
                "it was used for another change",
            ));
        }
        let project = self.project(&change.project)?;
        project.config_version += 1;
        let config_version = project.config_version;
        let audit_sequence = self.write(change)?;
        let place = place(&change.project, change.kind, &change.key);
        let revision = self.objects[&place]
            .last()
            .map_or(0, |newest| newest.revision);
        self.send(&change.project, &change.outbox, change.now_us);
        let result = Committed {
            revision,
            config_version,
            epoch: EPOCH,
            audit_sequence,
        };
        if let Some(key) = memory_key {
            self.remembered.insert(
                key,
                Remembered {
                    request,
                    result,
                    at_us: change.now_us,
                },
            );
        }
        Ok(result)
    }

    /// Adds a revision to the history and an entry to the audit.
    fn write(&mut self, change: &ObjectChange) -> StoreResult<u64> {
        let history = self
            .objects
            .entry(place(&change.project, change.kind, &change.key))
            .or_default();
        let newest = history.last().cloned();
        let live = newest.clone().filter(|newest| !newest.deleted);
        let verb = permitted(newest.as_ref(), change)?;
        let spec = match &change.write {
            Write::Put(spec) | Write::Revive(spec) => Some(spec.clone()),
            Write::Delete => None,
        };
        let digest = |spec| Digest::of(json_text(spec).as_bytes());
        let before = live.as_ref().map(|live| digest(&live.spec));
        let after = spec.as_ref().map(digest);
        let revision = newest.as_ref().map_or(0, |newest| newest.revision) + 1;
        history.push(StoredObject {
            project: change.project.clone(),
            kind: change.kind,
            key: change.key.clone(),
            revision,
            deleted: spec.is_none(),
            spec: spec.or(live.map(|live| live.spec)).unwrap_or_default(),
            created_at: newest.map_or(change.now_us, |newest| newest.created_at),
            updated_at: change.now_us,
            updated_by: change.actor.clone(),
        });
        let action = change
            .action
            .clone()
            .unwrap_or_else(|| format!("{}.{verb}", change.kind));
        let audited = self.audit(AuditDraft {
            project: Some(change.project.clone()),
            actor: change.actor.clone(),
            action,
            object: Some(AuditObject::new(change.kind.as_str(), change.key.as_str())),
            revision: Some(revision),
            before,
            after,
            reason: change.reason.clone(),
            changes: change.changes.clone(),
            now_us: change.now_us,
        })?;
        Ok(audited.sequence)
    }

    pub(super) fn send(&mut self, project: &ProjectKey, messages: &[OutboxMessage], now_us: i64) {
        for message in messages {
            self.last_message += 1;
            let row = OutboxRow {
                id: self.last_message,
                project: project.clone(),
                topic: message.topic.clone(),
                payload: message.payload.clone(),
                created_at: now_us,
                attempts: 0,
                last_error: None,
            };
            let waiting = Waiting {
                row,
                due_at: now_us,
                is_dead: false,
            };
            self.outbox.insert(self.last_message, waiting);
        }
    }

    fn live(&self, project: &ProjectKey, kind: ObjectKind) -> Vec<StoredObject> {
        self.objects
            .iter()
            .filter(|((p, k, _), _)| p == project && *k == kind)
            .filter_map(|(_, history)| history.last().filter(|newest| !newest.deleted))
            .cloned()
            .collect()
    }
}

/// The table of `object`, read row by row: first what the write needs to be there, then what
/// the writer believes.
fn permitted(newest: Option<&StoredObject>, change: &ObjectChange) -> StoreResult<&'static str> {
    let what = format!("{} {}", change.kind, change.key);
    let Some(newest) = newest else {
        let creates = change.expected == Expected::Absent && matches!(change.write, Write::Put(_));
        return if creates {
            Ok("create")
        } else {
            Err(StoreError::NotFound { what })
        };
    };
    let current = newest.revision;
    let wants_tombstone = matches!(change.write, Write::Revive(_));
    if newest.deleted && !wants_tombstone {
        return Err(StoreError::Tombstoned {
            what,
            revision: current,
        });
    }
    if change.expected == Expected::Absent || (!newest.deleted && wants_tombstone) {
        return Err(StoreError::Exists { what, current });
    }
    if let Expected::Revision(believed) = change.expected
        && believed != current
    {
        return Err(StoreError::Stale { current });
    }
    Ok(match change.write {
        Write::Put(_) => "update",
        Write::Delete => "delete",
        Write::Revive(_) => "revive",
    })
}

fn place(project: &ProjectKey, kind: ObjectKind, key: &ObjectKey) -> Place {
    (project.clone(), kind, key.as_str().to_owned())
}

fn clamp(limit: u32) -> usize {
    usize::try_from(limit.min(PAGE_LIMIT_MAX)).unwrap_or(usize::MAX)
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn project_put(&self, put: ProjectPut) -> StoreResult<Committed> {
        put.validate()?;
        self.transact(|state| {
            let current = state.projects.get(&put.key).cloned();
            let revision = current.as_ref().map_or(0, |project| project.revision) + 1;
            let action = match (&current, put.expected) {
                (None, Expected::Absent) => "project.create",
                (None, _) => return Err(StoreError::not_found(format!("project {}", put.key))),
                (Some(found), Expected::Absent) => {
                    let what = format!("project {}", put.key);
                    return Err(StoreError::Exists {
                        what,
                        current: found.revision,
                    });
                }
                (Some(found), Expected::Revision(n)) if n != found.revision => {
                    return Err(StoreError::Stale {
                        current: found.revision,
                    });
                }
                (Some(_), _) => "project.rename",
            };
            let config_version = current.as_ref().map_or(0, |project| project.config_version);
            let project = Project {
                key: put.key.clone(),
                name: put.name,
                revision,
                config_version,
                created_at: current.map_or(put.by.now_us, |project| project.created_at),
                updated_at: put.by.now_us,
            };
            state.projects.insert(put.key.clone(), project);
            let object = AuditObject::new("project", put.key.as_str());
            let mut draft = AuditDraft::new(action, Some(object), &put.by);
            draft.project = Some(put.key);
            draft.revision = Some(revision);
            let audit_sequence = state.audit(draft)?.sequence;
            Ok(Committed {
                revision,
                config_version,
                epoch: EPOCH,
                audit_sequence,
            })
        })
    }

    async fn project_get(&self, project: &ProjectKey) -> StoreResult<Option<Project>> {
        Ok(self.state().projects.get(project).cloned())
    }

    async fn project_list(&self) -> StoreResult<Vec<Project>> {
        Ok(self.state().projects.values().cloned().collect())
    }

    async fn object_commit(&self, change: ObjectChange) -> StoreResult<Committed> {
        change.validate()?;
        self.transact(|state| state.commit(&change))
    }

    async fn objects_commit(&self, changes: Vec<ObjectChange>) -> StoreResult<Vec<Committed>> {
        if changes.len() > CHANGES_PER_COMMIT_MAX {
            return Err(StoreError::invalid("changes", "too many"));
        }
        changes.iter().try_for_each(ObjectChange::validate)?;
        self.transact(|state| changes.iter().map(|change| state.commit(change)).collect())
    }

    async fn idempotency_find(
        &self,
        project: &ProjectKey,
        key: &str,
    ) -> StoreResult<Option<Committed>> {
        let place = (project.clone(), key.to_owned());
        Ok(self
            .state()
            .remembered
            .get(&place)
            .map(|remembered| remembered.result))
    }

    async fn object_get(
        &self,
        project: &ProjectKey,
        kind: ObjectKind,
        key: &ObjectKey,
    ) -> StoreResult<Option<StoredObject>> {
        let state = self.state();
        let history = state.objects.get(&place(project, kind, key));
        Ok(history.and_then(|history| history.last()).cloned())
    }

    async fn object_list(
        &self,
        project: &ProjectKey,
        kind: ObjectKind,
        after_key: Option<&ObjectKey>,
        limit: u32,
    ) -> StoreResult<ObjectPage> {
        let mut objects = self.state().live(project, kind);
        objects.retain(|object| after_key.is_none_or(|after| object.key > *after));
        objects.truncate(clamp(limit));
        let next_after = objects.last().map(|last| last.key.clone());
        let next_after = next_after.filter(|_| objects.len() == clamp(limit));
        Ok(ObjectPage {
            objects,
            quarantined: Vec::new(),
            next_after,
        })
    }

    async fn object_history(
        &self,
        project: &ProjectKey,
        kind: ObjectKind,
        key: &ObjectKey,
        limit: u32,
    ) -> StoreResult<Vec<StoredObject>> {
        let state = self.state();
        let history = state.objects.get(&place(project, kind, key));
        let newest_first = history.into_iter().flatten().rev();
        Ok(newest_first.take(clamp(limit)).cloned().collect())
    }

    async fn config_snapshot(&self, project: &ProjectKey) -> StoreResult<Snapshot> {
        let mut state = self.state();
        let config_version = state.project(project)?.config_version;
        Ok(Snapshot {
            config_version,
            epoch: EPOCH,
            flags: state.live(project, ObjectKind::Flag),
            segments: state.live(project, ObjectKind::Segment),
            sets: state.live(project, ObjectKind::Set),
            quarantined: Vec::new(),
        })
    }

    async fn config_version(&self, project: &ProjectKey) -> StoreResult<ConfigVersion> {
        let version = self.state().project(project)?.config_version;
        Ok(ConfigVersion {
            epoch: EPOCH,
            version,
        })
    }
}
