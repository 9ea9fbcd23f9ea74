//! A person signs in: link, password, session, and the end of it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod house;

use house::{Server, tidegate};

const PASSWORD: &str = "a-long-enough-password";

/// A server without a bootstrap token, and the link it printed.
fn first_start(folder: &std::path::Path) -> (Server, String) {
    let data = folder.to_str().unwrap();
    let server = Server::of(tidegate(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        data,
    ]));
    let link = std::fs::read_to_string(folder.join("first-sign-in-link")).unwrap();
    (server, link.trim().to_owned())
}

#[test]
fn a_link_sets_the_password_once_and_a_session_lasts_until_sign_out() {
    let folder = tempfile::tempdir().unwrap();
    let (server, link) = first_start(folder.path());
    let path = link.strip_prefix(&server.url).unwrap();
    let page = server.send("GET", path, &[], "");
    assert_eq!(page.status, 200, "looking does not use it up");
    assert!(
        page.header("content-security-policy")
            .contains("default-src 'none'")
    );
    let token = path.split_once("link=").unwrap().1;

    let origin = server.url.clone();
    let form = |origin: &str, cookie: &str, path: &str, body: &str| {
        let headers = [
            ("origin", origin),
            ("cookie", cookie),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        server.send("POST", path, &headers, body)
    };
    let set = format!("link={token}&password={PASSWORD}");
    let short = form(
        &origin,
        "",
        "/sign-in/link",
        &format!("link={token}&password=short"),
    );
    assert_eq!(short.status, 400);
    assert_eq!(
        form("https://evil.example", "", "/sign-in/link", &set).status,
        403
    );
    let entered = form(&origin, "", "/sign-in/link", &set);
    assert_eq!(entered.status, 303, "{}", entered.text);
    let attributes = entered.header("set-cookie").to_owned();
    assert!(attributes.contains("HttpOnly") && attributes.contains("SameSite=Strict"));
    assert_eq!(
        form(&origin, "", "/sign-in/link", &set).status,
        403,
        "it works once"
    );

    let wrong = "address=admin%40localhost&password=a-wrong-password";
    assert_eq!(form(&origin, "", "/sign-in", wrong).status, 403);
    let right = format!("address=admin%40localhost&password={PASSWORD}");
    let entered = form(&origin, "", "/sign-in", &right);
    assert_eq!(entered.status, 303, "{}", entered.text);
    let cookie = entered
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap()
        .to_owned();

    let flags = "/api/v1/projects/default/flags";
    let look = |cookie: &str| server.send("GET", flags, &[("cookie", cookie)], "").status;
    assert_eq!(look(&cookie), 200);
    assert_eq!(look("tidegate_session=garbage"), 401);
    let kill = format!("{flags}/no-such-flag/kill");
    let body = r#"{"reason":"it fails"}"#;
    for (origin, status) in [(origin.as_str(), 404), ("https://evil.example", 403)] {
        let answer = form(origin, &cookie, &kill, body);
        assert_eq!(answer.status, status, "{origin}: {}", answer.text);
    }
    let without = server.send("POST", &kill, &[("cookie", &cookie)], body);
    assert_eq!(without.status, 403, "no origin, no trust");

    assert_eq!(form(&origin, &cookie, "/sign-out", "").status, 303);
    assert_eq!(look(&cookie), 401);
}
