//! Metrics, journeys, usage and retention from events to the figures people read, through the
//! program's own doors.
//!
//! Long because reports are compared whole, with the events they come from beside them.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod support;

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use support::{Server, request, tidegate};

fn run_in(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = tidegate();
    command
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap()
}

fn json_of(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn text_of(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A table of 3,000 units with everything a comparison takes.
fn units_csv() -> String {
    let mut text = String::from(
        "user,variant,revenue,converted,clicks,views,latency,before,views_before,one\n",
    );
    let mut state = 12_345_u64;
    let mut draw = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for unit in 0..3000 {
        let is_treated = draw(2) == 1;
        let lift = u64::from(is_treated);
        let buys = draw(100) < 20 + 4 * lift;
        let revenue = if buys { 5 + draw(200) + 3 * lift } else { 0 };
        let views = 1 + draw(9);
        let clicks = draw(views + 1);
        text.push_str(&format!(
            "u{unit},{},{}.{:02},{},{clicks},{views},{}.5,{},{},1\n",
            if is_treated { "treatment" } else { "control" },
            revenue,
            if buys { draw(100) } else { 0 },
            u8::from(buys),
            20 + draw(400),
            draw(50) + revenue / 4,
            1 + draw(9),
        ));
    }
    text
}

const WIDE: &str = "unit = \"user\"\n[wide]\nflag = \"exp-1\"\narm = \"variant\"\n\
    [[wide.outcome]]\ncolumn = \"revenue\"\nname = \"purchase\"\n\
    [[wide.outcome]]\ncolumn = \"converted\"\nname = \"converted\"\n\
    [[wide.outcome]]\ncolumn = \"clicks\"\nname = \"click\"\n\
    [[wide.outcome]]\ncolumn = \"views\"\nname = \"view\"\n\
    [[wide.outcome]]\ncolumn = \"latency\"\nname = \"latency\"\n\
    [[wide.covariate]]\ncolumn = \"before\"\nname = \"purchase\"\n\
    [[wide.covariate]]\ncolumn = \"before\"\nname = \"click\"\n\
    [[wide.covariate]]\ncolumn = \"views_before\"\nname = \"view\"\n";

/// The proof of issue 4: an imported unit-level file gives the figures of `stats compare`.
#[test]
fn an_imported_file_of_units_gives_the_figures_of_stats_compare() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::write(at.join("units.csv"), units_csv()).unwrap();
    std::fs::write(at.join("wide.toml"), WIDE).unwrap();
    let imported = json_of(&run_in(
        at,
        &[
            "events",
            "import",
            "--file",
            "units.csv",
            "--mapping",
            "wide.toml",
            "--data-dir",
            "data",
            "--strict",
            "-o",
            "json",
        ],
    ));
    assert_eq!(imported["imported_rows"], 3000, "{imported}");
    let cases = [
        (
            "sum",
            json!({"measure": "sum", "event": "purchase"}),
            vec!["--metric", "revenue"],
        ),
        (
            "conversion",
            json!({"measure": "conversion", "event": "converted", "within_seconds": 60}),
            vec!["--metric", "converted:proportion"],
        ),
        (
            "ratio",
            json!({"measure": {"ratio": {"numerator": {"event": "click", "of": "sum"},
                                         "denominator": {"event": "view", "of": "sum"}}}}),
            vec!["--metric", "clicks:ratio=views"],
        ),
        (
            "quantile",
            json!({"measure": {"quantile": {"event": "latency", "q": 0.9}}}),
            vec!["--metric", "latency:quantile=0.9"],
        ),
        (
            "count",
            json!({"measure": "count", "event": "converted"}),
            vec!["--metric", "converted"],
        ),
        (
            "mean",
            json!({"measure": "mean", "event": "latency"}),
            vec!["--metric", "latency:ratio=one"],
        ),
        (
            "adjusted_ratio",
            json!({"measure": {"ratio": {"numerator": {"event": "click", "of": "sum"},
                                         "denominator": {"event": "view", "of": "sum"}}},
                   "covariate_seconds": 60}),
            vec![
                "--metric",
                "clicks:ratio=views",
                "--covariate",
                "before:ratio=views_before",
            ],
        ),
        (
            "adjusted",
            json!({"measure": "sum", "event": "purchase", "covariate_seconds": 60}),
            vec!["--metric", "revenue", "--covariate", "before"],
        ),
    ];
    for (name, definition, columns) in cases {
        let plan = ["--n-max", "6000", "--looks", "4"];
        for method in ["sequential", "fixed", "group", "bayesian"] {
            let plan: &[&str] = if method == "group" { &plan } else { &[] };
            let file = format!("{name}.json");
            std::fs::write(at.join(&file), definition.to_string()).unwrap();
            let question = [
                "metric",
                "report",
                name,
                "--flag",
                "exp-1",
                "--definition",
                &file,
                "--data-dir",
                "data",
                "--method",
                method,
                "-o",
                "json",
            ];
            let report = json_of(&run_in(at, &[&question[..], plan].concat()));
            let mut compare = vec![
                "stats",
                "compare",
                "--input",
                "units.csv",
                "--unit-column",
                "user",
                "--arm-column",
                "variant",
                "--control",
                "control",
                "--method",
                method,
                "-o",
                "json",
            ];
            compare.extend(&columns);
            compare.extend(plan);
            let plain = json_of(&run_in(at, &compare));
            let plain = &plain["rows"][0];
            let arms = report["rows"].as_array().unwrap();
            assert_eq!(arms.len(), 2, "{report}");
            assert_eq!(arms[0]["is_control"], true);
            let found = &arms[1]["comparison"];
            for figure in [
                "n_control",
                "n_treatment",
                "mean_control",
                "mean_treatment",
                "absolute",
                "relative",
                "standard_error",
                "p_value",
                "ln_p",
                "method",
                "variance_reduction",
                "bayesian",
                "group",
            ] {
                // A quantile's variance is summed unit by unit, in the order of their numbers.
                let tolerance = if name == "quantile" { 1e-12 } else { 0.0 };
                assert!(
                    is_same(&found[figure], &plain[figure], tolerance),
                    "{name}, {method}, {figure}: {} {}",
                    found[figure],
                    plain[figure]
                );
            }
            assert_eq!(
                arms[0]["n"].as_u64().unwrap() + arms[1]["n"].as_u64().unwrap(),
                3000
            );
            for arm in arms {
                let value = arm["value"].as_f64().unwrap();
                let (lower, upper) = (&arm["interval"]["lower"], &arm["interval"]["upper"]);
                assert!(lower.as_f64().unwrap() < value && value < upper.as_f64().unwrap());
            }
            assert!(report["split"]["check"]["summary"].is_string());
        }
    }
}

/// Equal, numbers within a share of themselves.
fn is_same(left: &Value, right: &Value, tolerance: f64) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            let (left, right) = (left.as_f64().unwrap(), right.as_f64().unwrap());
            (left - right).abs() <= tolerance * left.abs()
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(name, value)| is_same(value, &right[name], tolerance))
        }
        _ => left == right,
    }
}

