//! haproxy as both halves of a mesh: one thread, mutual TLS 1.3 between the halves. Must not know how it is run.

use super::{Half, PORTS};
use std::{net::Ipv4Addr, path::Path};

const CLIENT: &str = include_str!("haproxy-client.cfg");
const SERVER: &str = include_str!("haproxy-server.cfg");

/// The configuration of one half.
pub(super) fn configuration(half: Half, server: Ipv4Addr, certificates: &Path) -> String {
    let template = match half {
        Half::Client => CLIENT,
        Half::Server => SERVER,
    };
    let ports = [
        ("@OUT_H1@", PORTS.outbound.http1),
        ("@OUT_H2@", PORTS.outbound.http2),
        ("@OUT_TCP@", PORTS.outbound.tcp),
        ("@IN_H1@", PORTS.inbound.http1),
        ("@IN_H2@", PORTS.inbound.http2),
        ("@IN_TCP@", PORTS.inbound.tcp),
    ];
    let text = template.replace("@SERVER@", &server.to_string()).replace("@CERTS@", &certificates.to_string_lossy());
    ports.iter().fold(text, |text, (word, port)| text.replace(word, &port.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_of_a_template_is_left() {
        for half in [Half::Client, Half::Server] {
            let text = configuration(half, Ipv4Addr::LOCALHOST, Path::new("certs"));
            assert!(!text.contains('@'), "{text}");
        }
    }
}
