//! Which side of a rollout's split a unit is on, by the very program that serves it.
//!
//! The rollout's own rule is compiled alone, under the flag's own key and dialect, so that the
//! hash is the one clients compute; targeting, segments and prerequisites around it do not matter.

use serde_json::{Map, Value};
use tidegate_flags::{CompileOptions, FlagSetSource, FlagSpec, Ruleset, Segments, Serve, compile};

use tidegate_rollout::BasisPoints;

use super::watch::Arm;

/// A compiled split.
#[derive(Debug)]
pub(crate) struct Split {
    rules: Ruleset,
    attribute: String,
    treatment: String,
    control: String,
}

impl Split {
    /// The split of a rollout's rule in its flag, at a share that need not be the one served now.
    pub(crate) fn at_share(
        key: &str,
        spec: &FlagSpec,
        rollout: &str,
        share: BasisPoints,
    ) -> Option<Self> {
        let rule = super::start::rule_id(rollout);
        Self::of(
            key,
            &spec.with_rollout_share(&rule, u16::from(share)).ok()?,
            &rule,
        )
    }

    /// The split of rule `rule` in flag `key`; `None` if there is no such rollout.
    fn of(key: &str, spec: &FlagSpec, rule: &str) -> Option<Self> {
        let mut alone = spec.clone();
        let mut rule = spec.rules.iter().find(|known| known.id == rule)?.clone();
        rule.units.clear();
        rule.segments.clear();
        rule.condition = None;
        rule.prerequisites.clear();
        (rule.from, rule.until) = (None, None);
        let Serve::Rollout(rollout) = &rule.serve else {
            return None;
        };
        let treatment = rollout.allocation().treatments.first()?.0.clone();
        let control = rollout.control.clone();
        let attribute = rollout
            .hashing
            .by
            .clone()
            .unwrap_or_else(|| "targetingKey".to_owned());
        alone.rules = vec![rule];
        (alone.targeting, alone.killed) = (None, None);
        let set = FlagSetSource {
            flags: vec![(key.to_owned(), Ok(alone))],
            ..FlagSetSource::default()
        };
        let (rules, _) = compile(&set, &Segments::default(), &CompileOptions::default());
        Some(Self {
            rules,
            attribute,
            treatment,
            control,
        })
    }

    /// The arm the split in force gives `unit`.
    pub(crate) fn arm_of(&self, unit: &str) -> Option<Arm> {
        let flag = self.rules.handles().next()?;
        let context = Map::from_iter([(self.attribute.clone(), Value::from(unit))]);
        let bound = self.rules.bind(&context, 0);
        match self.rules.evaluate(flag, &bound).variant? {
            served if served == self.treatment => Some(Arm::Treatment),
            served if served == self.control => Some(Arm::Control),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_split_says_what_the_flag_serves_and_ignores_who_is_targeted() {
        let definition = |share: u16| {
            json!({
                "state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
                "rules": [{"id": "ramp", "if": {"==": [{"var": "country"}, "ch"]},
                    "rollout": {"treatment": "on", "control": "off", "share_bp": share}}]
            })
        };
        let spec = FlagSpec::from_json("f", &definition(2500)).unwrap();
        let split = Split::of("f", &spec, "ramp").unwrap();
        let full = FlagSetSource {
            flags: vec![("f".to_owned(), Ok(spec.clone()))],
            ..FlagSetSource::default()
        };
        let (rules, _) = compile(&full, &Segments::default(), &CompileOptions::default());
        let flag = rules.handle("f").unwrap();
        let mut treated = 0;
        for number in 0..10_000 {
            let unit = format!("user-{number}");
            let context = Map::from_iter([
                ("targetingKey".to_owned(), json!(unit)),
                ("country".to_owned(), json!("ch")),
            ]);
            let served = rules.evaluate(flag, &rules.bind(&context, 0)).variant;
            let arm = split.arm_of(&unit).unwrap();
            assert_eq!(
                served,
                Some(if arm == Arm::Treatment { "on" } else { "off" })
            );
            treated += u32::from(arm == Arm::Treatment);
        }
        assert!((2350..2650).contains(&treated), "{treated}");
        assert!(Split::of("f", &spec, "no-such-rule").is_none());
    }
}
