//! flagd's selector over OFREP: which flags a client is shown.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod support;

use serde_json::{Value, json};
use support::{Server, flags, json as call, send};

const ALL: &str = "/ofrep/v1/evaluate/flags";

async fn bulk(server: &Server, selector: Option<&str>) -> (u16, Value) {
    let headers: Vec<(&str, &str)> = selector
        .map(|selector| ("flagd-selector", selector))
        .into_iter()
        .collect();
    call(server.address, "POST", ALL, &headers, &json!({})).await
}

fn keys(answer: &Value) -> Vec<&str> {
    let flags = answer["flags"].as_array().unwrap();
    flags
        .iter()
        .map(|flag| flag["key"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_bulk_answer_has_the_flags_of_the_selection_and_says_which() {
    let server = Server::start(flags()).await;
    let (_, everything) = bulk(&server, None).await;
    let all = flags().as_object().unwrap().len();
    assert_eq!(keys(&everything).len(), all);
    assert_eq!(everything["metadata"]["flagSetId"], "default");

    let (status, other) = bulk(&server, Some("flagSetId=other")).await;
    assert_eq!((status, keys(&other)), (200, vec!["elsewhere"]));
    assert_eq!(other["metadata"]["flagSetId"], "other");

    let (_, own) = bulk(&server, Some("flagSetId=default")).await;
    assert_eq!(keys(&own).len(), all - 1);
    for source in ["source=default", "default"] {
        let (_, whole) = bulk(&server, Some(source)).await;
        assert_eq!(keys(&whole).len(), all, "{source}");
        assert_eq!(whole["metadata"]["source"], "default");
    }
    for nothing in ["flagSetId=", "source=elsewhere", "flagSetId=missing"] {
        let (status, empty) = bulk(&server, Some(nothing)).await;
        assert_eq!((status, keys(&empty).len()), (200, 0), "{nothing}");
    }
}

#[tokio::test]
async fn a_flag_outside_the_selection_is_not_there() {
    let server = Server::start(flags()).await;
    let one = async |key: &str, selector: &str| {
        let path = format!("{ALL}/{key}");
        let headers = [("Flagd-Selector", selector)];
        call(server.address, "POST", &path, &headers, &json!({})).await
    };
    for (key, selector, expected) in [
        ("on", "flagSetId=default", 200),
        ("on", "flagSetId=other", 404),
        ("elsewhere", "flagSetId=other", 200),
        ("elsewhere", "flagSetId=default", 404),
        ("elsewhere", "source=default", 200),
        ("on", "flagSetId=", 404),
    ] {
        let (status, said) = one(key, selector).await;
        assert_eq!(status, expected, "{key} {selector}: {said}");
        let is_absent = said["errorCode"] == "FLAG_NOT_FOUND";
        assert_eq!(is_absent, expected == 404, "{key} {selector}: {said}");
    }
}

#[tokio::test]
async fn a_selector_that_is_none_is_refused_with_the_cure() {
    let server = Server::start(flags()).await;
    for path in [ALL.to_owned(), format!("{ALL}/on")] {
        let headers = [("flagd-selector", "app=weather")];
        let (status, said) = call(server.address, "POST", &path, &headers, &json!({})).await;
        assert_eq!(
            (status, &said["errorCode"]),
            (400, &json!("GENERAL")),
            "{path}"
        );
        let details = said["errorDetails"].as_str().unwrap();
        assert!(details.contains("flagSetId"), "{details}");
    }
}

#[tokio::test]
async fn the_entity_tag_of_one_selection_never_fits_another() {
    let server = Server::start(flags()).await;
    let tag_of = async |selector: Option<&str>, known: Option<&str>| {
        let selector = selector.map(|selector| ("flagd-selector", selector));
        let known = known.map(|tag| ("if-none-match", tag));
        let headers: Vec<(&str, &str)> = selector.into_iter().chain(known).collect();
        let response = send(server.address, "POST", ALL, &headers, "{}").await;
        let tag = response.headers()["etag"].to_str().unwrap().to_owned();
        (response.status().as_u16(), tag)
    };
    let selections = [None, Some("flagSetId=other"), Some("source=default")];
    let mut tags = Vec::new();
    for selection in selections {
        tags.push(tag_of(selection, None).await.1);
    }
    for (asked, selection) in selections.into_iter().enumerate() {
        for (known, tag) in tags.iter().enumerate() {
            let (status, _) = tag_of(selection, Some(tag)).await;
            let expected = if asked == known { 304 } else { 200 };
            assert_eq!(status, expected, "{selection:?} with the tag of {known}");
        }
    }
}
