//! What was seen lately of everything a guard could watch: is it alive, and how much of it is there?
//!
//! A guard over something that is never reported never fires, and is trusted all the same. So
//! before a rollout starts, its guards are held against these notes: when requests of a name last
//! said how they ended, when they last said how long they took, when a `track` event last came, and
//! when an event last carried the rollout's flag. A service without a single failure is alive as
//! long as its requests *say* that they did not fail.
//!
//! Beside that, units are counted (sampled, without names) over the present and the last spell of
//! twelve hours, from which a forecast is made of how soon harm would be seen.
//!
//! The notes are no evidence and decide nothing about a running rollout. They are kept in a file
//! once a minute, so a crash costs a minute of them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_lake::Committed;
use tidegate_metrics::{Event, EventKind, unit_hash};
use tidegate_rollout::forecast::Traffic;
use tokio_util::sync::CancellationToken;

use super::GuardSource;
use super::distinct::Distinct;
use crate::app::App;

/// How long a spell lasts, microseconds.
const SPELL_US: i64 = 12 * 3_600 * 1_000_000;
/// The most names noted per project and sort; later ones are not noted.
const MOST_NAMES: usize = 500;
/// How often the notes are kept.
const KEEP_EVERY: Duration = Duration::from_secs(60);
/// The file in a data folder.
const FILE: &str = "guard-vitals.json";
/// A larger file is none of ours.
const MOST_BYTES: u64 = 256 * 1024 * 1024;

/// Keeps the notes each minute, and once more at the end.
pub(crate) async fn keep_notes(app: App, data_dir: PathBuf, shutdown: CancellationToken) {
    loop {
        let is_end = tokio::select! {
            () = shutdown.cancelled() => true,
            () = tokio::time::sleep(KEEP_EVERY) => false,
        };
        let (vitals, folder) = (Arc::clone(&app.rollouts.vitals), data_dir.clone());
        let saved = tokio::task::spawn_blocking(move || vitals.save(&folder)).await;
        match saved {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "what guards saw lately was not kept"),
            Err(error) => tracing::error!(%error, "keeping what guards saw lately failed"),
        }
        if is_end {
            return;
        }
    }
}

/// The notes of every project.
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    projects: Mutex<HashMap<String, Noted>>,
}

/// The notes of one project.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Noted {
    everything: Seen,
    requests: BTreeMap<String, Seen>,
    tracks: BTreeMap<String, Seen>,
    /// When an event last carried a flag, and how many units did.
    flags: BTreeMap<String, Seen>,
}

/// What was seen under one name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    last_us: Option<i64>,
    last_outcome_us: Option<i64>,
    last_latency_us: Option<i64>,
    now: Spell,
    before: Spell,
}

/// Units of one spell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Spell {
    since_us: i64,
    until_us: i64,
    units: Distinct,
    failed: Distinct,
}

/// What is known of one guard's metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pulse {
    /// When it was last reported, microseconds since the epoch.
    pub(crate) last_us: Option<i64>,
    /// Units and how many of them have the guarded event; `None` while too little was seen.
    pub(crate) traffic: Option<Traffic>,
}

impl Seen {
    fn note(&mut self, event: &Event, hash: u64, is_failed: bool) {
        let at_us = event.received_us;
        self.last_us = self.last_us.max(Some(at_us));
        if event.kind == EventKind::Request {
            if event.value.is_some() {
                self.last_latency_us = self.last_latency_us.max(Some(at_us));
            }
            if event.property("error").is_some() || event.property("status").is_some() {
                self.last_outcome_us = self.last_outcome_us.max(Some(at_us));
            }
        }
        if self.now.since_us == 0 {
            self.now.since_us = at_us;
        }
        if at_us.saturating_sub(self.now.since_us) > SPELL_US {
            let begun = Spell {
                since_us: at_us,
                ..Spell::default()
            };
            self.before = std::mem::replace(&mut self.now, begun);
        }
        self.now.until_us = self.now.until_us.max(at_us);
        self.now.units.see(hash);
        if is_failed {
            self.now.failed.see(hash);
        }
    }

    /// The spell that says most: the last whole one, or the present one while it is the first.
    fn spell(&self) -> &Spell {
        if self.before.until_us > self.before.since_us {
            &self.before
        } else {
            &self.now
        }
    }
}

impl Spell {
    fn seconds(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a spell is hours long")]
        let seconds = self.until_us.saturating_sub(self.since_us) as f64 / 1e6;
        seconds
    }
}

