//! Who may reach the application: whoever a [`Permit`] was made out for, and nobody else. Every way to the application
//! takes one, and only the decisions here make them.
//!
//! The decision is made for each request and for each connection that is not read, by what is known at that moment. A
//! stream that is open already goes on when policy becomes stricter.

use crate::{http::headers, identity::VerifiedPeer, outcome::Failure};
use conduit_model::Admission;
use http::Request;
use std::net::IpAddr;

/// Whom a connection is from.
#[derive(Clone, Debug)]
pub(super) enum Client {
    /// A peer that has proved its identity.
    Peer(VerifiedPeer),
    /// Anybody, at this address.
    Unverified(IpAddr),
}

/// Leave to reach the application, once.
#[derive(Debug)]
#[must_use]
pub(super) struct Permit(());

/// Decides on one request. `admission`: what whoever comes from an address is served that has proved nothing.
///
/// # Errors
/// It must not reach the application.
pub(super) fn request<'a, B>(
    client: &Client,
    admission: impl FnOnce(IpAddr) -> Admission<'a>,
    request: &Request<B>,
) -> Result<Permit, Failure> {
    let Client::Unverified(from) = client else { return Ok(Permit(())) };
    let admission = admission(*from);
    // A probe asks for an answer; what it is answered with must not become a way to all the rest.
    let is_probe = || !headers::wants_upgrade(request) && admission.admits(request.method(), request.uri().path());
    permit(admission.admits_all() || is_probe())
}

/// Lets a peer reach the application by a connection whose bytes are not read.
pub(super) fn peer(_peer: &VerifiedPeer) -> Permit {
    Permit(())
}

/// Decides on a connection whose bytes are not read, of a client that has proved nothing.
///
/// # Errors
/// It must not reach the application.
pub(super) fn bytes(admission: Admission<'_>) -> Result<Permit, Failure> {
    permit(admission.admits_all())
}

/// Decides on a connection by the application's own TLS, whose client the application may know, and the proxy does not.
///
/// # Errors
/// It must not reach the application.
pub(super) fn tls(admission: Admission<'_>) -> Result<Permit, Failure> {
    permit(admission.admits_tls())
}

fn permit(admitted: bool) -> Result<Permit, Failure> {
    if admitted { Ok(Permit(())) } else { Err(Failure::TlsRequired) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conduit_model::Probe;
    use http::Method;

    #[test]
    fn a_probe_is_served_and_neither_what_is_beside_it_nor_a_tunnel_by_its_path() {
        let client = Client::Unverified([10, 0, 0, 1].into());
        let probes = [Probe::Path("/ready".into())];
        let decided = |uri: &str, upgrade: bool| {
            let mut probe = Request::get(uri);
            if upgrade {
                probe = probe.header("connection", "upgrade").header("upgrade", "websocket");
            }
            request(&client, |_| Admission::Probes(&probes), &probe.body(()).unwrap()).map(drop)
        };
        assert_eq!(decided("/ready", false), Ok(()));
        assert_eq!(decided("/ready?verbose", false), Ok(()));
        assert_eq!(decided("http://10.0.0.9:8080/ready", false), Ok(()));
        for (uri, upgrade) in [("/ready", true), ("/", false), ("/ready/../admin", false), ("/?/ready", false)] {
            assert_eq!(decided(uri, upgrade), Err(Failure::TlsRequired), "{uri}");
        }
        let posted = Request::builder().method(Method::POST).uri("/ready").body(()).unwrap();
        assert!(request(&client, |_| Admission::Probes(&probes), &posted).is_err());
    }

    #[test]
    fn bytes_that_are_not_read_are_admitted_only_where_everything_is() {
        let probes = [Probe::Path("/ready".into()), Probe::Tls];
        assert!(bytes(Admission::Open).is_ok());
        assert!(bytes(Admission::Probes(&probes)).is_err());
        assert!(tls(Admission::Probes(&probes)).is_ok());
        assert!(tls(Admission::Probes(&probes[..1])).is_err());
        assert!(tls(Admission::NOTHING).is_err());
    }
}
