//! Tokens, people, sign-ins and links in the reference model.

use async_trait::async_trait;

use super::{MemoryStore, State};
use crate::{
    access::{
        By, NewUser, OneTimeLink, SessionRecord, TokenRecord, UserChange, UserRecord,
        validate_selector,
    },
    audit::{AuditDraft, AuditObject},
    error::{StoreError, StoreResult},
    key::ProjectKey,
    secret::Secret,
    store::{PAGE_LIMIT_MAX, PeopleStore, TokenStore},
};

impl State {
    fn audit_token(&mut self, action: &str, token: &TokenRecord, by: &By) -> StoreResult<()> {
        let object = AuditObject::new("token", token.selector.as_str());
        let mut draft = AuditDraft::new(action, Some(object), by);
        draft.project = Some(token.project.clone());
        self.audit(draft).map(drop)
    }

    fn audit_user(&mut self, action: &str, id: &str, by: &By) -> StoreResult<()> {
        self.audit(AuditDraft::new(
            action,
            Some(AuditObject::new("user", id)),
            by,
        ))
        .map(drop)
    }

    fn user(&mut self, id: &str) -> StoreResult<&mut UserRecord> {
        self.users
            .get_mut(id)
            .ok_or_else(|| StoreError::not_found(format!("user {id}")))
    }
}

fn exists(what: &str) -> StoreError {
    StoreError::Exists {
        what: what.to_owned(),
        current: 1,
    }
}

#[async_trait]
impl TokenStore for MemoryStore {
    async fn token_put(&self, token: TokenRecord, by: By) -> StoreResult<()> {
        token.validate()?;
        by.validate()?;
        self.transact(|state| {
            state.project(&token.project)?;
            if state.tokens.contains_key(&token.selector) {
                return Err(exists("token"));
            }
            state.audit_token("token.create", &token, &by)?;
            state.tokens.insert(token.selector.clone(), token);
            Ok(())
        })
    }

    async fn token_find_by_selector(&self, selector: &str) -> StoreResult<Option<TokenRecord>> {
        Ok(self.state().tokens.get(selector).cloned())
    }

    async fn token_list(&self, project: &ProjectKey) -> StoreResult<Vec<TokenRecord>> {
        let state = self.state();
        let mut tokens: Vec<_> = state
            .tokens
            .values()
            .filter(|token| token.project == *project)
            .cloned()
            .collect();
        tokens.sort_by_key(|token| std::cmp::Reverse(token.created_at));
        Ok(tokens)
    }

    async fn token_disable(&self, selector: &str, by: By) -> StoreResult<()> {
        by.validate()?;
        self.transact(|state| {
            let missing = || StoreError::not_found(format!("token {selector}"));
            let token = state.tokens.get_mut(selector).ok_or_else(missing)?;
            if token.disabled_at.is_some() {
                return Ok(());
            }
            token.disabled_at = Some(by.now_us);
            let token = token.clone();
            state.audit_token("token.disable", &token, &by)
        })
    }

    async fn token_touch(&self, selector: &str, used_at: i64) -> StoreResult<()> {
        if let Some(token) = self.state().tokens.get_mut(selector) {
            token.last_used_at = token.last_used_at.max(Some(used_at));
        }
        Ok(())
    }
}

#[async_trait]
impl PeopleStore for MemoryStore {
    async fn user_put(&self, user: NewUser, by: By) -> StoreResult<()> {
        user.validate()?;
        by.validate()?;
        self.transact(|state| {
            let email = Some(user.email.to_lowercase());
            let is_taken = state.users.values().any(|other| other.email == email);
            if is_taken || state.users.contains_key(&user.id) {
                return Err(exists("user"));
            }
            state.audit_user("user.create", &user.id, &by)?;
            let mut grants = user.grants;
            grants.sort_by_key(|grant| (grant.role.as_str(), grant.scope.clone()));
            grants.dedup();
            let record = UserRecord {
                id: user.id.clone(),
                email,
                name: Some(user.name),
                password: None,
                grants,
                created_at: by.now_us,
                disabled_at: None,
            };
            state.users.insert(user.id, record);
            Ok(())
        })
    }

