//! A backup put back: the old state with a new epoch, and a trail that says so.

mod house;

use house::{Server, TOKEN, complaint, definition, printed, run};
use serde_json::{Value, json};

fn epoch(server: &Server) -> u64 {
    let status = server.get("/status").json();
    status["projects"][0]["epoch"]
        .as_u64()
        .expect("a status names the epoch")
}

#[test]
fn a_restored_state_serves_the_old_value_under_a_higher_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (data_text, backup) = (data.to_str().unwrap(), folder.path().join("backup.db"));
    let backup = backup.to_str().unwrap();
    let server = Server::start(&data, &[]);
    server.make_flag("new-checkout", "off");
    let epoch_before = epoch(&server);
    assert!(server.stop().success());

    let written = run(&[
        "backup",
        "--data-dir",
        data_text,
        "--to",
        backup,
        "-o",
        "json",
    ]);
    assert!(written.status.success(), "{}", complaint(&written));
    assert_eq!(printed(&written)["pending_stops"], 0);
    let again = run(&["backup", "--data-dir", data_text, "--to", backup]);
    assert_eq!(again.status.code(), Some(1), "a file is never overwritten");

    let server = Server::start(&data, &[]);
    let bearer = format!("Bearer {TOKEN}");
    let put = server.send(
        "PUT",
        "/api/v1/projects/default/flags/new-checkout",
        &[
            ("authorization", &bearer),
            ("content-type", "application/json"),
            ("if-match", "\"1\""),
        ],
        &definition("on").to_string(),
    );
    assert_eq!(put.status, 200, "{}", put.text);
    assert_eq!(server.value_of("new-checkout"), true);
    let refused = run(&["restore", "--from", backup, "--data-dir", data_text]);
    assert_eq!(refused.status.code(), Some(1), "the server runs");
    assert_eq!(server.value_of("new-checkout"), true);
    assert!(server.stop().success());

    let reason = "the last change was wrong";
    let arguments = [
        "restore",
        "--from",
        backup,
        "--data-dir",
        data_text,
        "--reason",
        reason,
    ];
    let restored = run(&[&arguments[..], &["-o", "json"]].concat());
    assert!(restored.status.success(), "{}", complaint(&restored));
    let raised = printed(&restored)["epoch"].as_u64().unwrap();
    assert!(raised > epoch_before);
    let verified = run(&["audit", "verify", "--data-dir", data_text, "-o", "json"]);
    assert!(verified.status.success(), "{}", complaint(&verified));

    let server = Server::start(&data, &[]);
    assert_eq!(epoch(&server), raised);
    assert_eq!(server.value_of("new-checkout"), false);

    let elsewhere = folder.path().join("elsewhere");
    let elsewhere = elsewhere.to_str().unwrap();
    let moved = run(&["restore", "--from", backup, "--data-dir", elsewhere]);
    assert!(moved.status.success(), "{}", complaint(&moved));
    let verified = run(&["audit", "verify", "--data-dir", elsewhere]);
    assert!(verified.status.success(), "{}", complaint(&verified));
    assert!(
        complaint(&verified).contains("--public-key"),
        "its key stayed behind"
    );
}

#[test]
fn checkpoints_are_signed_at_the_stop_and_verify_with_the_published_key() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    server.make_flag("new-checkout", "off");
    let key = server
        .send("GET", "/api/v1/audit/public-key", &[], "")
        .json();
    assert!(server.stop().success());
    let file = folder.path().join("published.pub");
    std::fs::write(&file, key["public_key"].as_str().unwrap()).unwrap();
    let verify = |file: &std::path::Path| {
        run(&[
            "audit",
            "verify",
            "--data-dir",
            folder.path().to_str().unwrap(),
            "--public-key",
            file.to_str().unwrap(),
            "-o",
            "json",
        ])
    };
    let report = verify(&file);
    assert!(report.status.success(), "{}", complaint(&report));
    let report = printed(&report);
    assert!(
        report["checkpoints_confirmed"].as_u64().unwrap() >= 1,
        "{report}"
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(folder.path().join("audit-signing.key"))
            .unwrap()
            .permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_doctor_finds_what_is_broken_and_names_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let server = Server::start(folder.path(), &[]);
    server.make_flag("new-checkout", "off");
    let doctor = || run(&["doctor", "--data-dir", data, "-o", "json"]);
    let check = |report: &Value, name: &str| {
        let rows = report["checks"].as_array().unwrap();
        rows.iter()
            .find(|row| row["check"] == name)
            .unwrap()
            .clone()
    };
    let beside = doctor();
    assert!(beside.status.success(), "{}", complaint(&beside));
    let said = check(&printed(&beside), "stop file")["said"].clone();
    assert!(said.as_str().unwrap().contains("running server"), "{said}");
    assert!(server.stop().success());
    let well = doctor();
    assert!(well.status.success(), "{}", complaint(&well));
    assert_eq!(check(&printed(&well), "audit chain")["ok"], true);

    std::fs::write(
        folder.path().join("tidegate.db"),
        "this is no database ".repeat(999),
    )
    .unwrap();
    std::fs::remove_file(folder.path().join("stops")).unwrap();
    std::fs::create_dir(folder.path().join("stops")).unwrap();
    let ill = doctor();
    assert_eq!(ill.status.code(), Some(1));
    let report = printed(&ill);
    for name in ["database", "stop file"] {
        let row = check(&report, name);
        assert_eq!(row["ok"], json!(false), "{report}");
        assert!(!row["cure"].as_str().unwrap().is_empty());
    }
    assert_eq!(check(&report, "data folder")["ok"], true);
}
