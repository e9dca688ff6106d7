//! Whom the proxy trusts, and what proves who it is. Opens files, but no connections, and knows no protocol above TLS.

mod operator;

pub use operator::{CredentialError, OperatorCredentials};