impl Noted {
    fn note(&mut self, event: &Event) {
        let hash = unit_hash(&event.unit);
        let is_failed = event.is_failed_request();
        let named = match event.kind {
            EventKind::Request => Some(&mut self.requests),
            EventKind::Track => Some(&mut self.tracks),
            EventKind::Exposure | EventKind::Evaluation => None,
        };
        if event.kind == EventKind::Request {
            self.everything.note(event, hash, is_failed);
        }
        if let Some(seen) = named.and_then(|names| slot(names, &event.name)) {
            seen.note(event, hash, is_failed);
        }
        for (flag, _) in &event.flags {
            if let Some(seen) = slot(&mut self.flags, flag) {
                seen.note(event, hash, is_failed);
            }
        }
    }

    fn requests_named(&self, name: Option<&str>) -> Option<&Seen> {
        name.map_or(Some(&self.everything), |name| self.requests.get(name))
    }

    /// When a guard's metric was last reported, and how much traffic it has.
    pub(crate) fn pulse(&self, source: &GuardSource, flag: &str) -> Pulse {
        let (seen, last_us) = match source {
            GuardSource::Errors(name) => {
                let seen = self.requests_named(name.as_deref());
                (seen, seen.and_then(|seen| seen.last_outcome_us))
            }
            GuardSource::Latency(name) => {
                let seen = self.requests_named(name.as_deref());
                (seen, seen.and_then(|seen| seen.last_latency_us))
            }
            GuardSource::Conversions(name) => {
                let seen = self.tracks.get(name);
                (seen, seen.and_then(|seen| seen.last_us))
            }
            GuardSource::Source(_) => (None, None),
        };
        let traffic = seen.and_then(|seen| self.traffic(source, seen, flag));
        Pulse { last_us, traffic }
    }

    fn traffic(&self, source: &GuardSource, seen: &Seen, flag: &str) -> Option<Traffic> {
        let spell = seen.spell();
        let events = match source {
            GuardSource::Errors(_) => spell.failed.count(),
            // Of a frozen threshold at the 95th percentile.
            GuardSource::Latency(_) => 0.05 * spell.units.count(),
            GuardSource::Conversions(_) => spell.units.count(),
            GuardSource::Source(_) => return None,
        };
        let units = match source {
            GuardSource::Conversions(_) => self.flags.get(flag)?.spell().units.count(),
            _ => spell.units.count(),
        };
        let is_enough = spell.seconds() >= 1.0 && units >= 1.0 && events >= 1.0;
        is_enough.then(|| Traffic {
            units_per_second: units / spell.seconds(),
            event_rate: (events / units).min(1.0),
        })
    }

    /// Units that carried a flag in the last spell, if any ever did.
    pub(crate) fn units_with(&self, flag: &str, now_us: i64) -> u64 {
        let recent = |seen: &&Seen| {
            seen.last_us
                .is_some_and(|at| now_us.saturating_sub(at) <= 2 * SPELL_US)
        };
        let count = self.flags.get(flag).filter(recent);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count is never negative, and saturates"
        )]
        count.map_or(0, |seen| {
            seen.now.units.count().max(seen.before.units.count()) as u64
        })
    }

    /// Every name that could be meant, for suggestions: metrics that are reported.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = String> + '_ {
        let requests = self.requests.keys();
        let tracks = self.tracks.keys();
        ["errors".to_owned(), "latency".to_owned()]
            .into_iter()
            .chain(requests.clone().map(|name| format!("errors/{name}")))
            .chain(requests.map(|name| format!("latency/{name}")))
            .chain(tracks.map(|name| format!("conversions/{name}")))
    }
}

fn slot<'a>(names: &'a mut BTreeMap<String, Seen>, name: &str) -> Option<&'a mut Seen> {
    if !names.contains_key(name) {
        if names.len() >= MOST_NAMES {
            return None;
        }
        names.insert(name.to_owned(), Seen::default());
    }
    names.get_mut(name)
}

impl Vitals {
    /// Notes a stretch of events.
    pub(crate) fn follow(&self, project: &str, stretch: &Committed) {
        let mut projects = self.lock();
        if !projects.contains_key(project) {
            projects.insert(project.to_owned(), Noted::default());
        }
        if let Some(noted) = projects.get_mut(project) {
            let real = stretch.events.iter().filter(|event| !event.is_quarantined);
            real.for_each(|event| noted.note(event));
        }
    }

    /// The notes of a project.
    pub(crate) fn of(&self, project: &str) -> Noted {
        self.lock().get(project).cloned().unwrap_or_default()
    }

