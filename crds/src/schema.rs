//! Helpers for the schemas that a derive cannot write.

use schemars::Schema;
use serde_json::Value;

/// The schema in `value`, which must be a JSON object.
pub(crate) fn schema(value: Value) -> Schema {
    Schema::try_from(value).expect("the literal is a JSON object")
}
