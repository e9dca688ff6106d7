//! Everything that the index knows at one moment, with the look-ups that compilation needs.
//!
//! Each change is carried out on the objects and on the look-ups beside them, and answers which facts it changed. The
//! work is that of the object alone, but for a Service whose selector changes: its namespace's pods are then looked
//! through once. An object that comes again as it was changes nothing.

use super::{
    change::{Fact, Facts},
    declared::{Block, Declared, PolicyTarget, Profile, TargetedPolicy},
    lookup::Lookup,
    name::ObjectName,
    namespace::Namespace,
    node::Node,
    object::{Key, Kind, Object},
    pod::Pod,
    profile,
    service::{AppProtocol, Service},
    slice::Slice,
};
use bytes::Bytes;
use ipnet::IpNet;
use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

/// The cluster as it is known.
#[derive(Debug)]
pub struct View {
    cluster_domain: Arc<str>,
    trust_bundle: Vec<Bytes>,
    probe_networks: Vec<IpNet>,
    namespaces: HashMap<String, Namespace>,
    nodes: HashMap<String, Node>,
    services: HashMap<ObjectName, Service>,
    slices: HashMap<ObjectName, Slice>,
    pods: HashMap<ObjectName, Pod>,
    profiles: HashMap<ObjectName, Declared<Profile>>,
    policies: HashMap<ObjectName, TargetedPolicy>,

    services_by_ip: Lookup<IpAddr, ObjectName>,
    /// By the first label of a Service's selector, which every pod behind it has.
    services_by_label: Lookup<(String, String, String), ObjectName>,
    slices_by_service: Lookup<ObjectName, ObjectName>,
    slices_by_pod: Lookup<ObjectName, ObjectName>,
    pods_by_ip: Lookup<IpAddr, ObjectName>,
    pods_by_namespace: Lookup<String, ObjectName>,
    /// By the policies' own namespace.
    policies_by_namespace: Lookup<String, ObjectName>,
    /// Those because of which a client may have to refuse plaintext.
    policies_requiring_tls: BTreeSet<ObjectName>,
}

impl View {
    pub(super) fn new(cluster_domain: Arc<str>) -> Self {
        Self {
            cluster_domain,
            trust_bundle: Vec::new(),
            probe_networks: Vec::new(),
            namespaces: HashMap::new(),
            nodes: HashMap::new(),
            services: HashMap::new(),
            slices: HashMap::new(),
            pods: HashMap::new(),
            profiles: HashMap::new(),
            policies: HashMap::new(),
            services_by_ip: Lookup::default(),
            services_by_label: Lookup::default(),
            slices_by_service: Lookup::default(),
            slices_by_pod: Lookup::default(),
            pods_by_ip: Lookup::default(),
            pods_by_namespace: Lookup::default(),
            policies_by_namespace: Lookup::default(),
            policies_requiring_tls: BTreeSet::new(),
        }
    }

    /// The cluster's DNS domain, such as `cluster.local`.
    pub fn cluster_domain(&self) -> &str {
        &self.cluster_domain
    }

    /// The roots of the mesh, X.509 in DER; the one that signs now is the first. Empty until there is an issuer.
    pub fn trust_bundle(&self) -> &[Bytes] {
        &self.trust_bundle
    }

    /// Where the kubelet's probes come from on every node.
    pub fn probe_networks(&self) -> &[IpNet] {
        &self.probe_networks
    }

