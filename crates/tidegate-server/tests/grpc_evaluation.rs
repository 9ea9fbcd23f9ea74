//! The evaluation service over gRPC, both versions, as clients see it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod support;

use prost_types::Struct;
use serde_json::{Value, json};
use support::{Server, flags};
use tidegate_server::grpc::proto::evaluation_v1::{self as v1, service_client as client_v1};
use tidegate_server::grpc::proto::evaluation_v2::{self as v2, service_client as client_v2};
use tidegate_server::grpc::structs::{self, StructLimits};
use tonic::{Code, Request};

const LIMITS: StructLimits = StructLimits {
    depth: 64,
    items: 1000,
};

fn context(value: Value) -> Option<Struct> {
    value.as_object().map(structs::from_json)
}

fn read(sent: Option<Struct>) -> Value {
    Value::Object(structs::to_json(sent.unwrap_or_default(), LIMITS).unwrap())
}

#[tokio::test]
async fn every_condition_of_a_flag_is_answered_as_each_version_can() {
    let server = Server::start(flags()).await;
    let mut one = client_v1::ServiceClient::new(server.channel().await);
    let mut two = client_v2::ServiceClient::new(server.channel().await);
    // Flag; v1: value, reason, variant or code; v2 likewise, where absence can be said.
    type Said = Result<(Option<bool>, &'static str, Option<&'static str>), Code>;
    let said = |value, reason, variant| -> Said { Ok((value, reason, variant)) };
    let cases: [(&str, Said, Said); 5] = [
        (
            "on",
            said(Some(true), "STATIC", Some("on")),
            said(Some(true), "STATIC", Some("on")),
        ),
        (
            "disabled",
            said(Some(false), "DISABLED", Some("")),
            said(None, "DISABLED", None),
        ),
        (
            "undecided",
            Err(Code::NotFound),
            said(None, "DEFAULT", None),
        ),
        ("missing", Err(Code::NotFound), Err(Code::NotFound)),
        (
            "plan",
            Err(Code::InvalidArgument),
            Err(Code::InvalidArgument),
        ),
    ];
    for (key, in_v1, in_v2) in cases {
        let asked = v1::ResolveBooleanRequest {
            flag_key: key.to_owned(),
            context: None,
        };
        let answer = one
            .resolve_boolean(asked)
            .await
            .map(|answer| answer.into_inner());
        let answer = answer.as_ref().map_err(tonic::Status::code).map(|answer| {
            (
                Some(answer.value),
                answer.reason.as_str(),
                Some(answer.variant.as_str()),
            )
        });
        assert_eq!(answer, in_v1, "v1 {key}");

        let asked = v2::ResolveBooleanRequest {
            flag_key: key.to_owned(),
            context: None,
        };
        let answer = two
            .resolve_boolean(asked)
            .await
            .map(|answer| answer.into_inner());
        let answer = answer.as_ref().map_err(tonic::Status::code).map(|answer| {
            (
                answer.value,
                answer.reason.as_str(),
                answer.variant.as_deref(),
            )
        });
        assert_eq!(answer, in_v2, "v2 {key}");
    }
}

