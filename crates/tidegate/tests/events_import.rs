//! `tidegate events import`: files in, events counted once, broken rows named.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod support;

use std::io::Write as _;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use serde_json::Value;
use support::{Server, tidegate};
use tempfile::TempDir;
use tidegate_lake::{Lake, LakeOptions, RealDisk};
use tidegate_metrics::{Days, EventFilter, Findings, Query};

const MAPPING: &str = "unit = \"customer\"\ntime = \"ts\"\nkind = \"track\"\nname = \"event\"\n\
                       value = \"amount\"\nproperties = [\"device\"]\n";

fn import(folder: &Path, file: &str, more: &[&str]) -> Output {
    let mut command = tidegate();
    command
        .current_dir(folder)
        .args([
            "events",
            "import",
            "--mapping",
            "mapping.toml",
            "-o",
            "json",
        ])
        .args(["--file", file]);
    if !more.contains(&"--server") {
        command.args(["--data-dir", "data"]);
    }
    command.args(more).output().unwrap()
}

fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn folder_with(mapping: &str, files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mapping.toml"), mapping).unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

/// Events and units of a name over all days, as the files say.
fn usage(folder: &Path, name: &str) -> (u64, u64) {
    let dir = folder.join("data/events/default");
    let lake = Lake::open(Arc::new(RealDisk), &dir, LakeOptions::default()).unwrap();
    lake.flush().unwrap();
    let query = Query::Retention {
        events: vec![EventFilter::named(name)],
        days: Days {
            first: 0,
            last: 40_000,
        },
        period_days: 50_000,
    };
    let Findings::Retention(found) = lake.answer(&query, 1).unwrap().findings else {
        panic!("retention was asked")
    };
    let units = found.cells.values().sum();
    let verified = lake.verify(&mut |_, _| {}).unwrap();
    assert!(verified.problems.is_empty(), "{:?}", verified.problems);
    (verified.events, units)
}

const SALES: &str = "customer,ts,event,amount,device\n\
                     a,2026-06-01T10:00:00Z,purchase,10.5,mobile\n\
                     b,2026-06-01T11:00:00Z,purchase,20,desktop\n\
                     b,2026-06-01T11:00:00Z,purchase,20,desktop\n\
                     c,2026-06-02T12:00:00Z,view,,mobile\n";

#[test]
fn broken_rows_are_refused_one_by_one_and_the_others_are_imported() {
    let broken = format!(
        "{SALES}\
         d,yesterday,purchase,1,mobile\n\
         ,2026-06-02T12:00:00Z,purchase,many,mobile\n\
         e,2026-06-02T12:00:00Z,purchase\n\
         f,2026-06-02T13:00:00Z,purchase,3,mobile\n"
    );
    let folder = folder_with(MAPPING, &[("sales.csv", &broken)]);
    let refused_file = ["--refused", "refused.ndjson"];
    let output = import(folder.path(), "sales.csv", &refused_file);
    assert!(output.status.success());
    let found = report(&output);
    assert_eq!(
        (
            &found["rows"],
            &found["imported_rows"],
            &found["refused_rows"]
        ),
        (&Value::from(8), &Value::from(5), &Value::from(3)),
        "{found}"
    );
    let places: Vec<(u64, u64, Option<&str>)> = found["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|refused| {
            let number = |name: &str| refused[name].as_u64().unwrap();
            (number("row"), number("line"), refused["column"].as_str())
        })
        .collect();
    assert_eq!(
        places,
        [
            (5, 6, Some("ts")),
            (6, 7, Some("customer")),
            (6, 7, Some("amount")),
            (7, 8, None)
        ]
    );
    let lines = std::fs::read_to_string(folder.path().join("refused.ndjson")).unwrap();
    assert_eq!(lines.lines().count(), 4);
    assert_eq!(usage(folder.path(), "purchase"), (5, 3));
}

