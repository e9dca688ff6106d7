//! `conduit identity`: what a pod's proxy proves to its peers that it is, as its admin server tells on `/identity`.
//!
//! What comes from a proxy is read here, once; how it is asked and how a table looks is not known here.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::certificate::{self, Certificate, Unreadable, span};

/// Where a proxy tells of its identity.
pub(crate) const PATH: &str = "/identity";

/// What a proxy said.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    identity: Option<String>,
    certificate_chain_pem: Option<String>,
    #[serde(default)]
    trust_roots: Vec<Root>,
    #[serde(default)]
    renewals: u64,
    last_renewal_error: Option<String>,
}

/// What proxies verify each other with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all(deserialize = "camelCase"))]
pub(crate) struct Root {
    pub(crate) subject: String,
    /// SHA-256, hexadecimal.
    pub(crate) fingerprint: String,
    pub(crate) not_after: Timestamp,
}

/// A proxy's identity, if it has one yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Identity {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    /// The SPIFFE ID.
    pub(crate) identity: Option<String>,
    /// The proxy's certificate, then those that lead to a root.
    pub(crate) chain: Vec<Certificate>,
    /// The one that signs now is the first.
    pub(crate) trust_roots: Vec<Root>,
    pub(crate) renewals: u64,
    /// Why the last attempt at a certificate failed; absent where it did not.
    pub(crate) last_renewal_error: Option<String>,
    #[serde(skip)]
    pub(crate) pem: String,
}

/// An answer that cannot be read.
#[derive(Debug, Error)]
pub(crate) enum Malformed {
    #[error("expected its identity as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Chain(#[from] Unreadable),
}

impl Identity {
    /// Reads what the proxy of a pod said.
    ///
    /// # Errors
    /// It is not what a proxy says.
    pub(crate) fn read(namespace: String, pod: String, text: &str) -> Result<Self, Malformed> {
        let answer: Answer = serde_json::from_str(text)?;
        let pem = answer.certificate_chain_pem.unwrap_or_default();
        Ok(Self {
            namespace,
            pod,
            identity: answer.identity,
            chain: if pem.is_empty() { Vec::new() } else { certificate::read(&pem)? },
            trust_roots: answer.trust_roots,
            renewals: answer.renewals,
            last_renewal_error: answer.last_renewal_error,
            pem,
        })
    }

    /// The proxy's own certificate.
    pub(crate) fn certificate(&self) -> Option<&Certificate> {
        self.chain.first()
    }

    /// The chain in PEM, with a line that says whose it is (RFC 7468, section 2, allows for it).
    pub(crate) fn pem(&self) -> String {
        format!("# {}/{}\n{}\n", self.namespace, self.pod, self.pem.trim_end())
    }

    /// All of it, for a person, line by line.
    pub(crate) fn described(&self, now: Timestamp) -> String {
        let mut lines = vec![("identity", self.identity.clone().unwrap_or_else(|| "none yet".into()))];
        if let Some(own) = self.certificate() {
            lines.push(("key", own.key.clone()));
            lines.push(("serial", own.serial.clone()));
            lines.push(("issuer", own.issuer.clone()));
            lines.push(("valid", format!("{} to {}, {}", own.not_before, own.not_after, left(own, now))));
            lines.push(("renewal", renewal(own, now)));
        }
        lines.push(("renewals", self.renewals.to_string()));
        for root in &self.trust_roots {
            let Root { subject, fingerprint, not_after } = root;
            lines.push(("trust root", format!("{subject}, until {not_after}, SHA-256 {fingerprint}")));
        }
        if let Some(error) = &self.last_renewal_error {
            lines.push(("last error", error.clone()));
        }
        let lines = lines.into_iter().map(|(name, value)| format!("  {name:<11} {value}\n"));
        format!("{}/{}\n{}", self.namespace, self.pod, lines.collect::<String>())
    }
}

/// How long a certificate is still valid.
pub(crate) fn left(certificate: &Certificate, now: Timestamp) -> String {
    let left = certificate.left(now);
    if left.is_positive() { format!("{} left", span(left)) } else { format!("expired {} ago", span(left)) }
}

/// When a certificate is to be renewed.
pub(crate) fn renewal(certificate: &Certificate, now: Timestamp) -> String {
    let until = certificate.renewal().duration_since(now);
    if until.is_positive() { format!("in about {}", span(until)) } else { format!("due since about {}", span(until)) }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::certificate::tests::{CHAIN, ROOT};
    use crate::render::{self, Paint};
    use crate::stat::tests::assert_golden;

    /// Ten hours after the certificate of the tests began.
    pub(crate) fn now() -> Timestamp {
        "2026-01-01T10:00:00Z".parse().unwrap()
    }

    pub(crate) fn front() -> Identity {
        let root = &certificate::read(ROOT).unwrap()[0];
        let text = json!({
            "identity": "spiffe://cluster.local/ns/shop/sa/front",
            "certificateChainPem": CHAIN,
            "notBefore": "2026-01-01T00:00:00Z",
            "notAfter": "2026-01-02T00:00:00Z",
            "trustRoots": [{"subject": root.subject, "fingerprint": root.fingerprint, "notAfter": "2035-12-30T00:00:00Z"}],
            "renewals": 3,
            "lastRenewalError": null,
        });
        Identity::read("shop".into(), "front-1".into(), &text.to_string()).unwrap()
    }

    pub(crate) fn without() -> Identity {
        let text = json!({"identity": null, "certificateChainPem": null, "trustRoots": [], "renewals": 0,
            "lastRenewalError": "the operator does not answer: connection refused"});
        Identity::read("shop".into(), "cart-0".into(), &text.to_string()).unwrap()
    }

    #[test]
    fn the_description_of_one_proxy() {
        assert_golden("identity.txt", &(front().described(now()) + &without().described(now())));
    }

    #[test]
    fn the_table_of_several_proxies() {
        let expired = Identity { pod: "front-2".into(), ..front() };
        let late = "2026-01-01T17:00:00Z".parse().unwrap();
        let rows = [front(), without()];
        assert_golden("identities.txt", &render::identities(&rows, Paint::Plain, true, now()));
        let late = render::identities(&[expired], Paint::Plain, false, late);
        assert!(late.contains("7h0m left   due since about 12m"), "{late}");
    }

    #[test]
    fn pem_says_whose_it_is_and_can_be_read_again() {
        let pem = front().pem();
        assert!(pem.starts_with("# shop/front-1\n-----BEGIN CERTIFICATE-----\n"), "{pem}");
        assert_eq!(certificate::read(&pem).unwrap(), front().chain);
    }

    #[test]
    fn the_proxys_own_certificate_is_the_first() {
        let front = front();
        assert_eq!(front.certificate().unwrap().uris, [front.identity.clone().unwrap()]);
        assert_eq!(without().certificate(), None);
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_refused() {
        let read = |text: &str| Identity::read("a".into(), "b".into(), text).unwrap_err().to_string();
        assert!(read("no page").starts_with("expected its identity as JSON"));
        assert!(read("{\"certificateChainPem\": \"x\"}").starts_with("expected certificates in PEM"));
    }
}