#[tokio::test]
async fn every_type_arrives_whole_and_rules_see_the_context() {
    let server = Server::start(flags()).await;
    let mut client = client_v2::ServiceClient::new(server.channel().await);
    let key = str::to_owned;

    let context = context(json!({"targetingKey": "u1", "plan": "pro"}));
    let asked = v2::ResolveStringRequest {
        flag_key: key("plan"),
        context,
    };
    let answer = client.resolve_string(asked).await.unwrap().into_inner();
    assert_eq!(answer.value.as_deref(), Some("some"));
    assert_eq!(
        (answer.reason.as_str(), answer.variant.as_deref()),
        ("TARGETING_MATCH", Some("pro"))
    );
    let metadata = read(answer.metadata);
    assert_eq!(metadata["owner"], "sales");
    assert_eq!(metadata["contextId"], "u1");
    assert_eq!(metadata["flagSetId"], "default");
    assert!(metadata["version"].is_string(), "{metadata}");

    let asked = v2::ResolveIntRequest {
        flag_key: key("whole"),
        context: None,
    };
    assert_eq!(
        client.resolve_int(asked).await.unwrap().into_inner().value,
        Some(10)
    );
    let asked = v2::ResolveIntRequest {
        flag_key: key("part"),
        context: None,
    };
    assert_eq!(
        client.resolve_int(asked).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let asked = v2::ResolveFloatRequest {
        flag_key: key("part"),
        context: None,
    };
    assert_eq!(
        client
            .resolve_float(asked)
            .await
            .unwrap()
            .into_inner()
            .value,
        Some(0.5)
    );
    let asked = v2::ResolveFloatRequest {
        flag_key: key("whole"),
        context: None,
    };
    assert_eq!(
        client
            .resolve_float(asked)
            .await
            .unwrap()
            .into_inner()
            .value,
        Some(10.0)
    );
    let asked = v2::ResolveObjectRequest {
        flag_key: key("thing"),
        context: None,
    };
    let thing = client
        .resolve_object(asked)
        .await
        .unwrap()
        .into_inner()
        .value;
    assert_eq!(read(thing), json!({"x": [1, 2.5, "y"]}));
}

#[tokio::test]
async fn a_bulk_answer_has_what_v1_can_express_and_nothing_else() {
    let server = Server::start(flags()).await;
    let mut client = client_v1::ServiceClient::new(server.channel().await);
    let asked = v1::ResolveAllRequest {
        context: context(json!({"plan": "pro"})),
    };
    let answer = client.resolve_all(asked).await.unwrap().into_inner();
    let mut keys: Vec<&str> = answer.flags.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["elsewhere", "on", "part", "plan", "thing", "whole"]);
    let plan = &answer.flags["plan"];
    assert_eq!(
        plan.value,
        Some(v1::any_flag::Value::StringValue("some".to_owned()))
    );
    assert_eq!(
        (plan.reason.as_str(), plan.variant.as_str()),
        ("TARGETING_MATCH", "pro")
    );
    assert_eq!(
        answer.flags["whole"].value,
        Some(v1::any_flag::Value::DoubleValue(10.0))
    );
    assert_eq!(read(answer.metadata)["flagSetId"], "default");
}

#[tokio::test]
async fn a_selector_narrows_what_exists() {
    let server = Server::start(flags()).await;
    let mut client = client_v1::ServiceClient::new(server.channel().await);
    let cases = [
        ("flagSetId=other", "elsewhere", Ok(true)),
        ("flagSetId=other", "on", Err(Code::NotFound)),
        ("flagSetId=default", "on", Ok(true)),
        ("flagSetId=default", "elsewhere", Err(Code::NotFound)),
        ("source=default", "elsewhere", Ok(true)),
        ("default", "on", Ok(true)),
        ("./flags.json", "on", Err(Code::NotFound)),
        ("flagSetId=", "on", Err(Code::NotFound)),
        ("team=checkout", "on", Err(Code::InvalidArgument)),
    ];
    for (selector, key, expected) in cases {
        let asked = v1::ResolveBooleanRequest {
            flag_key: key.to_owned(),
            context: None,
        };
        let mut asked = Request::new(asked);
        asked
            .metadata_mut()
            .insert("flagd-selector", selector.parse().unwrap());
        let answer = client.resolve_boolean(asked).await;
        let answer = answer
            .map(|answer| answer.into_inner().value)
            .map_err(|status| status.code());
        assert_eq!(answer, expected, "{selector} {key}");
    }
    let mut asked = Request::new(v1::ResolveAllRequest { context: None });
    asked
        .metadata_mut()
        .insert("flagd-selector", "flagSetId=other".parse().unwrap());
    let answer = client.resolve_all(asked).await.unwrap().into_inner();
    assert_eq!(answer.flags.keys().collect::<Vec<_>>(), ["elsewhere"]);
    assert_eq!(read(answer.metadata)["flagSetId"], "other");
}