    /// Takes up what was noted before a restart. A file that cannot be read is as good as none, and
    /// is said.
    pub(crate) fn load(&self, data_dir: &Path) {
        let path = data_dir.join(FILE);
        let read = || -> Result<HashMap<String, Noted>, std::io::Error> {
            if std::fs::metadata(&path)?.len() > MOST_BYTES {
                return Err(std::io::Error::other("it is too large"));
            }
            Ok(serde_json::from_slice(&std::fs::read(&path)?)?)
        };
        match read() {
            Ok(found) => *self.lock() = found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%error, file = %path.display(), "what guards saw lately is forgotten");
            }
        }
    }

    /// Keeps the notes for the next start.
    ///
    /// # Errors
    /// The disk.
    pub(crate) fn save(&self, data_dir: &Path) -> Result<PathBuf, std::io::Error> {
        let path = data_dir.join(FILE);
        let bytes = serde_json::to_vec(&*self.lock())?;
        let beside = path.with_extension("new");
        std::fs::write(&beside, bytes)?;
        std::fs::rename(&beside, &path)?;
        Ok(path)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Noted>> {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_metrics::{Arrival, Limits, parse_events};

    const NOW: i64 = 1_767_225_600_000_000;

    fn seen(lines: &[String]) -> Noted {
        let vitals = Vitals::default();
        for (second, line) in lines.iter().enumerate() {
            let arrival = Arrival::at(NOW + i64::try_from(second).unwrap() * 1_000_000);
            let batch = parse_events(line.as_bytes(), &Limits::default(), arrival).unwrap();
            assert!(batch.rejected.is_empty(), "{:?}", batch.rejected);
            let stretch = Committed {
                first_sequence: second as u64,
                events: batch.accepted,
            };
            vitals.follow("p", &stretch);
        }
        vitals.of("p")
    }

    fn request(unit: usize, rest: &str) -> String {
        format!(
            "{{\"time\":\"2026-01-01T00:00:00Z\",\"unit\":\"u{unit}\",\"kind\":\"request\",\
             \"name\":\"checkout\",\"flags\":{{\"f\":\"off\"}}{rest}}}"
        )
    }

    fn source(metric: &str) -> GuardSource {
        GuardSource::of(metric).unwrap()
    }

    #[test]
    fn requests_that_never_say_how_they_ended_do_not_make_an_error_guard_alive() {
        let silent = seen(&[request(1, ",\"value\":10")]);
        let pulse = |noted: &Noted, metric: &str| noted.pulse(&source(metric), "f").last_us;
        assert_eq!(pulse(&silent, "errors/checkout"), None);
        assert_eq!(pulse(&silent, "latency/checkout"), Some(NOW));
        let healthy = seen(&[request(1, ",\"properties\":{\"status\":200}")]);
        assert_eq!(pulse(&healthy, "errors/checkout"), Some(NOW));
        assert_eq!(pulse(&healthy, "errors"), Some(NOW));
        assert_eq!(pulse(&healthy, "errors/search"), None);
        assert_eq!(pulse(&healthy, "conversions/checkout"), None);
        assert_eq!(
            (healthy.units_with("f", NOW), healthy.units_with("g", NOW)),
            (1, 0)
        );
    }

    #[test]
    fn traffic_is_units_per_second_and_the_share_of_them_that_failed() {
        let lines: Vec<String> = (0..101)
            .map(|unit| {
                let failed = unit % 10 == 0;
                request(unit / 2, &format!(",\"properties\":{{\"error\":{failed}}}"))
            })
            .collect();
        let traffic = seen(&lines).pulse(&source("errors"), "f").traffic.unwrap();
        assert!(
            (traffic.units_per_second - 0.51).abs() < 0.01,
            "{traffic:?}"
        );
        assert!(
            (traffic.event_rate - 11.0 / 51.0).abs() < 0.01,
            "{traffic:?}"
        );
    }

    #[test]
    fn notes_outlive_a_restart_and_a_broken_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let vitals = Vitals::default();
        let noted = seen(&[request(1, ",\"value\":10")]);
        vitals.lock().insert("p".to_owned(), noted.clone());
        let path = vitals.save(folder.path()).unwrap();
        let again = Vitals::default();
        again.load(folder.path());
        assert_eq!(again.of("p"), noted);
        std::fs::write(path, "{").unwrap();
        let empty = Vitals::default();
        empty.load(folder.path());
        assert_eq!(empty.of("p"), Noted::default());
    }

    #[test]
    fn names_beyond_the_limit_are_not_noted() {
        let mut noted = Noted::default();
        for name in 0..2 * MOST_NAMES {
            slot(&mut noted.tracks, &format!("n{name}"));
        }
        assert_eq!(noted.tracks.len(), MOST_NAMES);
    }
}
