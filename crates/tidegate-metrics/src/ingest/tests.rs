//! The parser through its public door: what is accepted, and exactly what is said otherwise.

use super::*;
use crate::{EventKind, PropertyValue};
use proptest::prelude::*;

const NOW_US: i64 = 1_780_272_000_000_000;

fn parse(text: &str) -> ParsedBatch {
    parse_events(text.as_bytes(), &Limits::default(), Arrival::at(NOW_US)).unwrap()
}

fn only_rejections(text: &str) -> Vec<(String, RejectionCode)> {
    let batch = parse(text);
    assert!(batch.accepted.is_empty(), "{text} was accepted");
    batch
        .rejected
        .into_iter()
        .map(|r| (r.pointer, r.code))
        .collect()
}

const CHECKOUT: &str = r#"{"id":"018f4d9c-5f1e-7a3b-8c2d-0123456789ab","time":"2026-06-01T00:00:00Z","unit":"user-17","kind":"track","name":"checkout_completed","value":42.5,"properties":{"device":"mobile","new":true,"basket":-0.0},"flags":{"new-checkout":"on","a":"b"}}"#;

#[test]
fn reads_every_field_of_the_documented_event() {
    let event = parse(CHECKOUT).accepted.remove(0);
    assert_eq!(event.id.to_string(), "018f4d9c-5f1e-7a3b-8c2d-0123456789ab");
    assert_eq!(event.time_us, NOW_US);
    assert_eq!(event.received_us, NOW_US);
    assert_eq!(event.unit.as_ref(), "user-17");
    assert_eq!(event.kind, EventKind::Track);
    assert_eq!(event.name.as_ref(), "checkout_completed");
    assert_eq!(event.value, Some(42.5));
    assert_eq!(event.variant("new-checkout"), Some("on"));
    assert_eq!(event.variant("absent"), None);
    let mobile = PropertyValue::Text("mobile".into());
    assert_eq!(event.property("device"), Some(&mobile));
    assert_eq!(event.property("new"), Some(&PropertyValue::Bool(true)));
    let Some(PropertyValue::Number(basket)) = event.property("basket") else {
        panic!("basket is a number");
    };
    assert!(basket.is_sign_positive());
}

#[test]
fn an_array_and_lines_give_the_same_events() {
    let other = CHECKOUT.replace("89ab", "89ac");
    let lines = parse(&format!("{CHECKOUT}\n\n{other}\n"));
    let array = parse(&format!(" [{CHECKOUT} , {other}]\n"));
    assert_eq!(lines.accepted.len(), 2);
    assert_eq!(lines.accepted, array.accepted);
}

#[test]
fn names_every_fault_of_an_event_at_once() {
    let faults = only_rejections(
        r#"{"id":"x","time":"yesterday","unit":"","kind":"click","name":7,"value":"1","colour":1,"unit":"u","properties":{"a":[1],"b":18446744073709551615},"flags":[]}"#,
    );
    let expected = [
        ("/colour", RejectionCode::FieldUnknown),
        ("/unit", RejectionCode::FieldDuplicate),
        ("/kind", RejectionCode::KindUnknown),
        ("/id", RejectionCode::IdInvalid),
        ("/time", RejectionCode::TimeInvalid),
        ("/unit", RejectionCode::TextEmpty),
        ("/name", RejectionCode::TypeMismatch),
        ("/value", RejectionCode::TypeMismatch),
        ("/properties/a", RejectionCode::TypeMismatch),
        ("/properties/b", RejectionCode::NumberNotExact),
        ("/flags", RejectionCode::TypeMismatch),
    ];
    let expected: Vec<_> = expected.map(|(p, c)| (p.to_owned(), c)).into();
    assert_eq!(faults, expected);
}

#[test]
fn one_bad_line_costs_only_itself() {
    let batch = parse(&format!("{CHECKOUT}\n{{\"time\":NaN}}\n17\n{CHECKOUT}"));
    assert_eq!(batch.accepted.len(), 2);
    let found: Vec<_> = batch.rejected.iter().map(|r| (r.index, r.code)).collect();
    assert_eq!(
        found,
        [
            (1, RejectionCode::JsonInvalid),
            (2, RejectionCode::TypeMismatch)
        ]
    );
    assert_eq!(batch.rejected_events(), 2);
}

#[test]
fn a_number_out_of_range_in_an_array_costs_only_its_event() {
    let huge = CHECKOUT.replace("42.5", "1e999");
    let batch = parse(&format!("[{huge},{CHECKOUT}]"));
    assert_eq!(batch.accepted.len(), 1);
    assert_eq!(batch.rejected[0].code, RejectionCode::JsonInvalid);
}

#[test]
fn bad_utf8_is_one_events_fault_in_lines() {
    let mut bytes = CHECKOUT.as_bytes().to_vec();
    bytes.extend(b"\n{\"unit\":\"\xff\"}");
    let batch = parse_events(&bytes, &Limits::default(), Arrival::at(NOW_US)).unwrap();
    assert_eq!(batch.accepted.len(), 1);
    assert_eq!(batch.rejected[0].code, RejectionCode::EncodingInvalid);
}

