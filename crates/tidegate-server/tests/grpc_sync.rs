//! Whole rule sets for providers that evaluate in process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod support;

use serde_json::{Value, json};
use support::{Server, flags, within};
use tidegate_server::grpc::proto::sync_v1::{
    FetchAllFlagsRequest, GetMetadataRequest, SyncFlagsRequest, SyncFlagsResponse,
    flag_sync_service_client::FlagSyncServiceClient,
};
use tonic::{Code, Request, Streaming};

async fn next(stream: &mut Streaming<SyncFlagsResponse>) -> Value {
    let sent = within(stream.message()).await.unwrap().expect("a set");
    serde_json::from_str(&sent.flag_configuration).unwrap()
}

fn keys(document: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = document["flags"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn the_full_set_comes_at_once_and_again_on_each_change() {
    let server = Server::start(flags()).await;
    let mut client = FlagSyncServiceClient::new(server.channel().await);
    let mut stream = client
        .sync_flags(SyncFlagsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let first = next(&mut stream).await;
    assert_eq!(keys(&first).len(), flags().as_object().unwrap().len());
    let plan = &first["flags"]["plan"];
    assert_eq!(plan["targeting"], flags()["plan"]["targeting"]);
    assert_eq!(plan["metadata"]["owner"], "sales");
    assert_eq!(
        plan["metadata"]["flagSetId"], "default",
        "set metadata is folded in"
    );

    let mut changed = flags();
    changed["on"]["defaultVariant"] = json!("off");
    server.serve(changed);
    assert_eq!(
        next(&mut stream).await["flags"]["on"]["defaultVariant"],
        "off"
    );
}

#[tokio::test]
async fn rules_of_ours_are_handed_out_as_plain_flagd() {
    let flag = json!({
        "state": "ENABLED",
        "variants": {"on": true, "off": false},
        "defaultVariant": "off",
        "offVariant": "off",
        "rules": [{
            "id": "ramp",
            "rollout": {"treatment": "on", "control": "off", "share_bp": 2500}
        }]
    });
    let server = Server::start(json!({ "ramp": flag })).await;
    let mut client = FlagSyncServiceClient::new(server.channel().await);
    let answer = client
        .fetch_all_flags(FetchAllFlagsRequest::default())
        .await
        .unwrap();
    let document: Value = serde_json::from_str(&answer.into_inner().flag_configuration).unwrap();
    let plain = &document["flags"]["ramp"];
    assert!(plain.get("rules").is_none(), "{plain}");
    assert!(
        plain["targeting"].to_string().contains("fractional"),
        "{plain}"
    );
}

#[tokio::test]
async fn a_selector_narrows_the_set_and_the_header_beats_the_body() {
    let server = Server::start(flags()).await;
    let mut client = FlagSyncServiceClient::new(server.channel().await);
    let asked = |header: Option<&str>, body: &str| {
        let selector = body.to_owned();
        let mut request = Request::new(FetchAllFlagsRequest {
            selector,
            ..<_>::default()
        });
        if let Some(header) = header {
            request
                .metadata_mut()
                .insert("flagd-selector", header.parse().unwrap());
        }
        request
    };
    let everything = flags().as_object().unwrap().len();
    let cases = [
        (None, "", Ok(everything)),
        (None, "flagSetId=other", Ok(1)),
        (None, "other", Ok(0)),
        (Some("flagSetId=other"), "flagSetId=default", Ok(1)),
        (
            Some("flagSetId=default"),
            "flagSetId=other",
            Ok(everything - 1),
        ),
        (Some("default"), "nonsense=1", Ok(everything)),
        (None, "nonsense=1", Err(Code::InvalidArgument)),
    ];
    for (header, body, expected) in cases {
        let answer = client.fetch_all_flags(asked(header, body)).await;
        let count = answer.map_err(|status| status.code()).map(|answer| {
            keys(&serde_json::from_str(&answer.into_inner().flag_configuration).unwrap()).len()
        });
        assert_eq!(count, expected, "{header:?} {body}");
    }
}

#[tokio::test]
async fn a_slow_client_is_sent_the_newest_set_and_no_backlog() {
    let server = Server::start(flags()).await;
    let mut client = FlagSyncServiceClient::new(server.channel().await);
    let mut stream = client
        .sync_flags(SyncFlagsRequest::default())
        .await
        .unwrap()
        .into_inner();
    next(&mut stream).await;
    let mut last = flags();
    for number in 0..500 {
        last["whole"]["variants"]["ten"] = json!(number);
        server.serve(last.clone());
    }
    let mut received = 0;
    loop {
        received += 1;
        if next(&mut stream).await["flags"]["whole"]["variants"]["ten"] == 499 {
            break;
        }
    }
    assert!(received < 500, "{received} sets for 500 changes");
}

#[tokio::test]
async fn the_static_context_is_empty_and_says_so() {
    let server = Server::start(flags()).await;
    let mut client = FlagSyncServiceClient::new(server.channel().await);
    let metadata = client
        .get_metadata(GetMetadataRequest {})
        .await
        .unwrap()
        .into_inner()
        .metadata;
    assert!(metadata.unwrap().fields.is_empty());
}

#[tokio::test]
async fn status_names_each_client_with_what_it_was_delivered_and_may_get_wrong() {
    let mut dialects = flags();
    dialects["split"] = json!({
        "state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
        "targeting": {"fractional": [["on", 50], ["off", 50]]}
    });
    let server = Server::start(dialects).await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address))
        .unwrap()
        .user_agent("grpc-python/1.76.0")
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = FlagSyncServiceClient::new(channel);
    let asked = SyncFlagsRequest {
        provider_id: "shop".to_owned(),
        ..<_>::default()
    };
    let mut stream = client.sync_flags(asked).await.unwrap().into_inner();
    next(&mut stream).await;
    let report = server
        .app
        .streams
        .clients
        .report(&server.app.live, "default");
    let report = serde_json::to_value(&report).unwrap();
    let seen = &report[0];
    assert_eq!(seen["protocol"], "flagd.sync.v1");
    assert_eq!(seen["provider_id"], "shop");
    assert!(
        seen["user_agent"]
            .as_str()
            .unwrap()
            .starts_with("grpc-python/1.76.0")
    );
    assert_eq!(seen["bucketing_guess"], "v3");
    assert_eq!(seen["delivered_version"], 1);
    assert_eq!(
        seen["leakage"],
        json!({"flags": 1, "behind": 0, "other_dialect": 1, "keys": ["split"]})
    );
    drop(stream);
}
