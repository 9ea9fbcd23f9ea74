//! `tidegate stats` through its only door: the program, its flags, its output, its exit code.
//!
//! Long because every subcommand is tried with every kind of input; the cases are short and stand alone.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails by panicking, as the test does"
)]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn stats(arguments: &[&str]) -> Output {
    stats_with_input(arguments, "")
}

fn stats_with_input(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("stats")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its flags may close its input before all of it is written.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(!text.contains("NaN") && !text.contains(": inf"), "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn succeeded(arguments: &[&str]) -> Value {
    let output = stats(arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    json(&output)
}

/// Exit code and the text of the refusal.
fn refused(arguments: &[&str], input: &str) -> (i32, String) {
    let output = stats_with_input(arguments, input);
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    value
        .pointer(path)
        .unwrap_or_else(|| panic!("{path} in {value}"))
}

fn number(value: &Value, path: &str) -> f64 {
    at(value, path)
        .as_f64()
        .unwrap_or_else(|| panic!("{path} in {value}"))
}

fn near(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance,
        "found {found}, expected {expected}"
    );
}

const FILE: [&str; 9] = [
    "compare",
    "--input",
    "-",
    "--unit-column",
    "unit",
    "--arm-column",
    "arm",
    "--control",
    "off",
];

fn file_with(more: &[&'static str]) -> Vec<&'static str> {
    FILE.iter().chain(more).copied().collect()
}

/// 40 units in each of two arms with values 1..=8, the treatment's one higher.
fn healthy_csv() -> String {
    let mut text = "unit,arm,value,hit,before,views\n".to_owned();
    for unit in 0..80 {
        let (arm, shift) = if unit % 2 == 0 { ("off", 0) } else { ("on", 1) };
        let value = 1 + unit / 2 % 8;
        let hit = i32::from(unit % 3 == 0);
        text.push_str(&format!(
            "u{unit},{arm},{},{hit},{value},{}\n",
            value + shift,
            1 + unit % 4
        ));
    }
    text
}

#[test]
fn boundaries_have_the_documented_shape_and_published_values() {
    let report = succeeded(&[
        "boundaries",
        "--alpha",
        "0.05",
        "--looks",
        "5",
        "--spending",
        "obrien-fleming",
        "-o",
        "json",
    ]);
    let found: Vec<String> = at(&report, "/rows")
        .as_array()
        .unwrap()
        .iter()
        .map(|row| format!("{:.4}", number(row, "/z")))
        .collect();
    assert_eq!(found, ["4.8769", "3.3570", "2.6803", "2.2898", "2.0310"]);
    assert_eq!(at(&report, "/rows/4/look"), 5);
    near(number(&report, "/rows/1/fraction"), 0.4, 1e-12);
    near(number(&report, "/rows/4/alpha_spent"), 0.05, 1e-12);
    let uneven = succeeded(&[
        "boundaries",
        "--fractions",
        "0.2,0.5,1",
        "--spending",
        "power=2",
        "--one-sided",
        "-o",
        "json",
    ]);
    near(number(&uneven, "/rows/0/alpha_spent"), 0.05 * 0.04, 1e-12);
}

#[test]
fn boundaries_refuse_what_is_no_plan() {
    for arguments in [
        &["boundaries", "--looks", "0"][..],
        &["boundaries", "--looks", "5", "--alpha", "0.9"],
        &["boundaries", "--fractions", "0.5,0.4"],
        &["boundaries", "--fractions", "0.5,nan"],
        &["boundaries", "--looks", "3", "--spending", "haybittle"],
        &["boundaries"],
    ] {
        let (code, text) = refused(arguments, "");
        assert_eq!(code, 2, "{arguments:?}");
        assert!(text.starts_with("error:"), "{text}");
    }
}

#[test]
fn srm_of_the_bing_example() {
    let report = succeeded(&[
        "srm",
        "--counts",
        "821588,815482",
        "--weights",
        "1,1",
        "-o",
        "json",
    ]);
    assert_eq!(at(&report, "/chi_square/df"), 1);
    near(number(&report, "/chi_square/p_value"), 1.8218e-6, 5e-11);
    near(number(&report, "/exact/p_value"), 1.8288e-6, 5e-11);
    near(number(&report, "/sequential/log_e"), 7.679, 5e-4);
    near(
        number(&report, "/sequential/p_value"),
        (-7.679_379_f64).exp(),
        1e-9,
    );
}

#[test]
fn srm_takes_a_ramp_from_flags_or_standard_input() {
    let by_flags = succeeded(&[
        "srm",
        "--phase",
        "9,1:45100,4900",
        "--phase",
        "1,1:25050,24950",
        "-o",
        "json",
    ]);
    let input = r#"{"phases":[{"weights":[9,1],"counts":[45100,4900]},
        {"weights":[1,1],"counts":[25050,24950]}]}"#;
    let by_file = json(&stats_with_input(
        &["srm", "--input", "-", "-o", "json"],
        input,
    ));
    assert_eq!(by_flags, by_file);
    assert_eq!(at(&by_flags, "/alarm"), false);
}

#[test]
fn srm_refuses_what_is_no_split() {
    let cases = [
        (
            &["srm", "--counts", "5,5", "--weights", "0,0"][..],
            "sum to 0",
        ),
        (
            &["srm", "--counts", "5,-5", "--weights", "1,1"],
            "whole number",
        ),
        (
            &["srm", "--counts", "5,5", "--weights", "1,nan"],
            "finite number",
        ),
        (
            &["srm", "--counts", "5,5,5", "--weights", "1,1"],
            "3 counts for 2 weights",
        ),
        (
            &["srm", "--counts", "5,5", "--weights", "1e308,1e308"],
            "sum to inf",
        ),
        (
            &["srm", "--counts", "5", "--weights", "1"],
            "at least two arms",
        ),
        (
            &["srm", "--counts", "5,5", "--weights", "1e-300,1e300"],
            "use 0",
        ),
        (&["srm"], "--counts"),
    ];
    for (arguments, expected) in cases {
        let (code, text) = refused(arguments, "");
        assert_eq!(code, 2, "{arguments:?}");
        assert!(text.contains(expected), "{text}");
    }
    let (code, text) = refused(
        &["srm", "--input", "-"],
        "{\"phases\":[{\"weights\":[0,0],\"counts\":[1,1]}]}",
    );
    assert_eq!(code, 1);
    assert!(text.contains("sum to 0"), "{text}");
}

#[test]
fn plan_answers_for_each_method() {
    let plan = |more: &[&str]| {
        let mut arguments = vec![
            "plan", "--mean", "10", "--sd", "5", "--effect", "0.1", "-o", "json",
        ];
        arguments.extend(more);
        succeeded(&arguments)
    };
    let fixed = plan(&["--method", "fixed"]);
    near(number(&fixed, "/units_total"), 78_489.0, 1.0);
    let group = plan(&["--method", "group", "--looks", "14"]);
    near(number(&group, "/inflation"), 1.0424, 5e-5);
    near(
        number(&group, "/mean_units_effect") / number(&fixed, "/units_fixed"),
        0.7864,
        5e-5,
    );
    let sequential = plan(&["--units-per-day", "10000"]);
    assert!(
        number(&sequential, "/duration/days_median") < number(&sequential, "/duration/days_max")
    );
    assert_eq!(at(&sequential, "/power_curve").as_array().unwrap().len(), 9);
    near(
        number(&plan(&["--method", "sprt"]), "/mean_units_null") / number(&fixed, "/units_fixed"),
        0.3715,
        5e-5,
    );
}

#[test]
fn plan_says_what_a_deadline_allows() {
    let report = succeeded(&[
        "plan",
        "--mean",
        "10",
        "--sd",
        "5",
        "--deadline-days",
        "7",
        "--units-per-day",
        "10000",
        "--method",
        "fixed",
        "-o",
        "json",
    ]);
    near(number(&report, "/units_total"), 70_000.0, 1e-6);
    near(
        number(&report, "/detectable_effect"),
        2.801_585 * 10.0 / 70_000.0_f64.sqrt(),
        1e-5,
    );
}

#[test]
fn plan_refuses_impossible_questions() {
    for arguments in [
        &["plan", "--rate", "0.9", "--lift", "0.5"][..],
        &["plan", "--rate", "1.5", "--lift", "0.5"],
        &["plan", "--mean", "1", "--sd", "0", "--lift", "0.5"],
        &["plan", "--mean", "0", "--sd", "1", "--lift", "0.5"],
        &["plan", "--mean", "1", "--sd", "1", "--effect", "1e-300"],
        &["plan", "--mean", "1", "--sd", "1"],
        &[
            "plan", "--rate", "0.1", "--lift", "0.1", "--method", "group",
        ],
        &[
            "plan",
            "--rate",
            "0.1",
            "--lift",
            "0.1",
            "--units-per-day",
            "10",
            "--weekdays",
            "1,2",
        ],
    ] {
        let (code, text) = refused(arguments, "");
        assert_eq!(code, 2, "{arguments:?}");
        assert!(text.contains("error:"), "{text}");
    }
}

/// PostHog's second sample: the delta-method product prints p .031 where the arms differ at .062.
#[test]
fn compare_gives_one_p_value_for_both_scales() {
    let report = succeeded(&[
        "compare",
        "--control-counts",
        "87,1529",
        "--treatment-counts",
        "62,1471",
        "--method",
        "fixed",
        "-o",
        "json",
    ]);
    let row = at(&report, "/rows/0");
    near(number(row, "/p_value"), 0.062_231_7, 5e-8);
    near(number(row, "/relative/lower"), -0.469_753, 5e-7);
    near(number(row, "/relative/upper"), 0.015_666, 5e-7);
    assert_eq!(at(row, "/relative/set"), "interval");
    assert_eq!(at(row, "/method"), "fixed");
    assert_eq!(at(row, "/n_control"), 1529);
    near(number(row, "/mean_treatment"), 62.0 / 1471.0, 1e-15);
}

#[test]
fn compare_is_sequential_unless_told_otherwise() {
    let counts = [
        "compare",
        "--control-counts",
        "2262,21306",
        "--treatment-counts",
        "3894,21307",
    ];
    let report = succeeded(&[&counts[..], &["-o", "json"]].concat());
    assert_eq!(at(&report, "/rows/0/method"), "sequential");
    let p = number(&report, "/rows/0/p_value");
    assert!(p > 0.0 && p < 1e-100);
    let tuned = succeeded(&[&counts[..], &["--tune-at", "1000000", "-o", "json"]].concat());
    assert!(number(&tuned, "/rows/0/p_value") > p);
}

#[test]
fn compare_in_a_group_plan_prints_boundary_and_corrected_estimate() {
    let report = succeeded(&[
        "compare",
        "--control-counts",
        "2262,21306",
        "--treatment-counts",
        "3894,21307",
        "--method",
        "group",
        "--n-max",
        "85226",
        "--looks",
        "4",
        "--spending",
        "obrien-fleming",
        "-o",
        "json",
    ]);
    let row = at(&report, "/rows/0");
    near(number(row, "/group/critical_z"), 2.9631, 5e-5);
    assert_eq!(at(row, "/group/is_crossing"), true);
    let (stop, naive) = (
        number(row, "/group/at_stop/absolute/estimate"),
        number(row, "/absolute/estimate"),
    );
    assert!(stop > 0.0 && stop <= naive);
}

#[test]
fn compare_bayesian_prints_chance_and_loss() {
    let report = succeeded(&[
        "compare",
        "--control-counts",
        "87,1529",
        "--treatment-counts",
        "62,1471",
        "--method",
        "bayesian",
        "--prior-sd",
        "0.3",
        "-o",
        "json",
    ]);
    let chance = number(&report, "/rows/0/bayesian/chance_to_win");
    assert!(chance > 0.0 && chance < 0.5);
    assert!(at(&report, "/rows/0/p_value").is_null());
}

#[test]
fn compare_score_switches_p_and_interval_together() {
    let counts = [
        "compare",
        "--control-counts",
        "3,40",
        "--treatment-counts",
        "11,40",
        "--method",
        "fixed",
    ];
    let report = succeeded(&[&counts[..], &["--interval", "score", "-o", "json"]].concat());
    let row = at(&report, "/rows/0");
    assert_eq!(at(row, "/method"), "score");
    assert_eq!(
        number(row, "/p_value") < 0.05,
        number(row, "/absolute/lower") > 0.0
    );
    assert_eq!(
        number(row, "/p_value") < 0.05,
        number(row, "/relative/lower") > 0.0
    );
}

#[test]
fn compare_reads_a_file_of_units() {
    let arguments = file_with(&[
        "--metric",
        "value",
        "--metric",
        "hit:proportion",
        "--metric",
        "value:ratio=views",
        "--method",
        "fixed",
        "-o",
        "json",
    ]);
    let output = stats_with_input(&arguments, &healthy_csv());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = json(&output);
    assert_eq!(at(&report, "/rows").as_array().unwrap().len(), 3);
    near(number(&report, "/rows/0/mean_control"), 4.5, 1e-12);
    near(number(&report, "/rows/0/absolute/estimate"), 1.0, 1e-12);
    assert_eq!(at(&report, "/rows/2/metric"), "value/views");

    let adjusted = file_with(&[
        "--metric",
        "value",
        "--covariate",
        "before",
        "--method",
        "fixed",
        "-o",
        "json",
    ]);
    let noisy = healthy_csv().replace("u3,on,3,", "u3,on,4,");
    let output = stats_with_input(&adjusted, &noisy);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(number(&json(&output), "/rows/0/variance_reduction") > 0.9);
}

/// 2,000 units in two arms: a value and clicks over views that follow their history, a hit, some units new.
fn rich_csv() -> String {
    let mut text =
        "unit,arm,value,hit,clicks,views,before,clicks_before,views_before,twice\n".to_owned();
    for unit in 0..2_000_u64 {
        let noise = |salt: u64| (unit * 7_919 + salt * 104_729) % 1_009;
        let arm = if noise(1) % 2 == 0 { "off" } else { "on" };
        let lift = u64::from(arm == "on");
        let (taste, views) = (noise(2) % 50, 1 + noise(3) % 5);
        let value = taste * 10 + noise(4) % 100 + 20 * lift;
        let clicks = views * (taste / 5) + noise(5) % 3 + lift;
        let hit = u64::from(noise(6) % 10 < 2 + lift);
        let history = if unit % 7 == 0 {
            ",,,".to_owned()
        } else {
            format!("{taste},{},{views},{}", views * (taste / 5), 2 * taste)
        };
        text.push_str(&format!(
            "u{unit},{arm},{value},{hit},{clicks},{views},{history}\n"
        ));
    }
    text
}

/// Every metric kind, adjusted or not, under every method: the documented row, one p-value, no NaN.
#[test]
fn each_kind_of_metric_works_with_each_method() {
    let metrics: [(&str, &[&str]); 9] = [
        ("value", &[]),
        ("value:mean", &["--covariate", "before"]),
        (
            "value",
            &[
                "--covariate",
                "before",
                "--covariate",
                "clicks_before:ratio=views_before",
            ],
        ),
        ("hit:proportion", &[]),
        ("hit:proportion", &["--covariate", "before"]),
        ("clicks:ratio=views", &[]),
        (
            "clicks:ratio=views",
            &["--covariate", "clicks_before:ratio=views_before"],
        ),
        (
            "clicks:ratio=views",
            &["--covariate", "before", "--covariate", "clicks_before"],
        ),
        ("value:quantile=0.75", &[]),
    ];
    let methods: [(&str, &[&str]); 4] = [
        ("fixed", &[]),
        ("sequential", &["--tune-at", "2000"]),
        (
            "group",
            &["--n-max", "4000", "--looks", "4", "--spending", "pocock"],
        ),
        ("bayesian", &["--prior-sd", "0.2"]),
    ];
    let text = rich_csv();
    for (metric, more) in metrics {
        for (method, options) in methods {
            let mut arguments = file_with(&["-o", "json", "--alpha", "0.1", "--metric"]);
            arguments.extend([metric, "--method", method]);
            arguments.extend(more.iter().chain(options));
            let output = stats_with_input(&arguments, &text);
            assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
            let report = json(&output);
            let row = at(&report, "/rows/0");
            assert_eq!(
                number(row, "/n_control") + number(row, "/n_treatment"),
                2_000.0
            );
            let (lower, upper) = (
                number(row, "/absolute/lower"),
                number(row, "/absolute/upper"),
            );
            let estimate = number(row, "/absolute/estimate");
            assert!(lower < upper, "{arguments:?}: {row}");
            assert!(
                method == "bayesian" || (lower <= estimate && estimate <= upper),
                "{arguments:?}: {row}"
            );
            assert_eq!(at(row, "/relative/set"), "interval", "{arguments:?}");
            if let Some(p) = at(row, "/p_value").as_f64() {
                let excludes = |scale: &str| {
                    number(row, &format!("/{scale}/lower")) > 0.0
                        || number(row, &format!("/{scale}/upper")) < 0.0
                };
                assert_eq!(p < 0.1, excludes("absolute"), "{arguments:?}: {row}");
                assert_eq!(p < 0.1, excludes("relative"), "{arguments:?}: {row}");
            } else {
                assert_eq!(method, "bayesian");
            }
        }
    }
}

#[test]
fn history_removes_noise_from_ratios_and_redundant_history_is_named() {
    let adjusted = |covariates: &[&'static str]| {
        let mut arguments = file_with(&["--metric", "clicks:ratio=views", "-o", "json"]);
        for covariate in covariates {
            arguments.extend(["--covariate", covariate]);
        }
        let output = stats_with_input(&arguments, &rich_csv());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        json(&output)
    };
    let by_ratio = adjusted(&["clicks_before:ratio=views_before"]);
    assert!(number(&by_ratio, "/rows/0/variance_reduction") > 0.6);
    let twice = adjusted(&["before", "twice"]);
    assert_eq!(at(&twice, "/rows/0/dropped_covariates/0"), "twice");
    assert!(number(&twice, "/rows/0/variance_reduction") > 0.3);
}

/// Small counts are exact by themselves; a named interval is kept to.
#[test]
fn small_counts_at_a_fixed_horizon_are_compared_exactly() {
    let counts = |more: &[&'static str]| {
        let mut arguments = vec!["compare", "--control-counts", "3,15", "--treatment-counts"];
        arguments.extend(["7,12", "--method", "fixed", "-o", "json"]);
        arguments.extend(more);
        succeeded(&arguments)
    };
    let by_itself = counts(&[]);
    assert_eq!(at(&by_itself, "/rows/0/method"), "exact");
    assert_eq!(by_itself, counts(&["--interval", "exact"]));
    assert_eq!(
        at(&counts(&["--interval", "score"]), "/rows/0/method"),
        "score"
    );
    assert_eq!(
        at(&counts(&["--interval", "fieller"]), "/rows/0/method"),
        "fixed"
    );
    let row = at(&by_itself, "/rows/0");
    assert!(number(row, "/p_value") > 0.05);
    assert!(number(row, "/absolute/lower") < 0.0 && number(row, "/relative/lower") < 0.0);
    let nothing = succeeded(&[
        "compare",
        "--control-counts",
        "0,10",
        "--treatment-counts",
        "0,10",
        "--method",
        "fixed",
        "-o",
        "json",
    ]);
    assert_eq!(number(&nothing, "/rows/0/p_value"), 1.0);
    let (code, text) = refused(
        &[
            "compare",
            "--control-counts",
            "500,9000",
            "--treatment-counts",
            "510,9000",
            "--method",
            "fixed",
            "--interval",
            "exact",
        ],
        "",
    );
    assert_eq!(code, 1, "{text}");
}

/// A watched quantile is bounded by ranks: at a few units, not at all.
#[test]
fn a_watched_quantile_of_a_few_units_is_unbounded() {
    let mut text = "unit,arm,latency\n".to_owned();
    for row in 0..12 {
        let arm = if row % 2 == 0 { "off" } else { "on" };
        text.push_str(&format!("u{row},{arm},{}\n", 100 + row));
    }
    let arguments = file_with(&["--metric", "latency:quantile=0.9", "-o", "json"]);
    let output = stats_with_input(&arguments, &text);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report = json(&output);
    assert!(at(&report, "/rows/0/absolute/upper").is_null());
    assert_eq!(at(&report, "/rows/0/relative/set"), "line");
    assert_eq!(number(&report, "/rows/0/p_value"), 1.0);
}

/// The quick certificate is part of every test run: each promise of the engine, measured again.
#[test]
fn the_quick_certificate_meets_every_bar() {
    let output = stats(&["certify", "--quick", "--seed", "20261", "-o", "json"]);
    let report = json(&output);
    let failed: Vec<String> = at(&report, "/rows")
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["met"] == false && row["in_protocol"] == true)
        .map(Value::to_string)
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(at(&report, "/met"), true);
}

