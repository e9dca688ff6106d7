//! What the operator writes: certificates, webhook configurations, trust bundles, status.