    /// The Namespace of this name.
    pub fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)
    }

    /// The Node of this name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// Whether an address is in some node's range for pods, so that it is a pod's, known or not.
    pub fn is_pods(&self, ip: IpAddr) -> bool {
        self.nodes.values().flat_map(|node| &node.pod_ranges).any(|range| range.contains(&ip))
    }

    /// The Service of this name.
    pub fn service(&self, name: &ObjectName) -> Option<&Service> {
        self.services.get(name)
    }

    /// Every Service.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// The Service that has this virtual address.
    pub fn service_at(&self, ip: IpAddr) -> Option<&Service> {
        self.services_by_ip.get(&ip).find_map(|name| self.services.get(name))
    }

    /// The Services that select a pod, oldest first.
    pub fn services_selecting(&self, pod: &Pod) -> Vec<&Service> {
        let namespace = &pod.name.namespace;
        let first = |(key, value): (&String, &String)| (namespace.clone(), key.clone(), value.clone());
        let named = pod.labels.iter().flat_map(|label| self.services_by_label.get(&first(label)));
        let mut services: Vec<_> =
            named.filter_map(|name| self.services.get(name)).filter(|service| service.selects(&pod.labels)).collect();
        services.sort_unstable_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        services
    }

    /// A Service's slices, in the order of their names.
    pub fn slices(&self, service: &ObjectName) -> impl Iterator<Item = &Slice> {
        self.slices_by_service.get(service).filter_map(|name| self.slices.get(name))
    }

    /// The Pod of this name.
    pub fn pod(&self, name: &ObjectName) -> Option<&Pod> {
        self.pods.get(name)
    }

    /// The Pod that has this address for itself.
    pub fn pod_at(&self, ip: IpAddr) -> Option<&Pod> {
        self.pods_by_ip.get(&ip).find_map(|name| self.pods.get(name))
    }

    /// The ServiceProfile of this name.
    pub fn profile(&self, name: &ObjectName) -> Option<&Declared<Profile>> {
        self.profiles.get(name)
    }

    /// Every ServiceProfile.
    pub fn profiles(&self) -> impl Iterator<Item = &Declared<Profile>> {
        self.profiles.values()
    }

    /// The TrafficPolicies of a namespace, which are all that can have the namespace or anything in it as a target.
    pub fn policies_in(&self, namespace: &str) -> impl Iterator<Item = &TargetedPolicy> {
        self.policies_by_namespace.get(namespace).filter_map(|name| self.policies.get(name))
    }

    /// Whether there is a policy because of which a client may have to refuse plaintext.
    pub fn requires_tls_anywhere(&self) -> bool {
        !self.policies_requiring_tls.is_empty()
    }

    /// Every TrafficPolicy.
    pub fn policies(&self) -> impl Iterator<Item = &TargetedPolicy> {
        self.policies.values()
    }

    /// `<name>.<namespace>.svc.<cluster domain>`.
    pub fn fqdn(&self, service: &ObjectName) -> String {
        format!("{}.{}.svc.{}", service.name, service.namespace, self.cluster_domain)
    }

    /// Names of all objects of a kind.
    pub(super) fn names(&self, kind: Kind) -> Vec<ObjectName> {
        match kind {
            Kind::Namespace => self.namespaces.keys().map(|name| ObjectName::new("", name)).collect(),
            Kind::Node => self.nodes.keys().map(|name| ObjectName::new("", name)).collect(),
            Kind::Service => self.services.keys().cloned().collect(),
            Kind::EndpointSlice => self.slices.keys().cloned().collect(),
            Kind::Pod => self.pods.keys().cloned().collect(),
            Kind::ServiceProfile => self.profiles.keys().cloned().collect(),
            Kind::TrafficPolicy => self.policies.keys().cloned().collect(),
        }
    }

    pub(super) fn apply(&mut self, object: Object, facts: &mut Facts) {
        let name = object.key().name;
        match object {
            Object::Namespace(namespace) => self.set_namespace(name, Some(namespace), facts),
            Object::Node(node) => self.set_node(name, Some(node), facts),
            Object::Service(service) => self.set_service(name, Some(service), facts),
            Object::EndpointSlice(slice) => self.set_slice(name, Some(slice), facts),
            Object::Pod(pod) => self.set_pod(name, Some(pod), facts),
            Object::ServiceProfile(profile) => self.set_profile(name, Some(profile), facts),
            Object::TrafficPolicy(policy) => self.set_policy(name, Some(policy), facts),
        }
    }

    pub(super) fn delete(&mut self, key: Key, facts: &mut Facts) {
        let name = key.name;
        match key.kind {
            Kind::Namespace => self.set_namespace(name, None, facts),
            Kind::Node => self.set_node(name, None, facts),
            Kind::Service => self.set_service(name, None, facts),
            Kind::EndpointSlice => self.set_slice(name, None, facts),
            Kind::Pod => self.set_pod(name, None, facts),
            Kind::ServiceProfile => self.set_profile(name, None, facts),
            Kind::TrafficPolicy => self.set_policy(name, None, facts),
        }
    }

    pub(super) fn set_trust_bundle(&mut self, roots: Vec<Bytes>, facts: &mut Facts) {
        if self.trust_bundle != roots {
            self.trust_bundle = roots;
            facts.insert(Fact::TrustBundle);
        }
    }

    pub(super) fn set_probe_networks(&mut self, networks: Vec<IpNet>, facts: &mut Facts) {
        if self.probe_networks != networks {
            self.probe_networks = networks;
            facts.insert(Fact::ProbeNetworks);
        }
    }

    fn set_namespace(&mut self, name: ObjectName, new: Option<Namespace>, facts: &mut Facts) {
        if swap(&mut self.namespaces, name.name.clone(), new).is_some() {
            facts.insert(Fact::Namespace(name.name));
        }
    }

    fn set_node(&mut self, name: ObjectName, new: Option<Node>, facts: &mut Facts) {
        let Some(old) = swap(&mut self.nodes, name.name.clone(), new) else { return };
        if old.map(|node| node.pod_ranges) != self.node(&name.name).map(|node| node.pod_ranges.clone()) {
            facts.insert(Fact::PodRanges);
        }
        facts.insert(Fact::Node(name.name));
    }

    fn set_service(&mut self, name: ObjectName, new: Option<Service>, facts: &mut Facts) {
        let selector = new.as_ref().map(|service| service.selector.clone());
        let Some(old) = swap(&mut self.services, name.clone(), new) else { return };
        if let Some(old) = &old {
            self.services_by_ip.remove_all(&old.cluster_ips, &name);
            self.services_by_label.remove_all(&first_label(old), &name);
        }
        let new = self.services.get(&name);
        if let Some(new) = new {
            warn_of_unknown_protocols(new);
            self.services_by_ip.insert_all(&new.cluster_ips, &name);
            self.services_by_label.insert_all(&first_label(new), &name);
        }
        // Pods that were selected before depend on the Service already; those that now are have to be found.
        if selector != old.as_ref().map(|old| old.selector.clone())
            && let Some(new) = new
        {
            let pods = self.pods_by_namespace.get(&name.namespace).filter_map(|pod| self.pods.get(pod));
            let selected = pods.filter(|pod| new.selects(&pod.labels));
            facts.extend(selected.map(|pod| Fact::Pod(pod.name.clone())));
        }
        let addresses = old.iter().chain(new).flat_map(|service| &service.cluster_ips);
        facts.extend(addresses.copied().map(Fact::Address));
        facts.insert(Fact::Service(name));
    }

    fn set_slice(&mut self, name: ObjectName, new: Option<Slice>, facts: &mut Facts) {
        let Some(old) = swap(&mut self.slices, name.clone(), new) else { return };
        let foreign = |slice: Option<&Slice>| slice.is_some_and(Slice::has_foreign_endpoint);
        let new = self.slices.get(&name);
        if foreign(old.as_ref()) != foreign(new) {
            facts.extend(old.iter().chain(new).map(|slice| Fact::Service(slice.service.clone())));
        }
        if let Some(old) = &old {
            self.slices_by_service.remove(&old.service, &name);
            self.slices_by_pod.remove_all(old.endpoints.iter().filter_map(|e| e.pod.as_ref()), &name);
        }
        if let Some(new) = new {
            self.slices_by_service.insert(new.service.clone(), name.clone());
            self.slices_by_pod.insert_all(new.endpoints.iter().filter_map(|e| e.pod.as_ref()), &name);
        }
        facts.extend(old.iter().chain(new).map(|slice| Fact::Endpoints(slice.service.clone())));
    }

    fn set_pod(&mut self, name: ObjectName, new: Option<Pod>, facts: &mut Facts) {
        let Some(old) = swap(&mut self.pods, name.clone(), new) else { return };
        let new = self.pods.get(&name);
        if let Some(old) = &old {
            self.pods_by_ip.remove_all(own_addresses(old), &name);
        }
        if let Some(new) = new {
            self.pods_by_ip.insert_all(own_addresses(new), &name);
            self.pods_by_namespace.insert(name.namespace.clone(), name.clone());
        } else {
            self.pods_by_namespace.remove(&name.namespace, &name);
        }
        facts.extend(old.iter().chain(new).flat_map(own_addresses).copied().map(Fact::Address));
        let slices = self.slices_by_pod.get(&name).filter_map(|slice| self.slices.get(slice));
        facts.extend(slices.map(|slice| Fact::Endpoints(slice.service.clone())));
        facts.insert(Fact::Pod(name));
    }

    fn set_profile(&mut self, name: ObjectName, new: Option<Declared<Profile>>, facts: &mut Facts) {
        if swap(&mut self.profiles, name.clone(), new).is_some() {
            facts.extend(profile::service(&name.name, &self.cluster_domain).map(Fact::Service));
        }
    }

    fn set_policy(&mut self, name: ObjectName, new: Option<TargetedPolicy>, facts: &mut Facts) {
        let Some(old) = swap(&mut self.policies, name.clone(), new) else { return };
        let required = self.requires_tls_anywhere();
        if old.is_some() {
            self.policies_by_namespace.remove(&name.namespace, &name);
            self.policies_requiring_tls.remove(&name);
        }
        let new = self.policies.get(&name);
        if let Some(new) = new {
            self.policies_by_namespace.insert(name.namespace.clone(), name.clone());
            if new.may_require_tls() {
                self.policies_requiring_tls.insert(name.clone());
            }
        }
        for policy in old.iter().chain(new) {
            facts.extend(policy.targets.iter().filter_map(|target| match target {
                PolicyTarget::Service { name: service, .. } => {
                    Some(Fact::Service(ObjectName::new(&name.namespace, service)))
                }
                PolicyTarget::Pods(_) | PolicyTarget::Namespace | PolicyTarget::Unreadable => {
                    Some(Fact::Namespace(name.namespace.clone()))
                }
                PolicyTarget::Unsupported { .. } => None,
            }));
            // Whom a pod serves at a port is the business of clients of every Service that leads to it.
            if policy.sets.contains(&Block::InboundMtls) {
                facts.insert(Fact::Namespace(name.namespace.clone()));
            }
        }
        if required != self.requires_tls_anywhere() {
            facts.insert(Fact::RequiredTls);
        }
    }
}