    async fn user_get(&self, id: &str) -> StoreResult<Option<UserRecord>> {
        Ok(self.state().users.get(id).cloned())
    }

    async fn user_find_by_email(&self, email: &str) -> StoreResult<Option<UserRecord>> {
        let email = Some(email.to_lowercase());
        Ok(self
            .state()
            .users
            .values()
            .find(|user| user.email == email)
            .cloned())
    }

    async fn user_list(&self, after_id: Option<&str>, limit: u32) -> StoreResult<Vec<UserRecord>> {
        let state = self.state();
        let after = state
            .users
            .values()
            .filter(|user| user.id.as_str() > after_id.unwrap_or(""));
        let limit = usize::try_from(limit.min(PAGE_LIMIT_MAX)).unwrap_or(usize::MAX);
        Ok(after.take(limit).cloned().collect())
    }

    async fn user_change(&self, id: &str, change: UserChange, by: By) -> StoreResult<()> {
        change.validate()?;
        by.validate()?;
        self.transact(|state| {
            let user = state.user(id)?;
            match &change {
                UserChange::Name(name) => user.name = Some(name.clone()),
                UserChange::Password(hash) => user.password = Some(hash.clone()),
                UserChange::Disabled(false) => user.disabled_at = None,
                UserChange::Disabled(true) => {
                    user.disabled_at = user.disabled_at.or(Some(by.now_us));
                }
                UserChange::Grants(grants) => {
                    user.grants = grants.clone();
                    user.grants
                        .sort_by_key(|grant| (grant.role.as_str(), grant.scope.clone()));
                    user.grants.dedup();
                }
                UserChange::Erase => {
                    (user.email, user.name, user.password) = (None, None, None);
                    user.grants.clear();
                    user.disabled_at = user.disabled_at.or(Some(by.now_us));
                }
            }
            let lets_in = matches!(
                change,
                UserChange::Name(_) | UserChange::Grants(_) | UserChange::Disabled(false)
            );
            if !lets_in {
                state.sessions.retain(|_, session| session.user_id != id);
                state.links.retain(|_, link| link.user_id != id);
            }
            state.audit_user(change.action(), id, &by)
        })
    }

    async fn session_put(&self, session: SessionRecord) -> StoreResult<()> {
        validate_selector(&session.selector)?;
        self.transact(|state| {
            state.user(&session.user_id)?;
            match state.sessions.insert(session.selector.clone(), session) {
                Some(_) => Err(exists("a sign-in")),
                None => Ok(()),
            }
        })
    }

    async fn session_find_by_selector(&self, selector: &str) -> StoreResult<Option<SessionRecord>> {
        Ok(self.state().sessions.get(selector).cloned())
    }

    async fn session_touch(&self, selector: &str, seen_at: i64) -> StoreResult<()> {
        if let Some(session) = self.state().sessions.get_mut(selector) {
            session.last_seen_at = session.last_seen_at.max(seen_at);
        }
        Ok(())
    }

    async fn session_end(&self, selector: &str) -> StoreResult<()> {
        self.state().sessions.remove(selector);
        Ok(())
    }

    async fn session_end_all(&self, user_id: &str) -> StoreResult<u64> {
        let mut state = self.state();
        let before = state.sessions.len();
        state
            .sessions
            .retain(|_, session| session.user_id != user_id);
        Ok(u64::try_from(before - state.sessions.len()).unwrap_or(u64::MAX))
    }

    async fn one_time_link_put(&self, link: OneTimeLink) -> StoreResult<()> {
        validate_selector(&link.selector)?;
        self.transact(|state| {
            state.user(&link.user_id)?;
            match state.links.insert(link.selector.clone(), link) {
                Some(_) => Err(exists("a one-time link")),
                None => Ok(()),
            }
        })
    }

    async fn one_time_link_take(
        &self,
        selector: &str,
        verifier: &Secret,
        now_us: i64,
    ) -> StoreResult<Option<OneTimeLink>> {
        let mut state = self.state();
        let is_good = |link: &OneTimeLink| now_us < link.expires_at && link.hash.matches(verifier);
        match state.links.get(selector).is_some_and(is_good) {
            true => Ok(state.links.remove(selector)),
            false => Ok(None),
        }
    }
}
