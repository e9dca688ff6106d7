//! The CustomResourceDefinitions, ready to be written as YAML.

use crate::{ServiceProfile, TrafficPolicy};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

/// Every kind of the group, as the API server takes them.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    let mut definitions = vec![ServiceProfile::crd(), TrafficPolicy::crd()];
    for version in definitions.iter_mut().flat_map(|definition| &mut definition.spec.versions) {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            kubernetes_dialect(schema);
        }
    }
    definitions
}

/// What the derive writes and the API server does not mean:
/// - formats of unsigned integers, which it warns of; the bounds beside them say the same;
/// - `nullable` on optional fields: a null would then count as present in CEL, where it should be refused.
fn kubernetes_dialect(schema: &mut JSONSchemaProps) {
    if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) {
        schema.format = None;
    }
    schema.nullable = None;
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(kubernetes_dialect);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => kubernetes_dialect(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(kubernetes_dialect),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        kubernetes_dialect(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_namespaced_with_a_short_name_and_a_status() {
        for (definition, (name, short)) in
            definitions().iter().zip([("serviceprofiles.conduit.io", "sp"), ("trafficpolicies.conduit.io", "tp")])
        {
            assert_eq!(definition.metadata.name.as_deref(), Some(name));
            assert_eq!(definition.spec.names.short_names.as_deref(), Some(&[short.to_owned()][..]));
            assert_eq!(definition.spec.scope, "Namespaced");
            let version = &definition.spec.versions[0];
            assert!(version.subresources.as_ref().unwrap().status.is_some());
            let columns: Vec<_> =
                version.additional_printer_columns.iter().flatten().map(|column| column.name.as_str()).collect();
            assert_eq!(columns.last(), Some(&"Age"));
            assert!(columns.contains(&"Accepted") && columns.contains(&"Programmed"), "{columns:?}");
        }
    }

    #[test]
    fn every_list_string_and_map_of_a_spec_has_a_maximum() {
        fn visit(path: &str, schema: &JSONSchemaProps, unbounded: &mut Vec<String>) {
            let bounded = match schema.type_.as_deref() {
                Some("string") => schema.max_length.is_some() || schema.enum_.is_some(),
                Some("array") => schema.max_items.is_some(),
                Some("object") if schema.additional_properties.is_some() => schema.max_properties.is_some(),
                _ => true,
            };
            if !bounded {
                unbounded.push(path.to_owned());
            }
            for (name, property) in schema.properties.iter().flatten() {
                visit(&format!("{path}.{name}"), property, unbounded);
            }
            if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
                visit(&format!("{path}[]"), items, unbounded);
            }
            if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
                visit(&format!("{path}{{}}"), values, unbounded);
            }
        }
        for definition in definitions() {
            let schema = definition.spec.versions[0].schema.as_ref().unwrap();
            let spec = &schema.open_api_v3_schema.as_ref().unwrap().properties.as_ref().unwrap()["spec"];
            let mut unbounded = Vec::new();
            visit("spec", spec, &mut unbounded);
            assert!(unbounded.is_empty(), "{}: {unbounded:?}", definition.spec.names.kind);
        }
    }

    #[test]
    fn the_schema_has_no_format_that_the_api_server_warns_of_and_takes_no_null() {
        let text = serde_json::to_string(&definitions()).unwrap();
        assert!(!text.contains("\"format\":\"uint"), "unsigned formats are not Kubernetes'");
        assert!(!text.contains("\"nullable\""));
    }
}
