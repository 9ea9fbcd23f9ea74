//! The one way out, from outside.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidegate_server::egress::credentials::{Credential, Credentials};
use tidegate_server::egress::destination::Destination;
use tidegate_server::egress::policy::EgressPolicy;
use tidegate_server::egress::{Egress, EgressError, Incoming, Limits, Names, Outgoing, Purpose};

use crate::far_end::{FarEnd, Said};

const LIMITS: Limits = Limits {
    time: Duration::from_secs(5),
    bytes: 1000,
};
const HASTY: Limits = Limits {
    time: Duration::from_millis(300),
    bytes: 1000,
};

fn to(url: &str) -> Outgoing {
    Outgoing {
        to: Destination::parse(url).unwrap(),
        headers: vec![("x-test", "yes".to_owned())],
        credential: None,
        body: Some(b"hello".to_vec()),
    }
}

fn towards(allowed: &[&str]) -> Egress {
    Egress::new(
        EgressPolicy::parse(allowed).unwrap(),
        Credentials::default(),
    )
}

async fn send(egress: &Egress, url: &str, limits: Limits) -> Result<Incoming, EgressError> {
    egress.send(Purpose::Tell, to(url), limits).await
}

#[tokio::test]
async fn what_is_allowed_arrives_and_what_is_not_is_never_connected_to() {
    let far = FarEnd::start(|_| Said::ok("heard you"));
    let place = far.address.to_string();
    let open = towards(&[&place]);
    let answer = send(&open, &far.url("/a?b=c"), LIMITS).await.unwrap();
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (200, &b"heard you"[..])
    );
    let heard = far.heard().remove(0);
    assert_eq!(
        (heard.method.as_str(), heard.path.as_str()),
        ("POST", "/a?b=c")
    );
    assert_eq!(
        (heard.header("x-test"), heard.body.as_str()),
        ("yes", "hello")
    );
    assert_eq!(heard.header("host"), place);

    let shut = Egress::default();
    let port = far.address.port();
    for host in [
        "127.0.0.1",
        "localhost",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "0.0.0.0",
    ] {
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{host}:{port}/");
            let refused = send(&shut, &url, LIMITS).await.unwrap_err();
            assert!(refused.is_refusal(), "{url}: {refused}");
        }
    }
    let elsewhere = towards(&["127.0.0.2:80", "10.0.0.0/8", "localhost:1"]);
    assert!(
        send(&elsewhere, &far.url("/"), LIMITS)
            .await
            .unwrap_err()
            .is_refusal()
    );
    assert_eq!(far.heard().len(), 1, "nothing but what was allowed arrived");
}

/// A name server that changes its mind: first a public address, then the inside.
#[derive(Debug)]
struct Rebinding {
    inside: SocketAddr,
    asked: AtomicUsize,
}

impl Names for Rebinding {
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let outside: SocketAddr = format!("93.184.216.34:{port}").parse().unwrap();
        Ok(match host {
            "mixed.example" => vec![outside, self.inside],
            "nowhere.example" => Vec::new(),
            _ if self.asked.fetch_add(1, Ordering::Relaxed) == 0 => vec![outside],
            _ => vec![self.inside],
        })
    }
}

#[tokio::test]
async fn the_address_is_judged_when_it_is_connected_to_and_not_when_it_was_written_down() {
    let far = FarEnd::start(|_| Said::ok("inside"));
    let names = Rebinding {
        inside: far.address,
        asked: AtomicUsize::new(1),
    };
    let egress = Egress::with_names(
        EgressPolicy::default(),
        Credentials::default(),
        Box::new(names),
    );
    assert!(
        egress.admit("https://rebinding.example/").is_ok(),
        "a name has no address yet"
    );
    for url in ["https://rebinding.example/", "https://mixed.example/"] {
        let refused = send(&egress, url, LIMITS).await.unwrap_err();
        assert!(matches!(refused, EgressError::Refused(_)), "{refused}");
    }
    let nowhere = send(&egress, "https://nowhere.example/", LIMITS)
        .await
        .unwrap_err();
    assert!(
        matches!(nowhere, EgressError::Unresolved { .. }),
        "{nowhere}"
    );
    assert!(far.heard().is_empty());
    assert!(egress.admit("https://169.254.169.254/latest").is_err());
    assert!(
        egress.admit("http://example.com/").is_ok(),
        "judged when its address is known"
    );
}