#[test]
fn a_part_of_the_certificate_is_a_document_with_the_same_rows() {
    let part = ["certify", "--quick", "--seed", "5", "--only", "wins"];
    let output = stats(&part);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("# Certificate"), "{text}");
    assert!(
        text.contains("certify --quick --seed 5 --only 'wins'"),
        "{text}"
    );
    assert!(
        text.contains("2 of 2 bars of the protocol are met"),
        "{text}"
    );
    assert!(
        text.contains("## Not met") && text.contains("for comparison"),
        "{text}"
    );
    let (code, text) = refused(&["certify", "--quick", "--only", "no such study"], "");
    assert_eq!(code, 2, "{text}");
}

#[test]
fn compare_reads_quantiles_with_several_rows_a_unit() {
    let mut text = "unit,arm,latency\n".to_owned();
    for row in 0..4_000 {
        let arm = if row / 2 % 2 == 0 { "off" } else { "on" };
        text.push_str(&format!("u{},{arm},{}\n", row / 2, 100 + row * 7919 % 1009));
    }
    let arguments = file_with(&[
        "--metric",
        "latency:quantile=0.9",
        "--method",
        "fixed",
        "-o",
        "json",
    ]);
    let output = stats_with_input(&arguments, &text);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(at(&json(&output), "/rows/0/n_control"), 1000);
}

