//! The proxy's identity as JSON, for people and the CLI: who it is, by which certificate, whom it trusts, and how getting
//! certificates goes. A view: nothing reads it back, and no key is in it.

use crate::identity::{Identity, Root, rfc3339};
use serde_json::{Value, json};

/// What the proxy is now. Without a certificate, what would come from it is null or empty.
pub(super) fn view(identity: &Identity) -> Value {
    let (credentials, progress) = (identity.credentials(), identity.progress().borrow().clone());
    let of = credentials.as_deref();
    json!({
        "identity": of.map(|credentials| credentials.id().as_str()),
        "trustDomain": identity.trust_domain().as_str(),
        "certificateChainPem": of.map(|credentials| credentials.chain_pem()),
        "notBefore": of.map(|credentials| rfc3339(credentials.not_before())),
        "notAfter": of.map(|credentials| rfc3339(credentials.not_after())),
        "trustRoots": of.iter().flat_map(|c| c.bundle().describe()).map(root).collect::<Vec<_>>(),
        "renewals": progress.certificates,
        "lastRenewal": progress.certified.map(rfc3339),
        "lastRenewalError": progress.failure,
    })
}

fn root(root: Root) -> Value {
    json!({ "subject": root.subject, "fingerprint": root.fingerprint, "notAfter": rfc3339(root.not_after) })
}