fn event(unit: &str, time: &str, name: &str, more: Value) -> String {
    let mut event =
        json!({"time": format!("2026-06-{time}Z"), "unit": unit, "kind": "track", "name": name});
    if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
        event.extend(more);
    }
    format!("{event}\n")
}

fn exposure(unit: &str, time: &str, variant: &str, device: &str) -> String {
    event(
        unit,
        time,
        "new-checkout",
        json!({"kind": "exposure", "flags": {"new-checkout": variant}, "properties": {"device": device}}),
    )
}

/// Forty units, of which each even one has the new checkout and twice as many of those pay; unit
/// 40 met both variants, unit 41 none.
fn story() -> String {
    let mut text = String::new();
    for unit in 0..40 {
        let name = format!("u{unit}");
        let is_new = unit % 2 == 0;
        let device = if unit % 4 < 2 { "mobile" } else { "desktop" };
        text += &event(&name, "01T09:00:00", "view", json!({}));
        text += &exposure(
            &name,
            "01T10:00:00",
            if is_new { "on" } else { "off" },
            device,
        );
        text += &event(&name, "01T10:01:00", "view", json!({}));
        if unit < 30 {
            text += &event(&name, "01T10:03:00", "start", json!({}));
        }
        if unit < if is_new { 24 } else { 12 } {
            text += &event(
                &name,
                "01T11:03:00",
                "purchase",
                json!({"value": 10.0 + f64::from(unit)}),
            );
        }
        if unit < 10 {
            text += &event(&name, "09T10:00:00", "view", json!({}));
        }
    }
    text += &exposure("u40", "01T10:00:00", "on", "mobile");
    text += &exposure("u40", "01T11:00:00", "off", "mobile");
    text += &event("u40", "01T12:00:00", "purchase", json!({"value": 1000.0}));
    text += &event("u41", "01T12:00:00", "view", json!({}));
    text
}