#[test]
fn compare_names_line_column_and_cure_of_a_bad_row() {
    let metric = ["--metric", "value"];
    let cases = [
        (
            "unit,arm,value\nu1,off,1\nu2,on,NaN\n",
            ["line 3", "\"value\"", "finite number"],
        ),
        (
            "unit,arm,value\nu1,off,1\nu2,on,inf\n",
            ["line 3", "\"value\"", "finite number"],
        ),
        (
            "unit,arm,value\nu1,off,\n",
            ["line 2", "\"value\"", "write 0"],
        ),
        (
            "unit,arm,value\nu1,off,1\nu1,on,2\n",
            ["line 3", "already on line 2", "sum its rows"],
        ),
        (
            "unit,arm\nu1,off\n",
            ["no column \"value\"", "header has", "unit, arm"],
        ),
        (
            "unit,arm,value\nu1,on,1\n",
            ["control \"off\"", "arms are", "on"],
        ),
        (
            "unit,arm,value\nu1,off,1\n",
            ["only arm", "nothing to compare", "off"],
        ),
        (
            "unit,arm,value\nu1,off,1,2\n",
            ["line: 2", "4 fields", "3 fields"],
        ),
        ("", ["no column", "header", ""]),
    ];
    for (input, expected) in cases {
        let (code, text) = refused(&file_with(&metric), input);
        assert_eq!(code, 1, "{input}: {text}");
        for part in expected {
            assert!(text.contains(part), "{input}: {text} should say {part}");
        }
    }
    let (code, text) = refused(
        &file_with(&["--metric", "value:proportion"]),
        "unit,arm,value\nu1,off,2\n",
    );
    assert_eq!(code, 1);
    assert!(text.contains("0 or 1"), "{text}");
}

