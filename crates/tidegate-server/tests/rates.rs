//! Limits are by token: what stands between a client and the server changes nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod support;

use serde_json::{Value, json};
use support::{ADMIN, Server, Settings, flags, json as call};
use tidegate_server::rate_limit::RateLimit;

const ONE: &str = "/ofrep/v1/evaluate/flags/on";

/// A server that admits three requests of a credential, and then none for hours.
async fn limited() -> Server {
    Server::with(Settings {
        flags: flags(),
        asks_for_credentials: true,
        keeps_state: true,
        rate_limit: Some(RateLimit {
            per_second: 0.000_1,
            burst: 3.0,
        }),
        ..Settings::default()
    })
    .await
}

async fn mint(server: &Server, kind: &str) -> String {
    let admin = format!("Bearer {ADMIN}");
    let headers = [("authorization", admin.as_str())];
    let path = "/api/v1/projects/default/tokens";
    let wanted = json!({"name": kind, "kind": kind});
    let (status, minted) = call(server.address, "POST", path, &headers, &wanted).await;
    assert_eq!(status, 201, "{minted}");
    format!("Bearer {}", minted["token"].as_str().unwrap())
}

async fn evaluate(server: &Server, bearer: &str, forwarded_for: &str) -> (u16, Value) {
    let headers = [
        ("authorization", bearer),
        ("x-forwarded-for", forwarded_for),
        ("forwarded", forwarded_for),
    ];
    call(server.address, "POST", ONE, &headers, &json!({})).await
}

#[tokio::test]
async fn clients_behind_one_balancer_have_limits_of_their_own() {
    let server = limited().await;
    let noisy = mint(&server, "server").await;
    let quiet = mint(&server, "browser").await;
    // All connections come from one address, and the noisy one claims a new one each time.
    let mut statuses = Vec::new();
    for request in 0..5 {
        let claimed = format!("203.0.113.{request}");
        statuses.push(evaluate(&server, &noisy, &claimed).await.0);
    }
    assert_eq!(statuses, [200, 200, 200, 429, 429]);
    assert_eq!(evaluate(&server, &quiet, "203.0.113.0").await.0, 200);
}

#[tokio::test]
async fn a_refusal_says_when_to_come_back_and_a_stop_is_never_refused() {
    let server = limited().await;
    let noisy = mint(&server, "server").await;
    for _ in 0..3 {
        evaluate(&server, &noisy, "").await;
    }
    let headers = [("authorization", noisy.as_str())];
    let refused = support::send(server.address, "POST", ONE, &headers, "{}").await;
    assert_eq!(refused.status(), 429);
    let wait: u32 = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(wait > 0);
    let admin = format!("Bearer {ADMIN}");
    let headers = [("authorization", admin.as_str())];
    let kill = "/api/v1/projects/default/flags/on/kill";
    let why = json!({"reason": "checkout fails"});
    for _ in 0..10 {
        let (status, said) = call(server.address, "POST", kill, &headers, &why).await;
        assert_ne!(status, 429, "{said}");
    }
}
