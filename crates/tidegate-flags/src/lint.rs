//! Warnings about a flag that compiles but cannot be meant.

use crate::problem::Warning;
use crate::spec::FlagSpec;
use serde_json::Value;

/// Looks over one flag and its plain targeting.
pub(crate) fn flag(
    key: &str,
    spec: &FlagSpec,
    _targeting: Option<&Value>,
    warnings: &mut Vec<Warning>,
) {
    if crate::resolution::FlagType::of(spec.variants.values()).is_none() {
        warnings.push(Warning {
            flag: Some(key.to_owned()),
            pointer: "/variants".to_owned(),
            code: "mixed_types",
            message: "the variants are not all of one type".to_owned(),
        });
    }
}
