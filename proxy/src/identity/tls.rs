//! What every TLS connection of the proxy has in common: version, cryptography and clock. Knows no certificate.

use rustls::{
    ClientConfig, ConfigBuilder, ServerConfig, WantsVerifier,
    crypto::{CryptoProvider, aws_lc_rs},
    time_provider::{DefaultTimeProvider, TimeProvider},
    version::TLS13,
};
use std::sync::{Arc, LazyLock};

/// aws-lc-rs, with the post-quantum hybrid key exchange preferred, and AES-128 for the bytes, as Go and BoringSSL have it
/// where the processor helps: every byte of the mesh passes it twice.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    use aws_lc_rs::{
        cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256},
        kx_group::{SECP256R1, X25519, X25519MLKEM768},
    };
    Arc::new(CryptoProvider {
        cipher_suites: vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256],
        kx_groups: vec![X25519MLKEM768, X25519, SECP256R1],
        ..aws_lc_rs::default_provider()
    })
});

/// Tells the time by which certificates are valid; another one only in tests.
pub type Clock = Arc<dyn TimeProvider>;

/// The clock of the system.
pub(super) fn system_clock() -> Clock {
    Arc::new(DefaultTimeProvider)
}

/// The cryptography of every connection.
pub(super) fn provider() -> &'static Arc<CryptoProvider> {
    &PROVIDER
}

/// The beginning of a client's configuration: TLS 1.3 alone (RFC 8446).
pub(super) fn client(clock: &Clock) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_details(provider().clone(), clock.clone()).with_protocol_versions(&[&TLS13])
}

/// The beginning of a server's configuration: TLS 1.3 alone (RFC 8446).
pub(super) fn server(clock: &Clock) -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, rustls::Error> {
    ServerConfig::builder_with_details(provider().clone(), clock.clone()).with_protocol_versions(&[&TLS13])
}