#[test]
fn a_metric_without_an_answer_is_named_and_the_others_are_printed() {
    let text = "unit,arm,flat,value\na,off,1,1\nb,off,1,2\nc,on,1,3\nd,on,1,5\n";
    let arguments = file_with(&[
        "--metric", "flat", "--metric", "value", "--method", "fixed", "-o", "json",
    ]);
    let output = stats_with_input(&arguments, text);
    assert_eq!(output.status.code(), Some(1));
    let report = json(&output);
    assert_eq!(at(&report, "/rows/0/metric"), "value");
    assert_eq!(at(&report, "/unanswered/0/metric"), "flat");
    assert!(
        at(&report, "/unanswered/0/reason")
            .as_str()
            .unwrap()
            .contains("varies")
    );
}

#[test]
fn huge_values_are_refused_or_honestly_unbounded() {
    let text = "unit,arm,value\na,off,1e300\nb,off,-1e300\nc,on,1e300\nd,on,3\n";
    let output = stats_with_input(&file_with(&["--metric", "value", "-o", "json"]), text);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        at(&json(&output), "/unanswered/0/reason")
            .as_str()
            .unwrap()
            .contains("rescale")
    );
    // A baseline that may be zero: the relative set is not an interval, and says so.
    let report = succeeded(&[
        "compare",
        "--control-summary",
        "100,0.001,5",
        "--treatment-summary",
        "100,0.5,5",
        "--method",
        "fixed",
        "-o",
        "json",
    ]);
    assert_eq!(at(&report, "/rows/0/relative/set"), "line");
    assert!(at(&report, "/rows/0/relative/lower").is_null());
}