#[tokio::test]
async fn every_misbehaviour_has_its_word_and_its_bound() {
    let far = FarEnd::start(|heard| match heard.path.as_str() {
        "/redirect" => Said::Elsewhere("http://169.254.169.254/latest/meta-data".to_owned()),
        "/silence" => Said::Silence,
        "/drip" => Said::Drip,
        "/endless" => Said::Endless,
        "/cut" => Said::Cut("half".to_owned()),
        "/garbage" => Said::Garbage,
        "/full" => Said::ok("x".repeat(LIMITS.bytes)),
        "/over" => Said::ok("x".repeat(LIMITS.bytes + 1)),
        _ => Said::Whole(503, "later".to_owned()),
    });
    let egress = towards(&[&far.address.to_string()]);
    let outcome = async |path: &str, limits| send(&egress, &far.url(path), limits).await;
    assert_eq!(
        outcome("/redirect", LIMITS).await,
        Err(EgressError::Redirect { status: 307 })
    );
    for path in ["/silence", "/drip"] {
        assert_eq!(
            outcome(path, HASTY).await,
            Err(EgressError::Timeout(HASTY.time)),
            "{path}"
        );
    }
    for path in ["/endless", "/over"] {
        assert_eq!(
            outcome(path, LIMITS).await,
            Err(EgressError::TooLarge(1000)),
            "{path}"
        );
    }
    for path in ["/cut", "/garbage"] {
        let failed = outcome(path, LIMITS).await.unwrap_err();
        assert!(matches!(failed, EgressError::Failed(_)), "{path}: {failed}");
    }
    assert_eq!(outcome("/full", LIMITS).await.unwrap().body.len(), 1000);
    assert_eq!(outcome("/late", LIMITS).await.unwrap().status, 503);
    let unencrypted = egress.send(
        Purpose::Ask,
        to(&far.url("/full").replace("http", "https")),
        LIMITS,
    );
    assert!(
        matches!(unencrypted.await, Err(EgressError::Failed(_))),
        "no TLS there"
    );
}

#[tokio::test]
async fn one_purpose_that_is_stuck_leaves_room_for_the_others_and_has_a_bound() {
    let far = FarEnd::start(|heard| match heard.path.as_str() {
        "/silence" => Said::Silence,
        _ => Said::ok("well"),
    });
    let egress = towards(&[&far.address.to_string()]);
    let slow = Limits {
        time: Duration::from_secs(2),
        bytes: 10,
    };
    let stuck: Vec<_> = (0..20)
        .map(|_| {
            let (egress, request) = (egress.clone(), to(&far.url("/silence")));
            tokio::spawn(async move { egress.send(Purpose::Tell, request, slow).await })
        })
        .collect();
    let answer = egress
        .send(Purpose::Measure, to(&far.url("/fine")), LIMITS)
        .await;
    assert_eq!(answer.unwrap().body, b"well");
    let mut busy = 0;
    for one in stuck {
        let outcome = one.await.unwrap().unwrap_err();
        busy += usize::from(outcome == EgressError::Busy);
    }
    assert!(busy >= 4, "{busy} of 20 found no room");
}

#[tokio::test]
async fn a_credential_goes_where_it_is_meant_to_go() {
    let (own, other) = (
        FarEnd::start(|_| Said::ok("")),
        FarEnd::start(|_| Said::ok("")),
    );
    let policy = EgressPolicy::parse(&["127.0.0.0/8"]).unwrap();
    let credential = Credential::new(&own.url("/"), "authorization", "Bearer s3cr3t").unwrap();
    let egress = Egress::new(policy, Credentials::new([("own".to_owned(), credential)]));
    let with = |url: String| Outgoing {
        credential: Some("own".to_owned()),
        ..to(&url)
    };
    egress
        .send(Purpose::Measure, with(own.url("/x")), LIMITS)
        .await
        .unwrap();
    assert_eq!(own.heard()[0].header("authorization"), "Bearer s3cr3t");
    let refused = egress
        .send(Purpose::Measure, with(other.url("/x")), LIMITS)
        .await;
    let refused = refused.unwrap_err();
    assert!(
        refused.is_refusal() && !refused.to_string().contains("s3cr3t"),
        "{refused}"
    );
    assert!(other.heard().is_empty());
}
