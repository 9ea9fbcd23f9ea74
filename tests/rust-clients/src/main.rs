//! Asks flags through the unmodified OpenFeature providers from crates.io.
//!
//! Standard input is one JSON line: {"provider", "host", "port", "questions": [...], "watch"?}.
//! A question is {"flag", "type", "default", "context"}.
//! Standard output is {"answers": [...]} and, once the watched flag has the awaited value,
//! {"saw": value}. Where the provider gives an error, the caller's own default holds.

use std::time::Duration;

use open_feature::provider::FeatureProvider;
use open_feature::{
    EvaluationContext, EvaluationContextFieldValue, StructValue, Value as FlagValue,
};
use open_feature_flagd::{FlagdOptions, FlagdProvider, ResolverType};
use open_feature_ofrep::{OfrepOptions, OfrepProvider};
use serde_json::{Map, Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a job");
    let job: Value = serde_json::from_str(&line).expect("a job in JSON");
    let provider = provider(&job).await;
    let mut answers = Vec::new();
    for question in job["questions"].as_array().expect("questions") {
        answers.push(answer(provider.as_ref(), question).await);
    }
    println!("{}", json!({ "answers": answers }));
    let watch = &job["watch"];
    while watch.is_object() {
        let value = answer(provider.as_ref(), watch).await["value"].clone();
        if value == watch["until"] {
            println!("{}", json!({ "saw": value }));
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn provider(job: &Value) -> Box<dyn FeatureProvider> {
    let host = text(job, "host").to_owned();
    let port = u16::try_from(job["port"].as_u64().expect("a port")).expect("a port");
    if job["provider"] == "ofrep" {
        let base_url = format!("http://{host}:{port}");
        let options = OfrepOptions {
            base_url,
            ..OfrepOptions::default()
        };
        return Box::new(
            OfrepProvider::new(options)
                .await
                .expect("an OFREP provider"),
        );
    }
    let resolver_type = match text(job, "provider") {
        "in-process" => ResolverType::InProcess,
        "rest" => ResolverType::Rest,
        _ => ResolverType::Rpc,
    };
    let options = FlagdOptions {
        host,
        port,
        resolver_type,
        deadline_ms: 20_000,
        ..FlagdOptions::default()
    };
    Box::new(FlagdProvider::new(options).await.expect("a flagd provider"))
}

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} in {of}"))
}

async fn answer(provider: &dyn FeatureProvider, question: &Value) -> Value {
    let context = context(question["context"].as_object().expect("a context"));
    let flag = text(question, "flag");
    macro_rules! resolved {
        ($method:ident, $convert:expr) => {
            provider
                .$method(flag, &context)
                .await
                .map(|details| ($convert(details.value), details.variant))
        };
    }
    let outcome = match text(question, "type") {
        "boolean" => resolved!(resolve_bool_value, Value::from),
        "string" => resolved!(resolve_string_value, Value::from),
        "integer" => resolved!(resolve_int_value, Value::from),
        "float" => resolved!(resolve_float_value, Value::from),
        _ => resolved!(resolve_struct_value, of_struct),
    };
    match outcome {
        Ok((value, variant)) => json!({ "value": value, "variant": variant }),
        Err(error) => json!({ "value": question["default"], "error": format!("{error:?}") }),
    }
}

fn context(attributes: &Map<String, Value>) -> EvaluationContext {
    let mut context = EvaluationContext::default();
    for (name, value) in attributes {
        context = match value {
            Value::String(text) if name == "targetingKey" => {
                context.with_targeting_key(text.clone())
            }
            Value::String(text) => with(
                context,
                name,
                EvaluationContextFieldValue::String(text.clone()),
            ),
            Value::Bool(truth) => with(context, name, EvaluationContextFieldValue::Bool(*truth)),
            Value::Number(number) => {
                let whole = number.as_i64().map(EvaluationContextFieldValue::Int);
                let value =
                    whole.or_else(|| number.as_f64().map(EvaluationContextFieldValue::Float));
                with(context, name, value.expect("a number"))
            }
            other => panic!("no attribute of a question is {other}"),
        };
    }
    context
}

fn with(
    context: EvaluationContext,
    name: &str,
    value: EvaluationContextFieldValue,
) -> EvaluationContext {
    context.with_custom_field(name.to_owned(), value)
}

fn of_struct(value: StructValue) -> Value {
    value
        .fields
        .into_iter()
        .map(|(name, value)| (name, of_value(value)))
        .collect()
}

fn of_value(value: FlagValue) -> Value {
    match value {
        FlagValue::Bool(truth) => truth.into(),
        FlagValue::Int(number) => number.into(),
        FlagValue::Float(number) => number.into(),
        FlagValue::String(text) => text.into(),
        FlagValue::Array(list) => list.into_iter().map(of_value).collect(),
        FlagValue::Struct(value) => of_struct(value),
    }
}
