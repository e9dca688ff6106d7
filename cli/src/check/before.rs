//! What should hold before Conduit is installed. Pure.

use super::finding::{Check, Fact, Group, Verdict, on};

/// The oldest minor version of Kubernetes 1 in which the proxy can be a native sidecar (KEP-753).
pub(crate) const OLDEST_MINOR: u32 = 29;

/// What the checks look at.
pub(crate) struct Facts {
    pub(crate) version: Fact<Version>,
    /// Rights that the chart needs and that are missing.
    pub(crate) missing_rights: Fact<Vec<Right>>,
    /// Objects of the cluster that have the names of Conduit's.
    pub(crate) present: Fact<Vec<Present>>,
    /// Where it is to be installed.
    pub(crate) namespace: String,
}

/// The API server's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) major: u32,
    pub(crate) minor: u32,
}

/// To create objects of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Right {
    /// Plural, as in `kubectl auth can-i create`.
    pub(crate) resource: &'static str,
    pub(crate) group: &'static str,
    pub(crate) scope: Scope,
}

/// Where a right has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Cluster,
    /// The namespace of Conduit.
    Namespace,
}

/// An object that is there already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Present {
    /// Kind and name.
    pub(crate) object: String,
    /// The namespace of the Helm release that owns it, if one does.
    pub(crate) release_namespace: Option<String>,
}

/// Every kind of object that the chart creates.
pub(crate) const RIGHTS: [Right; 12] = [
    cluster("customresourcedefinitions", "apiextensions.k8s.io"),
    cluster("clusterroles", "rbac.authorization.k8s.io"),
    cluster("clusterrolebindings", "rbac.authorization.k8s.io"),
    cluster("mutatingwebhookconfigurations", "admissionregistration.k8s.io"),
    cluster("validatingwebhookconfigurations", "admissionregistration.k8s.io"),
    namespaced("deployments", "apps"),
    namespaced("services", ""),
    namespaced("serviceaccounts", ""),
    namespaced("secrets", ""),
    namespaced("roles", "rbac.authorization.k8s.io"),
    namespaced("rolebindings", "rbac.authorization.k8s.io"),
    namespaced("poddisruptionbudgets", "policy"),
];

pub(crate) const GROUP: Group<Facts> = Group { name: "before installation", checks: CHECKS };

const CHECKS: &[Check<Facts>] = &[
    kubernetes_version(|facts| new_enough(&facts.version)),
    Check {
        id: "can-create-webhooks",
        title: "you may create the objects of the cluster that Conduit needs",
        hint: "have somebody with the role cluster-admin install Conduit",
        explanation: "CustomResourceDefinitions, ClusterRoles, ClusterRoleBindings and webhook configurations, asked for \
                      by SelfSubjectAccessReview.",
        decide: |facts| rights(facts, Scope::Cluster),
    },
    Check {
        id: "can-create-operator",
        title: "you may create the objects in Conduit's namespace",
        hint: "have somebody with the role cluster-admin install Conduit",
        explanation: "The Deployment, Service, ServiceAccount, Secrets, Role, RoleBinding and PodDisruptionBudget, asked \
                      for by SelfSubjectAccessReview.",
        decide: |facts| rights(facts, Scope::Namespace),
    },
    Check {
        id: "no-other-install",
        title: "no other installation of Conduit is in the cluster",
        hint: "uninstall the other one, or remove what it left behind, first",
        explanation: "There is one Conduit in a cluster. Objects of the cluster with its names that belong to no Helm \
                      release, or to one in another namespace, make `helm install` fail. The CustomResourceDefinitions are \
                      kept by `helm uninstall` on purpose and belong to the next release in the same namespace.",
        decide: |facts| on(&facts.present, |present| others(present, &facts.namespace)),
    },
];

const fn cluster(resource: &'static str, group: &'static str) -> Right {
    Right { resource, group, scope: Scope::Cluster }
}

const fn namespaced(resource: &'static str, group: &'static str) -> Right {
    Right { resource, group, scope: Scope::Namespace }
}