#[test]
fn strict_imports_nothing_if_one_row_is_refused() {
    let broken = format!("{SALES}d,yesterday,purchase,1,mobile\n");
    let files = [("broken.csv", broken.as_str()), ("sales.csv", SALES)];
    let folder = folder_with(MAPPING, &files);
    let output = import(folder.path(), "broken.csv", &["--strict"]);
    assert_eq!(output.status.code(), Some(1));
    let found = report(&output);
    assert_eq!(found["imported"], false);
    assert_eq!(
        (&found["accepted"], &found["events"]),
        (&Value::from(0), &Value::from(0))
    );
    assert_eq!(found["refused"][0]["row"], 5);
    assert_eq!(usage(folder.path(), "purchase"), (0, 0));
    assert!(
        import(folder.path(), "sales.csv", &["--strict"])
            .status
            .success()
    );
    assert_eq!(usage(folder.path(), "purchase"), (4, 2));
}

/// Two equal rows are two events; the file again, in another order, mended, gzipped, adds only what
/// is new.
#[test]
fn importing_again_changes_nothing_and_equal_rows_are_two_events() {
    let mut lines: Vec<&str> = SALES.lines().skip(1).collect();
    lines.reverse();
    let shuffled = format!("customer,ts,event,amount,device\n{}\n", lines.join("\n"));
    let longer = format!(
        "customer,ts,event,amount,device\nz,2026-06-03,purchase,1,tv\n{}\n",
        lines.join("\n")
    );
    let folder = folder_with(
        MAPPING,
        &[
            ("sales.csv", SALES),
            ("shuffled.csv", &shuffled),
            ("longer.csv", &longer),
        ],
    );
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(SALES.as_bytes()).unwrap();
    std::fs::write(folder.path().join("sales.csv.gz"), packed.finish().unwrap()).unwrap();
    let counts = |file: &str| {
        let found = report(&import(folder.path(), file, &[]));
        (
            found["accepted"].as_u64().unwrap(),
            found["duplicates"].as_u64().unwrap(),
        )
    };
    assert_eq!(counts("sales.csv"), (4, 0));
    assert_eq!(usage(folder.path(), "purchase"), (4, 2));
    for file in ["sales.csv", "shuffled.csv", "sales.csv.gz"] {
        assert_eq!(counts(file), (0, 4), "{file}");
        assert_eq!(usage(folder.path(), "purchase"), (4, 2), "{file}");
    }
    assert_eq!(counts("longer.csv"), (1, 4));
}