fn send(server: &Server, lines: &str) {
    let bearer = format!("Bearer {}", support::ADMIN);
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/x-ndjson"),
    ];
    let answer = request(
        server.address,
        "POST",
        "/api/v1/events",
        &headers,
        lines.as_bytes(),
    );
    assert_eq!(answer.status, 202, "{answer}");
    assert_eq!(answer.json()["rejected"], json!([]));
}

const JOURNEY: &str = "kind: journey\nkey: checkout\nspec:\n  description: from the cart to the money\n  \
    steps: [view, {event: start, within_seconds: 600}, purchase]\n  within_seconds: 86400\n";
const METRIC: &str = "kind: metric\nkey: revenue\nspec:\n  measure: sum\n  event: purchase\n";

/// Definitions by file, events over HTTP, reports from the running server; then the server is
/// stopped, and its folder answers the same, byte for byte.
#[test]
fn what_is_sent_is_reported_by_step_segment_and_variant() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let data = at.join("data");
    let data_text = data.to_str().unwrap().to_owned();
    let definitions = at.join("definitions.yaml");
    std::fs::write(&definitions, format!("{JOURNEY}---\n{METRIC}")).unwrap();
    let definitions = definitions.to_str().unwrap().to_owned();
    let server = Server::serve(&data);
    assert!(server.run(&["apply", "-f", &definitions]).status.success());
    let plan = text_of(&server.run(&["plan", "-f", &definitions]));
    assert_eq!(plan.trim(), "nothing to change");
    send(&server, &story());

    let by_flag = [
        "journey",
        "report",
        "checkout",
        "--flag",
        "new-checkout",
        "-o",
        "json",
    ];
    let journey = json_of(&server.run(&by_flag));
    let rows = journey["rows"].as_array().unwrap();
    let reached = |row: &Value| -> Vec<u64> {
        let steps = row["steps"].as_array().unwrap();
        steps
            .iter()
            .map(|step| step["reached"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(rows[0]["variant"], "off");
    assert_eq!(rows[0]["is_control"], true);
    assert_eq!(reached(&rows[0]), [20, 15, 6]);
    assert_eq!(reached(&rows[1]), [20, 15, 12]);
    assert_eq!(rows[1]["n"], 20);
    assert_eq!(rows[1]["value"], 0.6);
    assert_eq!(rows[1]["steps"][2]["drop_off"], 3);
    assert_eq!(rows[1]["steps"][1]["since_previous"]["p50_seconds"], 120.0);
    assert_eq!(rows[1]["completion_time"]["p50_seconds"], 3720.0);
    assert_eq!(rows[1]["comparison"]["n_treatment"], 20);
    assert_eq!(journey["mixed_units"], 1);
    for name in ["watermark", "computed_from", "definition"] {
        assert!(!journey[name].is_null(), "{name}");
    }
    assert_eq!(journey["definition"]["key"], "checkout");
    assert_eq!(journey["definition"]["revision"], 1);

    let everyone = json_of(&server.run(&["journey", "report", "checkout", "-o", "json"]));
    assert_eq!(
        everyone["rows"][0]["n"], 42,
        "whoever did a step, exposed or not"
    );
    assert_eq!(reached(&everyone["rows"][0])[0], 41);

    let by_device = [
        "metric",
        "report",
        "revenue",
        "--flag",
        "new-checkout",
        "--segment",
        "device",
        "-o",
        "json",
    ];
    let metric = json_of(&server.run(&by_device));
    let arms: Vec<(String, String, u64, f64)> = metric["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            (
                text("segment"),
                text("variant"),
                row["n"].as_u64().unwrap(),
                row["value"].as_f64().unwrap(),
            )
        })
        .collect();
    let mean = |units: &[u32]| f64::from(units.iter().map(|unit| 10 + unit).sum::<u32>()) / 10.0;
    let expected = [
        ("desktop", "off", 10, mean(&[3, 7, 11])),
        ("desktop", "on", 10, mean(&[2, 6, 10, 14, 18, 22])),
        ("mobile", "off", 10, mean(&[1, 5, 9])),
        ("mobile", "on", 10, mean(&[0, 4, 8, 12, 16, 20])),
    ]
    .map(|(segment, variant, n, value)| (segment.to_owned(), variant.to_owned(), n, value));
    assert_eq!(arms, expected);
    assert_eq!(metric["units"]["mixed"], 1);

    let usage = [
        "usage",
        "report",
        "--flag",
        "new-checkout",
        "--event",
        "view",
        "--period",
        "week",
        "--from",
        "2026-06-01",
        "--to",
        "2026-06-14",
        "-o",
        "json",
    ];
    let adopted = json_of(&server.run(&usage));
    let cells: Vec<(String, String, u64, u64)> = adopted["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            let number = |name: &str| row[name].as_u64().unwrap();
            (text("from"), text("variant"), number("n"), number("value"))
        })
        .collect();
    let expected = [
        ("2026-06-01", "off", 20, 20),
        ("2026-06-01", "on", 20, 20),
        ("2026-06-08", "off", 5, 5),
        ("2026-06-08", "on", 5, 5),
    ]
    .map(|(from, variant, n, units)| (from.to_owned(), variant.to_owned(), n, units));
    assert_eq!(
        cells, expected,
        "views before the exposure are not the arm's"
    );

    let came_back = [
        "retention",
        "report",
        "--event",
        "view",
        "--from",
        "2026-06-01",
        "--to",
        "2026-06-14",
        "-o",
        "json",
    ];
    let retention = json_of(&server.run(&came_back));
    assert_eq!(retention["rows"][1]["n"], 41);
    assert_eq!(retention["rows"][1]["active"], 10);

    server.terminate();
    for (online, arguments) in [
        (&journey, by_flag.as_slice()),
        (&metric, by_device.as_slice()),
        (&adopted, usage.as_slice()),
        (&retention, came_back.as_slice()),
    ] {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--data-dir", &data_text]);
        assert_eq!(&json_of(&run_in(at, &arguments)), online, "{arguments:?}");
    }
    let shown = text_of(&run_in(
        at,
        &[
            "journey",
            "report",
            "checkout",
            "--flag",
            "new-checkout",
            "--data-dir",
            &data_text,
        ],
    ));
    assert!(
        shown.contains("3 purchase") && shown.contains("█"),
        "{shown}"
    );
    let shown = text_of(&run_in(
        at,
        &[
            "metric",
            "report",
            "revenue",
            "--flag",
            "new-checkout",
            "--data-dir",
            &data_text,
        ],
    ));
    assert!(
        shown.contains("off (control)") && shown.contains("1 exposed to two variants"),
        "{shown}"
    );
    let shown = text_of(&run_in(
        at,
        &["retention", "report", "--data-dir", &data_text],
    ));
    assert!(shown.contains("cohort"), "{shown}");
    let shown = text_of(&run_in(
        at,
        &[
            "usage",
            "report",
            "--event",
            "view",
            "--data-dir",
            &data_text,
        ],
    ));
    assert!(shown.contains("2026-06-01"), "{shown}");
}