/// Whether Kubernetes is new enough, which does not end with the installation.
pub(crate) const fn kubernetes_version<F>(decide: fn(&F) -> Verdict) -> Check<F> {
    Check {
        id: "kubernetes-version",
        title: "the API server answers and is Kubernetes 1.29 or newer",
        hint: "upgrade the cluster: the proxy is a native sidecar, which older versions do not have",
        explanation: "The proxy starts before a pod's own containers and stops after them. Kubernetes can do that from \
                      1.29 on (KEP-753).",
        decide,
    }
}

/// Decides on the version of Kubernetes.
pub(crate) fn new_enough(version: &Fact<Version>) -> Verdict {
    on(version, |version| match version {
        Version { major: 1, minor } if *minor < OLDEST_MINOR => Verdict::Failed(format!("it is Kubernetes 1.{minor}")),
        Version { major: 0, minor } => Verdict::Failed(format!("it is Kubernetes 0.{minor}")),
        Version { .. } => Verdict::Passed,
    })
}

fn rights(facts: &Facts, scope: Scope) -> Verdict {
    on(&facts.missing_rights, |missing| {
        let missing = missing.iter().filter(|right| right.scope == scope);
        Verdict::failed_if(
            missing
                .map(|Right { resource, group, .. }| match *group {
                    "" => format!("not allowed to create {resource}"),
                    group => format!("not allowed to create {resource}.{group}"),
                })
                .collect(),
        )
    })
}

fn others(present: &[Present], namespace: &str) -> Verdict {
    let others = present.iter().filter(|present| present.release_namespace.as_deref() != Some(namespace));
    Verdict::failed_if(
        others
            .map(|present| match &present.release_namespace {
                Some(other) => format!("{} belongs to a release in namespace {other}", present.object),
                None => format!("{} belongs to no Helm release", present.object),
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Unknown;
    use super::*;

    fn facts() -> Facts {
        Facts {
            version: Ok(Version { major: 1, minor: 29 }),
            missing_rights: Ok(Vec::new()),
            present: Ok(Vec::new()),
            namespace: "conduit".into(),
        }
    }

    #[test]
    fn an_empty_new_cluster_passes_everything() {
        assert!(CHECKS.iter().all(|check| (check.decide)(&facts()) == Verdict::Passed));
    }

    #[test]
    fn kubernetes_is_new_enough_from_1_29_on() {
        let of = |major, minor| {
            GROUP.verdict("kubernetes-version", &Facts { version: Ok(Version { major, minor }), ..facts() })
        };
        assert_eq!(of(1, 28), Verdict::Failed("it is Kubernetes 1.28".into()));
        assert_eq!([of(1, 29), of(1, 34), of(2, 0)], [Verdict::Passed, Verdict::Passed, Verdict::Passed]);
        let silent = Facts { version: Err(Unknown::Failed("no answer".into())), ..facts() };
        assert_eq!(GROUP.verdict("kubernetes-version", &silent), Verdict::Failed("no answer".into()));
    }

    #[test]
    fn each_missing_right_is_named_where_it_is_missing() {
        let missing = vec![RIGHTS[0].clone(), RIGHTS[6].clone()];
        let facts = Facts { missing_rights: Ok(missing), ..facts() };
        let definitions = "not allowed to create customresourcedefinitions.apiextensions.k8s.io";
        assert_eq!(GROUP.verdict("can-create-webhooks", &facts), Verdict::Failed(definitions.into()));
        assert_eq!(
            GROUP.verdict("can-create-operator", &facts),
            Verdict::Failed("not allowed to create services".into())
        );
    }

    #[test]
    fn what_belongs_to_another_installation_is_in_the_way() {
        let present = |release: Option<&str>| Facts {
            present: Ok(vec![Present {
                object: "ClusterRole conduit-operator".into(),
                release_namespace: release.map(Into::into),
            }]),
            ..facts()
        };
        assert_eq!(GROUP.verdict("no-other-install", &present(Some("conduit"))), Verdict::Passed);
        let other = "ClusterRole conduit-operator belongs to a release in namespace mesh";
        assert_eq!(GROUP.verdict("no-other-install", &present(Some("mesh"))), Verdict::Failed(other.into()));
        let none = "ClusterRole conduit-operator belongs to no Helm release";
        assert_eq!(GROUP.verdict("no-other-install", &present(None)), Verdict::Failed(none.into()));
    }
}