#[tokio::test]
async fn what_cannot_be_read_is_the_callers_mistake() {
    let server = Server::start(flags()).await;
    let mut client = client_v2::ServiceClient::new(server.channel().await);
    let nested = |levels: usize| (1..levels).fold(json!({}), |inner, _| json!({ "x": inner }));
    let wide: serde_json::Map<_, _> = (0..11_000).map(|n| (n.to_string(), json!(null))).collect();
    let cases = [
        (nested(20), Ok(Some(true))),
        (nested(200), Err(Code::InvalidArgument)),
        (Value::Object(wide), Err(Code::InvalidArgument)),
        (json!({"text": "x".repeat(300_000)}), Err(Code::OutOfRange)),
    ];
    for (sent, expected) in cases {
        let asked = v2::ResolveBooleanRequest {
            flag_key: "on".to_owned(),
            context: context(sent),
        };
        let answer = client.resolve_boolean(asked).await;
        let answer = answer
            .map(|answer| answer.into_inner().value)
            .map_err(|status| status.code());
        assert_eq!(answer, expected);
    }
    let asked = v2::ResolveBooleanRequest {
        flag_key: "on".to_owned(),
        context: None,
    };
    assert!(
        client.resolve_boolean(asked).await.is_ok(),
        "the server is none the worse"
    );
}

/// A field of bytes: its tag, its length, itself.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend_from_slice(bytes);
    out
}

/// A request for the flag `on` whose context has one entry, `a`, of this encoded `Value`.
fn asking(value: &[u8]) -> Vec<u8> {
    let entry = [field(1, b"a"), field(2, value)].concat();
    [field(1, b"on"), field(2, &field(1, &entry))].concat()
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat()
}

#[tokio::test]
async fn bytes_that_are_no_message_are_the_callers_mistake_and_named() {
    let server = Server::start(flags()).await;
    // A list in a list in a list, as deep as fits.
    let deep = (0..5_000).fold(Vec::new(), |inner, _| field(6, &field(1, &inner)));
    let nan = [&[2 << 3 | 1], &f64::NAN.to_le_bytes()[..]].concat();
    let endless = [&[2 << 3 | 1], &f64::INFINITY.to_le_bytes()[..]].concat();
    let cases = [
        ("10,000 levels", framed(&asking(&deep)), &["3"][..]),
        ("NaN", framed(&asking(&nan)), &["3"]),
        ("an infinity", framed(&asking(&endless)), &["3"]),
        (
            "invalid UTF-8",
            framed(&asking(&field(3, b"\xff\xfe"))),
            &["3"],
        ),
        ("a key of invalid UTF-8", framed(&field(1, b"\xff")), &["3"]),
        ("half a message", framed(&asking(b"")[..6]), &["3"]),
        // gRPC itself calls a broken frame INTERNAL, whoever broke it.
        (
            "less than it says",
            framed(&asking(b""))[..8].to_vec(),
            &["13"],
        ),
        (
            "compressed",
            [&[1], &framed(b"")[1..]].concat(),
            &["12", "13"],
        ),
        (
            "more than is read",
            framed(&asking(&field(3, &[b'x'; 262_200]))),
            &["8", "11"],
        ),
    ];
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    for path in [
        "/flagd.evaluation.v1.Service/ResolveBoolean",
        "/flagd.evaluation.v2.Service/ResolveBoolean",
    ] {
        for (what, body, expected) in &cases {
            let answer = support::send(server.address, "POST", path, &headers, body.clone()).await;
            let code = answer
                .headers()
                .get("grpc-status")
                .map(|code| code.to_str().unwrap());
            let said = answer.headers().get("grpc-message");
            assert!(
                code.is_some_and(|code| expected.contains(&code)),
                "{what}: {code:?} {said:?}"
            );
            assert!(said.is_some(), "{what} is named");
        }
    }
    let answer = v2_boolean(&server).await;
    assert_eq!(answer, Some(true), "the server is none the worse");
}

async fn v2_boolean(server: &Server) -> Option<bool> {
    let mut client = client_v2::ServiceClient::new(server.channel().await);
    let asked = v2::ResolveBooleanRequest {
        flag_key: "on".to_owned(),
        context: None,
    };
    client
        .resolve_boolean(asked)
        .await
        .unwrap()
        .into_inner()
        .value
}
