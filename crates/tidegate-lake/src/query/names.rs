//! Numbers for variants and segments within one answer.
//!
//! Threads number texts as they meet them; in the end the numbers are put into the order of the
//! texts, so that an answer does not depend on which thread was faster. Number 0 is "none".

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tidegate_metrics::{AdoptionKey, Findings, LifecycleKey};

#[derive(Debug, Default)]
pub(super) struct Names(Mutex<BTreeMap<String, u32>>);

impl Names {
    pub(super) fn of(&self, text: &str) -> u32 {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = names.get(text) {
            return *number;
        }
        let number = u32::try_from(names.len() + 1).unwrap_or(u32::MAX);
        names.insert(text.to_owned(), number);
        number
    }

    /// The same numbers, for an answer while more are given.
    pub(super) fn copy(&self) -> Self {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Self(Mutex::new(names.clone()))
    }

    /// Renumbers the findings in the order of the texts; returns the texts by number.
    pub(super) fn sorted_into(self, findings: &mut Findings) -> Vec<String> {
        let names = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let order: BTreeMap<u32, u32> = names.values().copied().zip(1..).collect();
        let renumbered = |number: u32| order.get(&number).copied().unwrap_or(0);
        match findings {
            Findings::UnitMetric(summary) => {
                for group in &mut summary.groups {
                    group.variant = renumbered(group.variant);
                    group.segment = renumbered(group.segment);
                }
                summary
                    .groups
                    .sort_by_key(|group| (group.variant, group.segment));
            }
            Findings::Journey(report) => {
                let groups = std::mem::take(&mut report.groups);
                report.groups = groups
                    .into_iter()
                    .map(|((variant, segment), group)| {
                        ((renumbered(variant), renumbered(segment)), group)
                    })
                    .collect();
            }
            Findings::Adoption(adoption) => {
                let cells = std::mem::take(&mut adoption.cells).into_iter();
                let renumber = |key: AdoptionKey| AdoptionKey {
                    variant: renumbered(key.variant),
                    segment: renumbered(key.segment),
                    ..key
                };
                adoption.cells = cells.map(|(key, cell)| (renumber(key), cell)).collect();
                let exposed = std::mem::take(&mut adoption.exposed).into_iter();
                adoption.exposed = exposed
                    .map(|((variant, segment), units)| {
                        ((renumbered(variant), renumbered(segment)), units)
                    })
                    .collect();
            }
            Findings::Lifecycle(lifecycle) => {
                let cells = std::mem::take(&mut lifecycle.cells).into_iter();
                let renumber = |key: LifecycleKey| LifecycleKey {
                    variant: renumbered(key.variant),
                    segment: renumbered(key.segment),
                    ..key
                };
                lifecycle.cells = cells.map(|(key, cell)| (renumber(key), cell)).collect();
            }
            Findings::Usage(_) | Findings::Retention(_) => {}
        }
        std::iter::once(String::new())
            .chain(names.into_keys())
            .collect()
    }
}
