//! Conditions of a ServiceProfile on requests and on responses.
//!
//! The Rust types nest freely. The schema of a CustomResourceDefinition cannot recurse, so it is unrolled to
//! [`MAX_LEVELS`]; on the last level `all`, `any` and `not` are still declared, only to be refused: an undeclared field
//! would be pruned without a word by the API server, and the condition would then match too much.

use crate::schema::schema;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::{Value, json};
use std::{borrow::Cow, fmt, marker::PhantomData};

/// Deepest nesting of conditions: a condition of a route is level 1, one within its `all` is level 2.
pub const MAX_LEVELS: usize = 3;
/// Most conditions in an `all` or `any` on requests.
pub const MAX_REQUEST_CONDITIONS: usize = 32;
/// Most conditions in an `all` or `any` on responses. What a schema with rules on every level may cost bounds it: with 16
/// the API server refuses the definition.
pub const MAX_RESPONSE_CONDITIONS: usize = 12;
/// Longest `pathRegex`, in characters.
pub const MAX_PATH_REGEX: usize = 1024;
/// Longest `method`, in characters.
pub const MAX_METHOD: usize = 64;
/// Said of a condition on a level past [`MAX_LEVELS`].
pub const TOO_DEEP: &str =
    "conditions nest at most three levels deep; write it as one pathRegex or split it over several routes or classes";

/// A condition on a request. Several fields together must all be met; at least one is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestMatch {
    /// Every one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<Vec<RequestMatch>>,
    /// At least one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub any: Option<Vec<RequestMatch>>,
    /// Not this one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "one_condition")]
    pub not: Option<Box<RequestMatch>>,
    /// A regular expression in the syntax of Rust's `regex` that the whole path matches, without the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<String>,
    /// The method, exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
}

/// A condition on a response. Several fields together must all be met; at least one is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResponseMatch {
    /// Every one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<Vec<ResponseMatch>>,
    /// At least one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub any: Option<Vec<ResponseMatch>>,
    /// Not this one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "one_condition")]
    pub not: Option<Box<ResponseMatch>>,
    /// The HTTP status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusRange>,
}

/// HTTP statuses from `min` to `max`, both included; where one is absent, exactly the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusRange {
    /// The lowest, 100 to 599.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// The highest, 100 to 599.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

impl JsonSchema for RequestMatch {
    fn schema_name() -> Cow<'static, str> {
        "RequestMatch".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let leaves = json!({
            "pathRegex": {
                "description": "A regular expression in the syntax of Rust's `regex` crate that the whole path must match, \
                    without the query. It is anchored at both ends whether or not it says so.",
                "type": "string", "minLength": 1, "maxLength": MAX_PATH_REGEX,
            },
            "method": {
                "description": "The method, exactly.",
                "type": "string", "minLength": 1, "maxLength": MAX_METHOD,
                "pattern": "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$",
            },
        });
        schema(unrolled(1, "A condition on a request.", &leaves, MAX_REQUEST_CONDITIONS))
    }
}

impl JsonSchema for ResponseMatch {
    fn schema_name() -> Cow<'static, str> {
        "ResponseMatch".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let code = |which: &str| {
            json!({
                "description": format!("The {which} status of the range; if absent, the range is the other one alone."),
                "type": "integer", "format": "int32", "minimum": 100, "maximum": 599,
            })
        };
        let leaves = json!({
            "status": {
                "description": "A range of HTTP statuses, both ends included.",
                "type": "object",
                "properties": { "min": code("lowest"), "max": code("highest") },
                "x-kubernetes-validations": [
                    {"rule": "has(self.min) || has(self.max)", "message": "must set at least one of min, max"},
                    {"rule": "!has(self.min) || !has(self.max) || self.min <= self.max", "message": "min must not be above max"},
                ],
            },
        });
        schema(unrolled(1, "A condition on a response.", &leaves, MAX_RESPONSE_CONDITIONS))
    }
}

/// The schema of a condition on `level`: its `leaves`, and `all`, `any` and `not` of the next level.
fn unrolled(level: usize, about: &str, leaves: &Value, max_items: usize) -> Value {
    let last = level == MAX_LEVELS;
    let next = match last {
        true => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        false => unrolled(level + 1, about, leaves, max_items),
    };
    let list = |about: &str| json!({"description": about, "type": "array", "minItems": 1, "maxItems": max_items, "items": next});
    let mut properties = leaves.clone();
    properties["all"] = list("Every one of these.");
    properties["any"] = list("At least one of these.");
    properties["not"] = next.clone();
    properties["not"]["description"] = "Not this one.".into();
    // Never met: a list is no object. Without it the API server complains of unknown fields within the list, with it of
    // the list itself.
    properties["not"]["items"] = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let fields: Vec<_> = properties.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let any_set: Vec<_> = fields.iter().map(|name| format!("has(self.{name})")).collect();
    let mut rules = vec![
        json!({"rule": any_set.join(" || "), "message": format!("must set at least one of {}", fields.join(", "))}),
    ];
    if last {
        rules.push(json!({"rule": "!has(self.all) && !has(self.any) && !has(self.not)", "message": TOO_DEEP}));
    }
    json!({
        "description": format!("{about} Several fields together must all be met; at least one is set."),
        "type": "object",
        "properties": properties,
        "x-kubernetes-validations": rules,
    })
}

/// Reads `not`. Linkerd's own definition asks for a list there while its code wants an object; a list of one is refused
/// by name, where serde would take it for the fields in their order.
fn one_condition<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Box<T>>, D::Error> {
    struct OneCondition<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for OneCondition<T> {
        type Value = Option<Box<T>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("one condition")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map)).map(|condition| Some(Box::new(condition)))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
            Err(A::Error::custom("`not` must be one condition, not a list; for several, write `not: {any: [...]}`"))
        }

        fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }

    deserializer.deserialize_any(OneCondition(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_in_not_is_refused_by_name() {
        let error = serde_json::from_value::<RequestMatch>(json!({"not": [{"method": "GET"}]})).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`not` must be one condition, not a list; for several, write `not: {any: [...]}`"
        );
        let taken: RequestMatch = serde_json::from_value(json!({"not": {"method": "GET"}})).unwrap();
        assert_eq!(taken.not.unwrap().method.as_deref(), Some("GET"));
    }

    #[test]
    fn the_schema_nests_three_levels_and_refuses_a_fourth() {
        let schema = RequestMatch::json_schema(&mut SchemaGenerator::default()).to_value();
        let third = &schema["properties"]["all"]["items"]["properties"]["not"];
        assert_eq!(third["properties"]["pathRegex"]["type"], "string");
        assert_eq!(third["x-kubernetes-validations"][1]["message"], TOO_DEEP);
        assert!(third["properties"]["any"]["items"]["properties"].is_null());
    }
}