#[test]
fn a_definition_is_refused_with_everything_that_is_wrong_and_kept_by_revision() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let server = Server::serve(&at.join("data"));
    let wrong = at.join("wrong.yaml");
    std::fs::write(
        &wrong,
        "steps: [\"\", {event: 3}]\norder: sideways\ncolour: red\n",
    )
    .unwrap();
    let output = server.run(&[
        "journey",
        "create",
        "checkout",
        "-f",
        wrong.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    for pointer in ["/steps/0", "/steps/1/event", "/order", "/colour"] {
        assert!(complaint.contains(pointer), "{pointer}: {complaint}");
    }
    let right = at.join("right.yaml");
    std::fs::write(&right, METRIC).unwrap();
    let right = right.to_str().unwrap();
    let created = json_of(&server.run(&["metric", "create", "revenue", "-f", right, "-o", "json"]));
    assert_eq!(created["revision"], 1);
    assert_eq!(
        server
            .run(&["metric", "create", "revenue", "-f", right])
            .status
            .code(),
        Some(1)
    );
    assert_eq!(
        server
            .run(&["journey", "create", "revenue", "-f", right])
            .status
            .code(),
        Some(1)
    );
    let listed = json_of(&server.run(&["metric", "list", "-o", "json"]));
    assert_eq!(listed["rows"][0]["key"], "revenue");
    assert!(text_of(&server.run(&["metric", "list"])).contains("sum of purchase"));
    let kept = json_of(&server.run(&["metric", "get", "revenue", "-o", "json"]));
    assert_eq!(kept["spec"]["measure"]["sum"]["event"]["name"], "purchase");
    let path = "/api/v1/projects/default/metrics/revenue";
    let stale = server.admin("PUT", path, &[("if-match", "\"9\"")], &kept["spec"]);
    assert_eq!(stale.status, 412, "{stale}");

    let cases = [
        ("metrics/none/report?flag=f", 404, ""),
        ("metrics/revenue/report", 400, "/query/flag"),
        (
            "metrics/revenue/report?flag=f&from=June",
            400,
            "/query/from",
        ),
        (
            "metrics/revenue/report?flag=f&period=day",
            400,
            "/query/period",
        ),
        ("metrics/revenue/report?flag=f&alpha=2", 400, "/query/alpha"),
        (
            "metrics/revenue/report?flag=f&method=guess",
            400,
            "/query/method",
        ),
        (
            "metrics/revenue/report?flag=f&colour=red",
            400,
            "/query/colour",
        ),
        ("reports/usage", 400, "/query/events"),
        ("reports/retention?segment=x", 400, "/query/segment"),
    ];
    for (rest, status, pointer) in cases {
        let answer = server.admin(
            "GET",
            &format!("/api/v1/projects/default/{rest}"),
            &[],
            &Value::Null,
        );
        assert_eq!(answer.status, status, "{rest}: {answer}");
        if status == 400 {
            assert_eq!(answer.json()["violations"][0]["pointer"], pointer, "{rest}");
        }
    }
    let nobody = json_of(&server.run(&[
        "metric", "report", "revenue", "--flag", "unseen", "-o", "json",
    ]));
    assert_eq!(nobody["rows"], json!([]));
    assert!(
        nobody["notes"][0]
            .as_str()
            .unwrap()
            .contains("no unit was exposed")
    );
}
