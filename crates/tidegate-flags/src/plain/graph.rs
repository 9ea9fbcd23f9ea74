//! The order in which flags can be translated: prerequisites before those who need them.
//!
//! A flag that is killed or disabled needs nothing. A flag on a cycle, or leading to one,
//! and a flag with too long a chain below it are refused before anything is inlined, with
//! the path.

use super::Refusal;
use crate::spec::{FlagSpec, State};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Flag key to definition.
pub(crate) type Specs<'s> = BTreeMap<&'s str, &'s FlagSpec>;

/// Translation order, and the flags that have no place in it.
pub(crate) struct Order<'s> {
    pub(crate) keys: Vec<&'s str>,
    pub(crate) refused: BTreeMap<&'s str, Refusal>,
}

/// Keys named in a path before it is cut.
const PATH_SHOWN: usize = 12;

/// The flags that `spec` names as prerequisites.
fn named(spec: &FlagSpec) -> impl Iterator<Item = &str> {
    let has_rules = spec.killed.is_none() && spec.state != State::Disabled;
    let rules = has_rules.then_some(&spec.rules).into_iter().flatten();
    rules
        .flat_map(|rule| &rule.prerequisites)
        .map(|prerequisite| prerequisite.flag.as_str())
}

/// The existing flags that `spec` needs.
fn needs<'s>(spec: &'s FlagSpec, specs: &Specs<'s>) -> Vec<&'s str> {
    let mut keys: Vec<&str> = named(spec).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.retain(|key| specs.contains_key(key));
    keys
}

/// The keys that any flag which is served by rules names as a prerequisite.
pub(crate) fn needed<'s>(specs: &Specs<'s>) -> BTreeSet<&'s str> {
    specs.values().copied().flat_map(named).collect()
}

/// Sorts the flags, refusing cycles and chains longer than `max_depth`.
pub(crate) fn order<'s>(specs: &Specs<'s>, max_depth: usize) -> Order<'s> {
    let needed: BTreeMap<&str, Vec<&str>> = specs
        .iter()
        .map(|(key, spec)| (*key, needs(spec, specs)))
        .collect();
    let mut open: BTreeMap<&str, usize> = BTreeMap::new();
    let mut dependants: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut ready: VecDeque<&str> = VecDeque::new();
    for (key, needs) in &needed {
        open.insert(key, needs.len());
        if needs.is_empty() {
            ready.push_back(key);
        }
        for need in needs {
            dependants.entry(need).or_default().push(key);
        }
    }
    // Per flag, the length of the longest chain below it and the first key of that chain.
    let mut chains: BTreeMap<&str, (usize, Option<&str>)> = BTreeMap::new();
    let mut order = Order {
        keys: Vec::new(),
        refused: BTreeMap::new(),
    };
    while let Some(key) = ready.pop_front() {
        let longest = needed[key].iter().max_by_key(|need| chains[**need].0);
        let chain = longest.map_or((0, None), |need| (chains[need].0 + 1, Some(*need)));
        chains.insert(key, chain);
        if chain.0 > max_depth {
            order.refused.insert(key, too_deep(key, &chains, max_depth));
        } else {
            order.keys.push(key);
        }
        for dependant in dependants.get(key).into_iter().flatten() {
            if let Some(left) = open.get_mut(dependant) {
                *left -= 1;
                if *left == 0 {
                    ready.push_back(dependant);
                }
            }
        }
    }
    refuse_cycles(&needed, &chains, &mut order.refused);
    order
}

fn too_deep(
    key: &str,
    chains: &BTreeMap<&str, (usize, Option<&str>)>,
    max_depth: usize,
) -> Refusal {
    let mut path = vec![key];
    while let Some((_, Some(next))) = path.last().and_then(|last| chains.get(last)) {
        path.push(next);
    }
    let depth = path.len() - 1;
    let message = format!(
        "prerequisites are {depth} deep, at most {max_depth} are inlined: {}",
        shown(&path)
    );
    Refusal {
        code: "prerequisite_depth",
        pointer: "/rules".to_owned(),
        message,
    }
}

/// Every flag without a chain lies on a cycle or leads to one: follow unfinished needs
/// until a key repeats.
fn refuse_cycles<'s>(
    needed: &BTreeMap<&'s str, Vec<&'s str>>,
    chains: &BTreeMap<&'s str, (usize, Option<&'s str>)>,
    refused: &mut BTreeMap<&'s str, Refusal>,
) {
    for start in needed.keys().filter(|key| !chains.contains_key(*key)) {
        let mut walk = vec![*start];
        let mut seen: BTreeMap<&str, usize> = BTreeMap::from([(*start, 0)]);
        let mut known: Option<Refusal> = refused.get(start).cloned();
        while known.is_none() {
            let Some(last) = walk.last() else { break };
            let next = needed[last].iter().find(|need| !chains.contains_key(*need));
            let Some(next) = next else { break };
            if let Some(at) = seen.get(next) {
                let mut path = walk[*at..].to_vec();
                path.push(next);
                known = Some(cycle(&path));
            } else if let Some(refusal) = refused.get(next) {
                known = Some(refusal.clone());
            } else {
                seen.insert(next, walk.len());
                walk.push(next);
            }
        }
        if let Some(refusal) = known {
            for key in walk {
                refused.entry(key).or_insert_with(|| refusal.clone());
            }
        }
    }
}

fn cycle(path: &[&str]) -> Refusal {
    let message = format!("prerequisites form a cycle: {}", shown(path));
    Refusal {
        code: "prerequisite_cycle",
        pointer: "/rules".to_owned(),
        message,
    }
}

fn shown(path: &[&str]) -> String {
    let mut text = path
        .iter()
        .take(PATH_SHOWN)
        .copied()
        .collect::<Vec<_>>()
        .join(" -> ");
    if path.len() > PATH_SHOWN {
        text.push_str(" -> ...");
    }
    text
}
