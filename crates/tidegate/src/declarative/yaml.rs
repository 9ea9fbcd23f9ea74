//! JSON values as YAML that every reader reads back as the same.
//!
//! YAML 1.1, which many tools still speak, takes `on`, `off`, `yes` and `no` for booleans, and
//! those are the commonest names of variants. So a text stands plain only if no version of YAML
//! could take it for anything else; any other is quoted, in the form YAML shares with JSON.

use std::fmt::Write as _;

use serde_json::Value;

/// Words that some version of YAML takes for something else than text, in lower case.
const WORDS: [&str; 10] = [
    "y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan",
];

/// The value in block style, with a line end.
pub(crate) fn to_yaml(value: &Value) -> String {
    match inline(value) {
        Some(text) => format!("{text}\n"),
        None => block(value, 0),
    }
}

/// A container that is not empty, each line indented by `indent`.
fn block(value: &Value, indent: usize) -> String {
    let mut out = String::new();
    let room = " ".repeat(indent);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = scalar(name);
                let _ = match inline(value) {
                    Some(text) => writeln!(out, "{room}{name}: {text}"),
                    None => write!(out, "{room}{name}:\n{}", block(value, indent + 2)),
                };
            }
        }
        Value::Array(items) => {
            for item in items {
                let text = match inline(item) {
                    Some(text) => format!("{text}\n"),
                    // Its first line goes behind the dash.
                    None => block(item, indent + 2)[indent + 2..].to_owned(),
                };
                let _ = write!(out, "{room}- {text}");
            }
        }
        _ => {}
    }
    out
}

/// What fits on its name's line.
fn inline(value: &Value) -> Option<String> {
    match value {
        Value::Object(fields) if fields.is_empty() => Some("{}".to_owned()),
        Value::Array(items) if items.is_empty() => Some("[]".to_owned()),
        Value::Object(_) | Value::Array(_) => None,
        Value::String(text) => Some(scalar(text)),
        other => Some(other.to_string()),
    }
}

fn scalar(text: &str) -> String {
    let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let goes_on = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let is_a_word = WORDS.contains(&text.to_ascii_lowercase().as_str());
    if begins && !is_a_word && text.chars().all(goes_on) {
        return text.to_owned();
    }
    quoted(text)
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if needs_escape(c) => {
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// What YAML does not take as it is, or takes for the end of a line.
fn needs_escape(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_yaml_1_1_takes_for_a_boolean_is_quoted() {
        let value = json!({"variants": {"on": true, "off": false}, "defaultVariant": "off",
            "list": ["yes", "No", "plain", "1.0", "", "a: b"], "nested": [{"n": [1, 2.5]}, [], {}]});
        let text = to_yaml(&value);
        let expected = "variants:\n  \"on\": true\n  \"off\": false\ndefaultVariant: \"off\"\n\
                        list:\n  - \"yes\"\n  - \"No\"\n  - plain\n  - \"1.0\"\n  - \"\"\n  - \"a: b\"\n\
                        nested:\n  - \"n\":\n      - 1\n      - 2.5\n  - []\n  - {}\n";
        assert_eq!(text, expected);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[a-zA-Z0-9.:#-]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_as_it_was(value in values()) {
            let text = to_yaml(&value);
            let back: Value = serde_norway::from_str(&text).map_err(|error| {
                TestCaseError::fail(format!("{error}\n{text}"))
            })?;
            prop_assert_eq!(&back, &value, "{}", text);
        }
    }
}