#[test]
fn compare_refuses_wrong_flags() {
    for arguments in [
        &["compare"][..],
        &[
            "compare",
            "--control-counts",
            "5,4",
            "--treatment-counts",
            "1,4",
        ],
        &[
            "compare",
            "--control-counts",
            "-5,4",
            "--treatment-counts",
            "1,4",
        ],
        &[
            "compare",
            "--control-summary",
            "5,1",
            "--treatment-summary",
            "5,1,1",
        ],
        &[
            "compare",
            "--control-summary",
            "5,1,-1",
            "--treatment-summary",
            "5,1,1",
        ],
        &[
            "compare",
            "--control-summary",
            "5.5,1,1",
            "--treatment-summary",
            "5,1,1",
        ],
        &[
            "compare",
            "--control-counts",
            "1,4",
            "--treatment-counts",
            "1,4",
            "--alpha",
            "0",
        ],
        &[
            "compare",
            "--control-counts",
            "1,4",
            "--treatment-counts",
            "1,4",
            "--method",
            "group",
        ],
        &[
            "compare",
            "--control-counts",
            "1,4",
            "--treatment-counts",
            "1,4",
            "--interval",
            "score",
        ],
        &[
            "compare",
            "--control-counts",
            "1,4",
            "--treatment-counts",
            "1,4",
            "--method",
            "bayesian",
            "--prior-sd",
            "0",
        ],
        &["compare", "--input", "-"],
        &file_with(&["--metric", "value:quantile=0.5", "--covariate", "before"]),
        &file_with(&["--metric", "value", "--covariate", "before:quantile=0.5"]),
        &file_with(&[
            "--metric",
            "value",
            "--method",
            "fixed",
            "--interval",
            "exact",
        ]),
    ] {
        let (code, text) = refused(arguments, "");
        assert_eq!(code, 2, "{arguments:?}: {text}");
    }
}

