//! Scalars that several fields share, each with the schema that the API server checks.
//!
//! They hold what the user wrote. No floating point numbers: in an object of Kubernetes a fraction is a string.

use crate::schema::schema;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::borrow::Cow;

/// A duration longer than zero as Gateway API writes it, such as `1h30m` or `250ms` (GEP-2257).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(pub String);

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema(json!({
            "type": "string",
            "maxLength": 28,
            "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$",
            "x-kubernetes-validations": [
                {"rule": "duration(self) > duration('0s')", "message": "must be longer than 0s"},
            ],
        }))
    }
}

/// A percentage from 0 to 100: a whole number, or a decimal one as a string, such as `"0.5"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Percentage {
    /// Such as `10`.
    Whole(u8),
    /// Such as `"0.5"`, with up to four decimals.
    Decimal(String),
}

impl JsonSchema for Percentage {
    fn schema_name() -> Cow<'static, str> {
        "Percentage".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema(json!({
            "x-kubernetes-int-or-string": true,
            "minimum": 0,
            "maximum": 100,
            "maxLength": 8,
            "pattern": "^(100(\\.0{1,4})?|[0-9]{1,2}(\\.[0-9]{1,4})?)$",
        }))
    }
}

/// A block of addresses, such as `10.0.0.0/8` or `fd00::/8`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cidr(pub String);

impl JsonSchema for Cidr {
    fn schema_name() -> Cow<'static, str> {
        "Cidr".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema(json!({"type": "string", "format": "cidr", "maxLength": 43}))
    }
}

/// A share of traffic: a whole number, or a quantity as a string, such as `"500m"` for a half.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Weight {
    /// Such as `1`.
    Whole(u32),
    /// Such as `"500m"` or `"0.5"`.
    Quantity(String),
}

impl Weight {
    /// Longest weight that is written as a string, in characters.
    pub const MAX_LENGTH: usize = 16;
}

impl JsonSchema for Weight {
    fn schema_name() -> Cow<'static, str> {
        "Weight".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema(json!({
            "x-kubernetes-int-or-string": true,
            "minimum": 0,
            "maximum": u32::MAX,
            "maxLength": Self::MAX_LENGTH,
            "pattern": "^([0-9]+m|[0-9]+(\\.[0-9]{1,3})?)$",
        }))
    }
}
