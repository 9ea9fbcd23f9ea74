//! Random flags and contexts that every provider can express, drawn from a seed.
//!
//! Left out is what is documented to differ between releases of one dialect: keys outside ASCII,
//! a null first argument of `fractional`, a targeting key that is no text.
#![allow(unreachable_pub, reason = "a module of a test has no other reader")]

use serde_json::{Map, Value, json};

/// The accessors of an OpenFeature client.
pub const KINDS: [&str; 5] = ["boolean", "string", "integer", "float", "object"];

/// One flag asked for one context.
#[derive(Debug)]
pub struct Question {
    pub flag: String,
    pub kind: &'static str,
    pub default: Value,
    pub context: Value,
}

impl Question {
    pub fn to_json(&self) -> Value {
        json!({"flag": self.flag, "type": self.kind, "default": self.default, "context": self.context})
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, and good enough to draw examples.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let bound = u64::try_from(from.len()).unwrap();
        &from[usize::try_from(self.below(bound)).unwrap()]
    }
}

fn variants(kind: &str) -> Value {
    match kind {
        "boolean" => json!({"a": true, "b": false, "c": true}),
        "string" => json!({"a": "alpha", "b": "", "c": "gamma \u{e9}\u{1f30a}"}),
        "integer" => json!({"a": 1, "b": -2_000_000_000, "c": 0}),
        "float" => json!({"a": 0.5, "b": -1.25e10, "c": 2.0}),
        _ => json!({"a": {"n": 1, "deep": {"list": [1, "x", false]}}, "b": {}, "c": {"t": "c"}}),
    }
}

fn default_for(kind: &str) -> Value {
    match kind {
        "boolean" => json!(true),
        "string" => json!("the caller's own"),
        "integer" => json!(77),
        "float" => json!(7.5),
        _ => json!({"own": true}),
    }
}

/// A split of all units, implicit, by an attribute, or by a text put together.
fn split(random: &mut Random) -> Value {
    let weights = [
        json!(["a", 1 + random.below(50)]),
        json!(["b", 1 + random.below(50)]),
        json!(["c", 1 + random.below(50)]),
    ];
    let mut arguments = match random.below(3) {
        0 => vec![],
        1 => vec![json!({"var": "email"})],
        _ => vec![json!({"cat": [{"var": "$flagd.flagKey"}, ":", {"var": "targetingKey"}]})],
    };
    arguments.extend(weights);
    json!({ "fractional": arguments })
}

fn condition(random: &mut Random) -> Value {
    match random.below(8) {
        0 => json!({"==": [{"var": "plan"}, "pro"]}),
        1 => json!({"in": [{"var": "plan"}, ["pro", "team"]]}),
        2 => json!({"ends_with": [{"var": "email"}, "@us.example"]}),
        3 => json!({"sem_ver": [{"var": "version"}, ">=", "2.0.0"]}),
        4 => json!({"sem_ver": [{"var": "version"}, "^", "1.4.0"]}),
        5 => json!({">": [{"var": "age"}, 30]}),
        6 => json!({"and": [{"starts_with": [{"var": "email"}, "a"]}, {"!": [{"var": "beta"}]}]}),
        _ => json!({"or": [{"var": "beta"}, {"<": [{"var": "score"}, 0.5]}]}),
    }
}

fn targeting(random: &mut Random) -> Value {
    match random.below(4) {
        0 => split(random),
        1 => json!({"if": [condition(random), "a", "b"]}),
        2 => json!({"if": [condition(random), "a", condition(random), split(random), null]}),
        _ => json!({"if": [condition(random), split(random)]}),
    }
}

fn flag(random: &mut Random, index: usize, kind: &str) -> Value {
    let mut flag = json!({
        "state": "ENABLED",
        "variants": variants(kind),
        "defaultVariant": "c",
        "bucketing": random.pick(&["v2", "v3"]),
    });
    match index / KINDS.len() {
        // Each type has one flag that is disabled and one that leaves the default to the caller.
        0 => flag["state"] = json!("DISABLED"),
        1 => {
            flag["defaultVariant"] = Value::Null;
            flag["targeting"] = json!({"if": [condition(random), "a"]});
        }
        _ => flag["targeting"] = targeting(random),
    }
    flag
}

/// Flags of every type in turn.
pub fn flags(random: &mut Random, count: usize) -> Map<String, Value> {
    (0..count)
        .map(|index| {
            let kind = KINDS[index % KINDS.len()];
            (format!("{kind}-{index}"), flag(random, index, kind))
        })
        .collect()
}

fn context(random: &mut Random) -> Value {
    let name = random
        .pick(&["ann", "bob", "cy", "alexandra", "zoe"])
        .to_owned();
    let place = random.pick(&["us.example", "nl.example"]).to_owned();
    let number = random.below(1_000_000);
    let mut context = json!({
        "targetingKey": format!("user-{number}"),
        "email": format!("{name}{number}@{place}"),
        "plan": random.pick(&["free", "pro", "team"]),
        "version": random.pick(&["1.3.9", "1.4.2", "2.0.0-rc.1", "2.0.0", "v2.1", "nonsense"]),
        "age": random.below(80),
        "beta": random.below(2) == 1,
        "score": f64::from(u32::try_from(random.below(1_000)).unwrap()) / 1_000.0,
    });
    if random.below(4) == 0 {
        // Where an attribute is absent, conditions by it give nothing.
        let absent = *random.pick(&["version", "age"]);
        context.as_object_mut().unwrap().shift_remove(absent);
    }
    context
}

/// Every flag asked for `contexts` random contexts.
pub fn questions(
    random: &mut Random,
    flags: &Map<String, Value>,
    contexts: usize,
) -> Vec<Question> {
    let mut questions = Vec::new();
    for _ in 0..contexts {
        let context = context(random);
        for flag in flags.keys() {
            let kind = KINDS
                .into_iter()
                .find(|kind| flag.starts_with(kind))
                .unwrap();
            questions.push(Question {
                flag: flag.clone(),
                kind,
                default: default_for(kind),
                context: context.clone(),
            });
        }
    }
    questions
}
