//! Reads a ServiceProfile: routes and response classes become what a proxy is told, fields that nothing carries out yet
//! are checked all the same and named.

mod condition;
mod syntax;

use super::{
    created,
    declared::{Declared, Profile},
    fault::Faults,
    name::ObjectName,
};
use conduit_crds::{
    ServiceProfile,
    service_profile::{
        self as crd, MAX_DST_OVERRIDES, MAX_OPAQUE_PORTS, MAX_RESPONSE_CLASSES, MAX_ROUTE_NAME, MAX_ROUTES, RouteSpec,
    },
};
use conduit_model::{Classification, ObjectRef, ResponseClass, Route};
use std::collections::HashMap;

/// The name that metrics give to requests that take no route; a route cannot have it.
const DEFAULT_ROUTE: &str = "[DEFAULT]";

/// Reads `profile`, in a cluster with this DNS domain, such as `cluster.local`. Every fault is reported.
pub fn parse(profile: &ServiceProfile, cluster_domain: &str) -> Declared<Profile> {
    let metadata = &profile.metadata;
    let name =
        ObjectName::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
    let source =
        ObjectRef { kind: "ServiceProfile".into(), namespace: name.namespace.clone(), name: name.name.clone() };
    let mut faults = Faults::default();
    if service(&name.name, cluster_domain).is_none() {
        let expected = format!("must be <service>.<namespace>.svc.{cluster_domain}, was {:?}", name.name);
        faults.invalid("metadata.name", expected);
    }

    let crd::ServiceProfileSpec { routes, retry_budget, dst_overrides, opaque_ports } = &profile.spec;
    let routes = match routes {
        Some(routes) => read_routes(routes, &source, &mut faults),
        None => Vec::new(),
    };
    if let Some(budget) = retry_budget {
        check_retry_budget(budget, &mut faults);
    }
    if let Some(destinations) = dst_overrides {
        check_dst_overrides(destinations, &mut faults);
    }
    if let Some(ports) = opaque_ports {
        check_opaque_ports(ports, &mut faults);
    }
    let (value, faults) = faults.with(Profile { routes });
    Declared { name, generation: metadata.generation.unwrap_or_default(), created: created(metadata), value, faults }
}

/// The Service that a ServiceProfile of this name is for.
pub fn service(profile: &str, cluster_domain: &str) -> Option<ObjectName> {
    let (name, namespace) = profile.strip_suffix(cluster_domain)?.strip_suffix(".svc.")?.split_once('.')?;
    let both = !name.is_empty() && !namespace.is_empty() && !namespace.contains('.');
    both.then(|| ObjectName::new(namespace, name))
}

fn read_routes(routes: &[RouteSpec], source: &ObjectRef, faults: &mut Faults) -> Vec<Route> {
    faults.check_length("spec.routes", routes, MAX_ROUTES);
    let mut seen = HashMap::new();
    let mut read = Vec::with_capacity(routes.len());
    for (i, route) in routes.iter().enumerate() {
        let path = format!("spec.routes[{i}]");
        check_route_name(&path, &route.name, faults);
        if let Some(first) = seen.insert(route.name.as_str(), i) {
            let expected =
                format!("must differ from every other route's, was {:?}, as in spec.routes[{first}]", route.name);
            faults.invalid(format!("{path}.name"), expected);
        }
        read.extend(read_route(&path, route, source, faults));
    }
    read
}

fn check_route_name(path: &str, name: &str, faults: &mut Faults) {
    let path = format!("{path}.name");
    match name.chars().count() {
        0 => faults.invalid(path, "must not be empty"),
        n if n > MAX_ROUTE_NAME => {
            faults.invalid(path, format!("must have at most {MAX_ROUTE_NAME} characters, had {n}"));
        }
        _ if name == DEFAULT_ROUTE => {
            faults.invalid(path, format!("must not be {DEFAULT_ROUTE}, which metrics call requests without a route"));
        }
        _ => {}
    }
}

/// The route, unless its condition has a fault.
fn read_route(path: &str, route: &RouteSpec, source: &ObjectRef, faults: &mut Faults) -> Option<Route> {
    let RouteSpec { name, condition, response_classes, is_retryable, timeout } = route;
    let condition = condition::read(&format!("{path}.condition"), condition, faults);
    let classes = match response_classes {
        Some(classes) => read_response_classes(&format!("{path}.responseClasses"), classes, faults),
        None => Vec::new(),
    };
    if *is_retryable == Some(true) {
        faults.unsupported(format!("{path}.isRetryable"));
    }
    if let Some(timeout) = timeout.as_deref().filter(|timeout| !timeout.is_empty()) {
        faults.check_unsupported(&format!("{path}.timeout"), syntax::timeout(timeout));
    }
    Some(Route { name: name.clone(), condition: condition?, response_classes: classes, source: source.clone() })
}

fn read_response_classes(path: &str, classes: &[crd::ResponseClass], faults: &mut Faults) -> Vec<ResponseClass> {
    faults.check_length(path, classes, MAX_RESPONSE_CLASSES);
    let read = classes.iter().enumerate().filter_map(|(i, class)| {
        let condition = condition::read(&format!("{path}[{i}].condition"), &class.condition, faults)?;
        let classification = match class.is_failure {
            Some(true) => Classification::Failure,
            Some(false) | None => Classification::Success,
        };
        Some(ResponseClass { condition, classification })
    });
    read.collect()
}

fn check_retry_budget(budget: &crd::RetryBudget, faults: &mut Faults) {
    let crd::RetryBudget { retry_ratio, min_retries_per_second, ttl } = budget;
    if !(0.0..=1000.0).contains(retry_ratio) {
        faults.invalid("spec.retryBudget.retryRatio", format!("must be from 0 to 1000, was {retry_ratio}"));
    }
    if i32::try_from(*min_retries_per_second).is_err() {
        let expected = format!("must be from 0 to {}, was {min_retries_per_second}", i32::MAX);
        faults.invalid("spec.retryBudget.minRetriesPerSecond", expected);
    }
    faults.check("spec.retryBudget.ttl", syntax::budget_ttl(ttl));
    faults.unsupported("spec.retryBudget");
}

fn check_dst_overrides(destinations: &[crd::WeightedDst], faults: &mut Faults) {
    faults.check_length("spec.dstOverrides", destinations, MAX_DST_OVERRIDES);
    for (i, crd::WeightedDst { authority, weight }) in destinations.iter().enumerate() {
        faults.check(&format!("spec.dstOverrides[{i}].authority"), syntax::authority(authority));
        faults.check(&format!("spec.dstOverrides[{i}].weight"), syntax::weight(weight));
    }
    faults.unsupported("spec.dstOverrides");
}

fn check_opaque_ports(ports: &[String], faults: &mut Faults) {
    faults.check_length("spec.opaquePorts", ports, MAX_OPAQUE_PORTS);
    for (i, port) in ports.iter().enumerate() {
        faults.check(&format!("spec.opaquePorts[{i}]"), syntax::port_or_range(port));
    }
    faults.unsupported("spec.opaquePorts");
}

#[cfg(test)]
mod tests;
