//! The reports' figures against DuckDB over the same files, on random events with many ties.
//!
//! Runs where `TIDEGATE_TEST_PYTHON` names a Python with the package `duckdb`, and says so where
//! it does not.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and is configured by its environment"
)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::tidegate;

const MAPPING: &str = "unit = \"unit\"\ntime = \"ts\"\nkind = \"kind\"\nname = \"name\"\n\
                       value = \"value\"\nvariant = \"variant\"\nproperties = [\"device\"]\n";

const SQL: &str = "
create view e as
  select u.unit_id as unit, epoch_us(e.time) as t, e.event_id as id, e.kind, e.name, e.value, e.variant
  from read_parquet('events/*.parquet') e join read_parquet('units/*.parquet') u using (bucket, unit)
  where not e.quarantined
  qualify row_number() over (partition by e.event_id order by e.sequence) = 1;
create view arms as
  select unit, min(t) as since, arg_min(variant, t) as variant
  from e where kind = 'exposure' and name = 'exp' group by unit having count(distinct variant) = 1;
create view own as
  select e.*, a.variant as arm, a.since from e join arms a using (unit)
  where e.kind = 'track' and e.t >= a.since;
";

const SUMS: &str = "
select a.variant, count(*), coalesce(sum(s.total), 0) / count(*), coalesce(sum(s.early), 0) / count(*)
from arms a left join (
  select unit, sum(value) as total, max(t - since <= 3 * 86400000000)::int as early
  from own where name = 'purchase' group by unit) s using (unit)
group by a.variant order by a.variant";

const JOURNEY: &str = "
with v as (select * from own where name = 'view'), s as (select * from own where name = 'start'),
     p as (select * from own where name = 'purchase')
select a.variant, count(*),
  count(*) filter (unit in (select unit from v)),
  count(*) filter (unit in (select v.unit from v join s on v.unit = s.unit
    and (s.t, s.id) > (v.t, v.id) and s.t - v.t <= 2 * 86400000000)),
  count(*) filter (unit in (select v.unit from v
    join s on v.unit = s.unit and (s.t, s.id) > (v.t, v.id) and s.t - v.t <= 2 * 86400000000
    join p on p.unit = s.unit and (p.t, p.id) > (s.t, s.id) and p.t - v.t <= 4 * 86400000000))
from arms a group by a.variant order by a.variant";

