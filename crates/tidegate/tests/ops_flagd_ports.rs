//! flagd's own ports, opened on request. One test, because the ports are the machine's.

mod house;

use house::{Server, complaint, run, send};

#[test]
fn flagd_ports_answer_without_a_token_and_a_taken_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--flagd-ports"]);
    server.make_flag("new-checkout", "on");
    let json = [("content-type", "application/json")];
    let path = "/ofrep/v1/evaluate/flags/new-checkout";
    let answer = send(&format!("http://127.0.0.1:8016{path}"), "POST", &json, "{}");
    assert_eq!(
        (answer.status, &answer.json()["value"]),
        (200, &true.into())
    );
    assert_eq!(server.send("POST", path, &json, "{}").status, 401);

    let other = tempfile::tempdir().unwrap();
    let other = other.path().to_str().unwrap();
    let refused = run(&[
        "serve",
        "--flagd-ports",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        other,
    ]);
    assert_eq!(refused.status.code(), Some(1));
    let said = complaint(&refused);
    assert!(
        said.contains("127.0.0.1:8013") && said.contains("--flagd-ports"),
        "{said}"
    );
    assert!(!said.contains("listening on"), "{said}");
}