#[test]
fn tables_print_every_figure_with_its_method() {
    for (arguments, method) in [
        (
            &["srm", "--counts", "50,50", "--weights", "1,1"][..],
            "Dirichlet-multinomial",
        ),
        (&["boundaries", "--looks", "3"], "Lan-DeMets"),
        (
            &[
                "plan", "--rate", "0.1", "--lift", "0.1", "--method", "fixed",
            ],
            "fixed horizon",
        ),
        (
            &[
                "compare",
                "--control-counts",
                "30,400",
                "--treatment-counts",
                "35,400",
            ],
            "sequential",
        ),
    ] {
        let output = stats(arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(String::from_utf8(output.stdout).unwrap().contains(method));
    }
}

#[test]
fn help_teaches_by_example() {
    for verb in ["compare", "srm", "plan", "boundaries", "certify"] {
        let output = stats(&[verb, "--help"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains("Examples:") && text.contains(&format!("tidegate stats {verb}")),
            "{text}"
        );
    }
}

#[test]
fn an_endless_line_is_refused_in_bounded_memory() {
    let text = "x".repeat(3 << 20);
    let (code, message) = refused(&file_with(&["--metric", "value"]), &text);
    assert_eq!(code, 1);
    assert!(message.contains("longer than 1048576 bytes"), "{message}");
}