const USAGE: &str = "
select (t // 86400000000 - 20605) // 7 as week, name, count(*), count(distinct unit)
from e where kind = 'track' and name in ('view', 'purchase') group by all order by week, name desc";

const RETENTION: &str = "
with active as (select distinct unit, (t // 86400000000 - 20605) // 7 as week from e
                where kind = 'track' and name = 'view'),
     first as (select unit, min(week) as cohort from active group by unit)
select cohort, week - cohort as later, count(*) from active join first using (unit)
group by all order by all";

/// Events of 300 units over 28 days from 2026-06-01, on a grid of six hours, so that most of a
/// unit's events share their time with another; one unit in twenty meets both variants.
fn events_csv() -> String {
    let mut text = String::from("unit,ts,kind,name,value,variant,device\n");
    let mut state = 99_u64;
    let mut draw = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let start = 1_780_272_000_u64;
    for unit in 0..300 {
        let variant = if draw(2) == 0 { "off" } else { "on" };
        if draw(10) > 0 {
            let since = start + draw(40) * 21_600;
            text += &format!("u{unit},{since},exposure,exp,,{variant},m\n");
            if draw(20) == 0 {
                text += &format!(
                    "u{unit},{},exposure,exp,,{},m\n",
                    since + 60,
                    if variant == "on" { "off" } else { "on" }
                );
            }
        }
        for _ in 0..draw(30) {
            let time = start + draw(112) * 21_600;
            let name =
                ["view", "view", "start", "purchase", "other"][usize::try_from(draw(5)).unwrap()];
            text += &format!("u{unit},{time},track,{name},{}.25,,m\n", draw(90));
        }
    }
    text
}

fn ask(folder: &Path, arguments: &[&str]) -> Value {
    let mut command = tidegate();
    command
        .current_dir(folder)
        .args(arguments)
        .args(["--data-dir", "data", "-o", "json"]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn rows(report: &Value) -> Vec<&Value> {
    report["rows"].as_array().unwrap().iter().collect()
}

#[test]
fn duckdb_gives_the_same_answers() {
    let Ok(python) = std::env::var("TIDEGATE_TEST_PYTHON") else {
        eprintln!("not run: TIDEGATE_TEST_PYTHON names no Python with duckdb");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("events.csv"), events_csv()).unwrap();
    std::fs::write(at.join("mapping.toml"), MAPPING).unwrap();
    let imported = ask(
        at,
        &[
            "events",
            "import",
            "--file",
            "events.csv",
            "--mapping",
            "mapping.toml",
        ],
    );
    assert_eq!(imported["refused_rows"], 0, "{imported}");
    let script = format!(
        "import duckdb, json, sys\ncon = duckdb.connect()\ncon.execute(\"\"\"{SQL}\"\"\")\n\
         ask = lambda sql: con.execute(sql).fetchall()\n\
         print(json.dumps([ask(\"\"\"{SUMS}\"\"\"), ask(\"\"\"{JOURNEY}\"\"\"), ask(\"\"\"{USAGE}\"\"\"), \
         ask(\"\"\"{RETENTION}\"\"\")]))"
    );
    let output = Command::new(python)
        .current_dir(at.join("data/events/default"))
        .args(["-c", &script])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let theirs: Value = serde_json::from_slice(&output.stdout).unwrap();

    let definitions = [
        ("total", json!({"measure": "sum", "event": "purchase"})),
        (
            "early",
            json!({"measure": "conversion", "event": "purchase", "within_seconds": 259_200}),
        ),
        (
            "path",
            json!({"steps": ["view", {"event": "start", "within_seconds": 172_800}, "purchase"],
                        "within_seconds": 345_600}),
        ),
    ];
    for (name, definition) in definitions {
        std::fs::write(at.join(format!("{name}.json")), definition.to_string()).unwrap();
    }
    let metric = |name: &str| {
        let file = format!("{name}.json");
        ask(
            at,
            &[
                "metric",
                "report",
                name,
                "--flag",
                "exp",
                "--definition",
                &file,
            ],
        )
    };
    let (total, early) = (metric("total"), metric("early"));
    let ours: Vec<Value> = rows(&total)
        .iter()
        .zip(rows(&early))
        .map(|(total, early)| json!([total["variant"], total["n"], total["value"], early["value"]]))
        .collect();
    assert_near(&Value::from(ours), &theirs[0]);

    let path = [
        "journey",
        "report",
        "path",
        "--flag",
        "exp",
        "--definition",
        "path.json",
    ];
    let ours: Vec<Value> = rows(&ask(at, &path))
        .iter()
        .map(|row| {
            let reached = |step: usize| row["steps"][step]["reached"].clone();
            json!([row["variant"], row["n"], reached(0), reached(1), reached(2)])
        })
        .collect();
    assert_near(&Value::from(ours), &theirs[1]);

    let days = [
        "--from",
        "2026-06-01",
        "--to",
        "2026-06-28",
        "--period",
        "week",
    ];
    let mut usage = vec!["usage", "report", "--event", "view", "--event", "purchase"];
    usage.extend(days);
    let weeks: BTreeMap<&str, usize> = ["2026-06-01", "2026-06-08", "2026-06-15", "2026-06-22"]
        .into_iter()
        .zip(0..)
        .collect();
    let ours: Vec<Value> = rows(&ask(at, &usage))
        .iter()
        .map(|row| {
            json!([
                weeks[row["from"].as_str().unwrap()],
                row["event"],
                row["n"],
                row["value"]
            ])
        })
        .collect();
    assert_near(&Value::from(ours), &theirs[2]);

    let mut retention = vec!["retention", "report", "--event", "view"];
    retention.extend(days);
    let ours: Vec<Value> = rows(&ask(at, &retention))
        .iter()
        .filter(|row| row["active"] != 0)
        .map(|row| {
            json!([
                weeks[row["cohort"].as_str().unwrap()],
                row["later"],
                row["active"]
            ])
        })
        .collect();
    assert_near(&Value::from(ours), &theirs[3]);
}

/// Equal, numbers to the last digits that a sum of floats may differ in.
fn assert_near(ours: &Value, theirs: &Value) {
    match (ours, theirs) {
        (Value::Array(left), Value::Array(right)) => {
            assert_eq!(left.len(), right.len(), "{ours} {theirs}");
            for (left, right) in left.iter().zip(right) {
                assert_near(left, right);
            }
        }
        (Value::Number(left), Value::Number(right)) => {
            let (left, right) = (left.as_f64().unwrap(), right.as_f64().unwrap());
            assert!(
                (left - right).abs() <= 1e-12 * left.abs().max(1.0),
                "{left} {right}"
            );
        }
        _ => assert_eq!(ours, theirs),
    }
}
