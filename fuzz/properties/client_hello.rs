//! The first bytes of a connection to a meshed pod: a ClientHello or anything else.

use conduit_proxy::listen::client_hello::{Hello, read};

/// What was decided on the first bytes holds whatever comes after them.
pub fn holds(bytes: &[u8]) {
    let all = read(bytes);
    for length in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
        let early = read(&bytes[..length]);
        assert!(early == Hello::Incomplete || early == all, "{early:?} became {all:?}");
    }
}