#[test]
fn ndjson_and_parquet_say_the_same_as_csv() {
    let ndjson = "{\"customer\":\"a\",\"ts\":\"2026-06-01T10:00:00Z\",\"event\":\"purchase\",\"amount\":10.5,\"device\":\"mobile\"}\n\
                  \n\
                  {\"customer\":\"b\",\"ts\":1780311600,\"event\":\"purchase\",\"amount\":20,\"device\":\"desktop\"}\n\
                  {\"customer\":\"b\",\"ts\":1780311600000,\"event\":\"purchase\",\"amount\":20,\"device\":\"desktop\"}\n\
                  {\"customer\":\"c\",\"ts\":\"2026-06-02T12:00:00Z\",\"event\":\"view\",\"device\":\"mobile\"}\n\
                  {\"customer\":[1]\n\
                  {\"customer\":[1],\"ts\":1,\"event\":\"view\"}\n";
    let folder = folder_with(MAPPING, &[("sales.csv", SALES), ("sales.ndjson", ndjson)]);
    let texts = |all: &[&str]| -> ArrayRef { Arc::new(StringArray::from(all.to_vec())) };
    let batch = RecordBatch::try_from_iter([
        ("device", texts(&["mobile", "desktop", "desktop", "mobile"])),
        ("customer", texts(&["a", "b", "b", "c"])),
        (
            "ts",
            Arc::new(Int64Array::from(vec![
                1_780_308_000,
                1_780_311_600,
                1_780_311_600,
                1_780_401_600,
            ])) as ArrayRef,
        ),
        (
            "event",
            texts(&["purchase", "purchase", "purchase", "view"]),
        ),
        (
            "amount",
            Arc::new(Float64Array::from(vec![
                Some(10.5),
                Some(20.0),
                Some(20.0),
                None,
            ])) as ArrayRef,
        ),
    ])
    .unwrap();
    let file = std::fs::File::create(folder.path().join("sales.parquet")).unwrap();
    let snappy = parquet::file::properties::WriterProperties::builder()
        .set_compression(parquet::basic::Compression::SNAPPY)
        .build();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(snappy)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();

    assert_eq!(
        report(&import(folder.path(), "sales.csv", &[]))["accepted"],
        4
    );
    let found = report(&import(folder.path(), "sales.ndjson", &[]));
    assert_eq!(
        (&found["accepted"], &found["duplicates"]),
        (&Value::from(0), &Value::from(4))
    );
    let refused: Vec<(u64, u64)> = found["refused"]
        .as_array()
        .unwrap()
        .iter()
        .map(|refused| {
            (
                refused["row"].as_u64().unwrap(),
                refused["line"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(refused, [(5, 6), (6, 7)], "{found}");
    let found = report(&import(folder.path(), "sales.parquet", &[]));
    assert_eq!(
        (&found["accepted"], &found["duplicates"]),
        (&Value::from(0), &Value::from(4))
    );
}

#[test]
fn a_running_server_takes_an_import_and_keeps_its_folder_to_itself() {
    let folder = folder_with(MAPPING, &[("sales.csv", SALES)]);
    let data = folder.path().join("data");
    let server = Server::serve(&data);
    let output = import(folder.path(), "sales.csv", &[]);
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains("stop it first"), "{complaint}");

    let address = format!("http://{}", server.address);
    let online = ["--server", &address, "--token", support::ADMIN];
    let found = report(&import(folder.path(), "sales.csv", &online));
    assert_eq!(
        (&found["accepted"], &found["duplicates"]),
        (&Value::from(4), &Value::from(0))
    );
    let found = report(&import(folder.path(), "sales.csv", &online));
    assert_eq!(
        (&found["accepted"], &found["duplicates"]),
        (&Value::from(0), &Value::from(4))
    );
    server.terminate();
    let found = report(&import(folder.path(), "sales.csv", &[]));
    assert_eq!(
        (&found["accepted"], &found["duplicates"]),
        (&Value::from(0), &Value::from(4))
    );
    assert_eq!(usage(folder.path(), "purchase"), (4, 2));
}

#[test]
fn a_wide_row_is_one_unit_and_a_second_row_of_the_same_arm_is_refused() {
    let mapping = "unit = \"user\"\ntime = \"2026-06-01T00:00:00Z\"\nproperties = [\"device\"]\n\
                   [wide]\nflag = \"exp-1\"\narm = \"variant\"\n\
                   [[wide.outcome]]\ncolumn = \"revenue\"\nname = \"purchase\"\n";
    let csv = "user,variant,revenue,device\n1,control,0,m\n2,control,7,m\n3,treatment,9,d\n\
               2,control,1,m\n3,control,2,d\n";
    let folder = folder_with(mapping, &[("units.csv", csv)]);
    let found = report(&import(folder.path(), "units.csv", &[]));
    assert_eq!(found["refused"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found["refused"][0]["row"], 4);
    assert_eq!(found["accepted"], 7, "4 exposures, 3 purchases");
    assert_eq!(usage(folder.path(), "purchase"), (7, 2));
}

#[test]
fn a_mapping_that_does_not_fit_is_refused_with_what_would() {
    let cases = [
        (
            "unit = \"user\"\ntime = \"ts\"\nname = \"event\"\n",
            "unit: there is no column \"user\"",
        ),
        (
            "unit = \"customer\"\nname = \"event\"\n",
            "time: is required",
        ),
        (
            "unit = \"customer\"\ntime = \"ts\"\nname = \"event\"\ncolour = 1\n",
            "colour: is no key",
        ),
        ("unit = [\n", "line 1"),
    ];
    for (mapping, expected) in cases {
        let folder = folder_with(mapping, &[("sales.csv", SALES)]);
        let output = import(folder.path(), "sales.csv", &[]);
        assert_eq!(output.status.code(), Some(1));
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(complaint.contains(expected), "{complaint}");
        assert!(!folder.path().join("data").exists(), "nothing was made");
    }
}