/// Puts `new` in the place of what is there, or takes that away. What was there before is answered if anything changed.
fn swap<K: Eq + std::hash::Hash, T: PartialEq>(
    objects: &mut HashMap<K, T>,
    key: K,
    new: Option<T>,
) -> Option<Option<T>> {
    if objects.get(&key) == new.as_ref() {
        return None;
    }
    Some(match new {
        Some(new) => objects.insert(key, new),
        None => objects.remove(&key),
    })
}

/// Says once for each state of a Service which of its declarations mean nothing.
fn warn_of_unknown_protocols(service: &Service) {
    for port in &service.ports {
        if let Some(AppProtocol::Unknown(value)) = &port.app_protocol {
            let (service, port) = (&service.name, port.port);
            tracing::warn!(%service, port, app_protocol = value, "appProtocol is not understood; connections are looked at");
        }
    }
}

fn first_label(service: &Service) -> Option<(String, String, String)> {
    let (key, value) = service.selector.first_key_value()?;
    Some((service.name.namespace.clone(), key.clone(), value.clone()))
}

/// The addresses by which a pod can be told: a host's are many pods', and a finished pod's may be another's by now.
fn own_addresses(pod: &Pod) -> &[IpAddr] {
    if pod.host_network || pod.finished { &[] } else { &pod.ips }
}