#[test]
fn hostile_shapes_are_refused_in_constant_memory() {
    let deep = format!(
        r#"{{"time":"2026-06-01T00:00:00Z","unit":"u","kind":"track","name":"n","properties":{{"a":{}1{}}}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    assert_eq!(
        only_rejections(&deep),
        [("/properties/a".to_owned(), RejectionCode::TypeMismatch)]
    );
    let many: String = (0..4000).map(|i| format!("\"k{i}\":1,")).collect();
    let many = CHECKOUT.replace("\"device\"", &format!("{many}\"device\""));
    assert_eq!(
        only_rejections(&many),
        [("/properties".to_owned(), RejectionCode::TooManyProperties)]
    );
    let long = CHECKOUT.replace("user-17", &"u".repeat(100_000));
    assert_eq!(
        only_rejections(&long),
        [(String::new(), RejectionCode::EventTooLarge)]
    );
    let unbalanced = "[".repeat(1_000_000);
    assert!(matches!(
        parse_events(unbalanced.as_bytes(), &Limits::default(), Arrival::at(0)),
        Err(BatchError::Malformed { .. })
    ));
}

#[test]
fn batches_over_their_limits_are_refused_whole() {
    let limits = Limits {
        max_events: 1,
        max_batch_bytes: 2 * CHECKOUT.len() + 3,
        ..Limits::default()
    };
    for two in [
        format!("{CHECKOUT}\n{CHECKOUT}"),
        format!("[{CHECKOUT},{CHECKOUT}]"),
    ] {
        let error = parse_events(two.as_bytes(), &limits, Arrival::at(0)).unwrap_err();
        assert_eq!(error, BatchError::TooManyEvents { limit: 1 });
    }
    let three = format!("{CHECKOUT}\n{CHECKOUT}\n{CHECKOUT}");
    assert!(matches!(
        parse_events(three.as_bytes(), &limits, Arrival::at(0)),
        Err(BatchError::TooManyBytes { .. })
    ));
}

#[test]
fn quarantines_only_what_is_more_than_a_day_ahead() {
    for (time, is_quarantined) in [
        ("2026-06-02T00:00:00Z", false),
        ("2026-06-02T00:00:00.000001Z", true),
        ("1999-01-01T00:00:00Z", false),
    ] {
        let batch = parse(&CHECKOUT.replace("2026-06-01T00:00:00Z", time));
        assert_eq!(batch.accepted[0].is_quarantined, is_quarantined, "{time}");
        assert_eq!(batch.quarantined() == 1, is_quarantined);
    }
}

#[test]
fn an_event_without_id_gets_one_from_what_it_says() {
    let base = r#"{"time":"2026-06-01T00:00:00Z","unit":"u","kind":"track","name":"n"}"#;
    let same = r#"{"name":"n","kind":"track","unit":"u","time":"2026-06-01T02:00:00+02:00"}"#;
    let other = base.replace("\"u\"", "\"v\"");
    let ids: Vec<_> = [base, same, &other]
        .iter()
        .map(|text| parse(text).accepted[0].id)
        .collect();
    assert!(ids[0].is_derived());
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
}

#[test]
fn each_kind_carries_what_its_meaning_needs() {
    let exposure = r#"{"time":"2026-06-01T00:00:00Z","unit":"u","kind":"exposure","name":"f","flags":{"g":"on"}}"#;
    assert_eq!(
        only_rejections(exposure),
        [("/flags".to_owned(), RejectionCode::ExposureWithoutVariant)]
    );
    let request = r#"{"time":"2026-06-01T00:00:00Z","unit":"u","kind":"request","value":-1,"properties":{"status":99,"error":"no"}}"#;
    assert_eq!(
        only_rejections(request),
        [
            ("/value".to_owned(), RejectionCode::NumberOutOfRange),
            (
                "/properties/status".to_owned(),
                RejectionCode::NumberOutOfRange
            ),
            ("/properties/error".to_owned(), RejectionCode::TypeMismatch)
        ]
    );
}

#[test]
fn a_request_fails_by_its_error_or_else_by_its_status() {
    for (properties, fails) in [
        (r#"{"status":500}"#, true),
        (r#"{"status":499}"#, false),
        (r#"{"status":503,"error":false}"#, false),
        (r#"{"status":200,"error":true}"#, true),
        ("{}", false),
    ] {
        let text = format!(
            r#"{{"time":"2026-06-01T00:00:00Z","unit":"u","kind":"request","value":3,"properties":{properties}}}"#
        );
        let event = parse(&text).accepted.remove(0);
        assert_eq!(event.is_failed_request(), fails, "{properties}");
        assert_eq!(event.name.as_ref(), "request");
    }
}

proptest! {
    #[test]
    fn arbitrary_json_like_text_is_answered_without_panic(
        text in r#"[\[{]("(id|time|unit|kind|flags|x)"|[:,{}\[\]]|-?[0-9]{1,20}|"[a-z\\]{0,3}"|null|true){0,20}"#
    ) {
        let _ = parse_events(text.as_bytes(), &Limits::default(), Arrival::at(NOW_US));
    }
}

#[test]
fn fuzz_the_parser() {
    bolero::check!().for_each(|bytes: &[u8]| {
        if let Ok(batch) = parse_events(bytes, &Limits::default(), Arrival::at(NOW_US)) {
            for event in &batch.accepted {
                assert!(event.value.is_none_or(f64::is_finite));
                assert!(!event.unit.is_empty() && !event.name.is_empty());
            }
        }
    });
}
