//! Who a workload is to its peers: a SPIFFE ID (the SPIFFE ID standard, section 2) in the form that Kubernetes meshes share,
//! `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.

use crate::workload::Workload;
use std::{fmt, str::FromStr, sync::Arc};

/// The scheme, with what separates it.
const SCHEME: &str = "spiffe://";

/// The mesh that identities belong to: lower-case letters, digits, dots, dashes and underscores, at most 255 of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

/// The identity of a service account in a trust domain, in its text form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId(Arc<str>);

/// A text that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No trust domain.
    #[error(
        "must be a trust domain: 1 to 255 lower-case letters, digits, dots, dashes and underscores, such as \
         `cluster.local`, was {0:?}"
    )]
    TrustDomain(String),
    /// No identity of a workload.
    #[error("must be spiffe://<trust domain>/ns/<namespace>/sa/<service account>, was {0:?}")]
    SpiffeId(String),
}

impl TrustDomain {
    /// As it stands in identities.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The identity of a service account of this domain. Kubernetes' names hold nothing that would have to be escaped.
    pub fn identity(&self, namespace: &str, service_account: &str) -> SpiffeId {
        SpiffeId(format!("{SCHEME}{}/ns/{namespace}/sa/{service_account}", self.0).into())
    }

    /// The identity of a workload of this domain.
    pub fn identity_of(&self, workload: &Workload) -> SpiffeId {
        self.identity(&workload.namespace, &workload.service_account)
    }
}

impl SpiffeId {
    /// The whole URI.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        self.parts().0
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        self.parts().1
    }

    /// The service account.
    pub fn service_account(&self) -> &str {
        self.parts().2
    }

    fn parts(&self) -> (&str, &str, &str) {
        parts(&self.0).expect("an identity is read or made in this form only")
    }
}

fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let (domain, path) = text.strip_prefix(SCHEME)?.split_once("/ns/")?;
    let (namespace, service_account) = path.split_once("/sa/")?;
    let names = [namespace, service_account];
    (is_domain(domain) && names.into_iter().all(is_name)).then_some((domain, namespace, service_account))
}

fn is_domain(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    (1..=255).contains(&text.len()) && text.bytes().all(allowed)
}

/// A DNS subdomain (RFC 1123), as Kubernetes names service accounts; namespaces are a part of these.
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 253 && edge(bytes.first()) && edge(bytes.last()) && text.bytes().all(allowed)
}

impl FromStr for TrustDomain {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        match is_domain(text) {
            true => Ok(Self(text.into())),
            false => Err(IdentityError::TrustDomain(text.to_owned())),
        }
    }
}

impl FromStr for SpiffeId {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        match parts(text) {
            Some(_) => Ok(Self(text.into())),
            None => Err(IdentityError::SpiffeId(text.to_owned())),
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_and_read_in_one_form() {
        let domain: TrustDomain = "cluster.local".parse().unwrap();
        let identity = domain.identity("shop", "web.v1");
        assert_eq!(identity.as_str(), "spiffe://cluster.local/ns/shop/sa/web.v1");
        assert_eq!(identity.as_str().parse(), Ok(identity.clone()));
        let parts = (identity.trust_domain(), identity.namespace(), identity.service_account());
        assert_eq!(parts, ("cluster.local", "shop", "web.v1"));
    }

    #[test]
    fn what_only_looks_like_an_identity_is_refused() {
        for wrong in [
            "",
            "spiffe://",
            "spiffe://cluster.local",
            "spiffe:///ns/shop/sa/web",
            "spiffe://cluster.local/ns/shop",
            "spiffe://cluster.local/ns//sa/web",
            "spiffe://cluster.local/ns/shop/sa/",
            "spiffe://cluster.local/ns/shop/sa/web/",
            "spiffe://cluster.local/ns/shop/sa/web?x",
            "spiffe://cluster.local/ns/shop/x/sa/web",
            "spiffe://cluster.local:80/ns/shop/sa/web",
            "spiffe://Cluster.Local/ns/shop/sa/web",
            "spiffe://cluster.local/ns/shop/sa/we%62",
            "https://cluster.local/ns/shop/sa/web",
            "SPIFFE://cluster.local/ns/shop/sa/web",
        ] {
            assert_eq!(wrong.parse::<SpiffeId>(), Err(IdentityError::SpiffeId(wrong.into())));
        }
        for wrong in ["", "a b", "a/b", "A", "a:1"] {
            assert_eq!(wrong.parse::<TrustDomain>(), Err(IdentityError::TrustDomain(wrong.into())));
        }
    }
}
