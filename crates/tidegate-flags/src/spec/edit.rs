//! Changes to a flag as functions from one definition to the next.
//!
//! **Kill.** A kill serves the off variant past all rules and targeting, also on a
//! DISABLED flag and on one whose targeting does not compile. It must work at three in the
//! morning, so a flag that never named an `offVariant` may still be killed if what "off"
//! means is beyond doubt: exactly one variant has the value `false`. The kill writes that
//! name down; unkilling keeps it.

use super::rollout::Allocation;
use super::rule::Serve;
use super::{FlagSpec, Kill};
use serde_json::Value;

/// Why an edit was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// Nothing says which variant is off.
    #[error("no off variant: name one of {variants:?} in offVariant first")]
    NoOffVariant {
        /// The flag's variants.
        variants: Vec<String>,
    },
    /// The flag is not killed.
    #[error("the flag is not killed")]
    NotKilled,
    /// A kill needs a reason and an author.
    #[error("a kill needs a reason and an author")]
    NoReason,
    /// There is no such rule.
    #[error("no rule {rule:?}; rules: {known:?}")]
    NoSuchRule {
        /// The rule asked for.
        rule: String,
        /// The rules there are.
        known: Vec<String>,
    },
    /// The rule is no rollout.
    #[error("rule {rule:?} is not a rollout")]
    NotARollout {
        /// The rule asked for.
        rule: String,
    },
    /// More than 100 %.
    #[error("a share of {share_bp} basis points is more than 10000")]
    ShareTooLarge {
        /// The share asked for.
        share_bp: u16,
    },
}

impl FlagSpec {
    /// The flag, serving its off variant whatever its rules say. Killing a killed flag
    /// records the new reason.
    ///
    /// # Errors
    /// [`EditError::NoOffVariant`] if nothing says which variant is off,
    /// [`EditError::NoReason`] if `reason` or `by` is empty.
    pub fn kill(&self, reason: &str, by: &str, at: i64) -> Result<FlagSpec, EditError> {
        if reason.is_empty() || by.is_empty() {
            return Err(EditError::NoReason);
        }
        let off = self
            .off_variant
            .clone()
            .or_else(|| self.only_false_variant());
        let Some(off) = off else {
            return Err(EditError::NoOffVariant {
                variants: self.variants.keys().cloned().collect(),
            });
        };
        let killed = Kill {
            reason: reason.to_owned(),
            by: by.to_owned(),
            at,
        };
        Ok(FlagSpec {
            off_variant: Some(off),
            killed: Some(killed),
            ..self.clone()
        })
    }

    /// The flag without its kill.
    ///
    /// # Errors
    /// [`EditError::NotKilled`] if none is in force.
    pub fn unkill(&self) -> Result<FlagSpec, EditError> {
        if self.killed.is_none() {
            return Err(EditError::NotKilled);
        }
        Ok(FlagSpec {
            killed: None,
            ..self.clone()
        })
    }

    /// The flag with rollout rule `rule_id` at `share_bp` basis points in all.
    ///
    /// # Errors
    /// [`EditError::NoSuchRule`], [`EditError::NotARollout`], [`EditError::ShareTooLarge`].
    pub fn with_rollout_share(&self, rule_id: &str, share_bp: u16) -> Result<FlagSpec, EditError> {
        if share_bp > super::fields::WHOLE {
            return Err(EditError::ShareTooLarge { share_bp });
        }
        let mut next = self.clone();
        let rule = next.rules.iter_mut().find(|rule| rule.id == rule_id);
        let Some(rule) = rule else {
            return Err(self.no_such_rule(rule_id));
        };
        let Serve::Rollout(rollout) = &mut rule.serve else {
            return Err(EditError::NotARollout {
                rule: rule_id.to_owned(),
            });
        };
        *rollout = rollout.with_share(share_bp);
        Ok(next)
    }

    /// How rollout rule `rule_id` divides its audience.
    ///
    /// # Errors
    /// [`EditError::NoSuchRule`], [`EditError::NotARollout`].
    pub fn allocation(&self, rule_id: &str) -> Result<Allocation, EditError> {
        match self.rule(rule_id).map(|rule| &rule.serve) {
            None => Err(self.no_such_rule(rule_id)),
            Some(Serve::Rollout(rollout)) => Ok(rollout.allocation()),
            Some(_) => Err(EditError::NotARollout {
                rule: rule_id.to_owned(),
            }),
        }
    }

    fn only_false_variant(&self) -> Option<String> {
        let mut off = self
            .variants
            .iter()
            .filter(|(_, value)| **value == Value::Bool(false));
        let name = off.next()?.0.clone();
        off.next().is_none().then_some(name)
    }

    fn no_such_rule(&self, rule: &str) -> EditError {
        let known = self.rules.iter().map(|rule| rule.id.clone()).collect();
        EditError::NoSuchRule {
            rule: rule.to_owned(),
            known,
        }
    }
}
