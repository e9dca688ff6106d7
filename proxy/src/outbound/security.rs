//! Whether connections to an endpoint are secured: what policy says, what discovery says of the endpoint, and whether it is
//! this very pod. Pure.

use crate::record::labels::NoTls;
use conduit_model::{DirectReason, Endpoint, EndpointProxy, Forward, Outbound, OutboundTlsMode, Transport};
use std::net::IpAddr;

/// How connections to an endpoint are to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision<'e> {
    /// By mutual TLS, with nobody but this endpoint's workload.
    Mtls(&'e Endpoint),
    /// As they are, for this reason.
    Plaintext(NoTls),
    /// Not at all: policy requires mutual TLS, and there is none for this reason.
    Refused(NoTls),
}

/// Decides for connections to `ip`, where `endpoint` is if discovery knows one there.
pub(super) fn decide<'e>(
    config: &Outbound,
    endpoint: Option<&'e Endpoint>,
    ip: IpAddr,
    pod_ips: &[IpAddr],
) -> Decision<'e> {
    if pod_ips.contains(&ip) {
        // A pod that calls itself: the connection does not leave it, nor pass its inbound proxy.
        return Decision::Plaintext(NoTls::Loopback);
    }
    // Whom kube-proxy chooses cannot be expected.
    let endpoint = match config.forward {
        Forward::Balance | Forward::Direct { reason: DirectReason::Pod, .. } => endpoint,
        Forward::Direct { reason: DirectReason::LeftToKubeProxy | DirectReason::UnknownAddress, .. } => None,
    };
    let mode = config.tls.mode;
    match (mode.transport(endpoint.map_or(EndpointProxy::None, |endpoint| endpoint.proxy)), endpoint) {
        (Transport::Mtls, Some(endpoint)) => Decision::Mtls(endpoint),
        (Transport::Plaintext, endpoint) => Decision::Plaintext(reason(config, endpoint)),
        (Transport::Mtls | Transport::Refused, endpoint) => Decision::Refused(reason(config, endpoint)),
    }
}

/// Why there is no mutual TLS.
fn reason(config: &Outbound, endpoint: Option<&Endpoint>) -> NoTls {
    let of_service = endpoint.is_some_and(|endpoint| endpoint.proxy == EndpointProxy::Plaintext);
    match config.forward {
        _ if config.tls.mode == OutboundTlsMode::Disable || of_service => NoTls::DisabledByPolicy,
        Forward::Direct { reason: DirectReason::LeftToKubeProxy, .. } => NoTls::LeftToKubeProxy,
        Forward::Direct { reason: DirectReason::UnknownAddress, .. } => NoTls::UnknownDestination,
        Forward::Balance | Forward::Direct { reason: DirectReason::Pod, .. } => NoTls::NotProvidedByServiceDiscovery,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conduit_model::{OutboundTls, Workload, WorkloadKind};

    fn endpoint(proxy: EndpointProxy) -> Endpoint {
        let workload = Workload {
            namespace: "shop".into(),
            service_account: "web".into(),
            kind: WorkloadKind::Deployment,
            name: "web".into(),
            pod: "web-1".into(),
        };
        Endpoint { address: "10.0.0.1:80".parse().unwrap(), workload, proxy }
    }

    #[test]
    fn every_endpoint_gets_what_policy_and_discovery_say_and_never_less_than_is_required() {
        use {NoTls::*, OutboundTlsMode::*};
        let direct = |reason| Forward::Direct { reason, endpoint: None };
        let pod = direct(DirectReason::Pod);
        let (left, unknown) = (direct(DirectReason::LeftToKubeProxy), direct(DirectReason::UnknownAddress));
        let [none, plain, mtls] =
            [EndpointProxy::None, EndpointProxy::Plaintext, EndpointProxy::Mtls].map(|proxy| Some(endpoint(proxy)));
        for (mode, forward, endpoint, expected) in [
            (Prefer, &Forward::Balance, &mtls, None),
            (Require, &Forward::Balance, &mtls, None),
            (Disable, &Forward::Balance, &mtls, Some((true, DisabledByPolicy))),
            (Prefer, &Forward::Balance, &plain, Some((true, DisabledByPolicy))),
            (Require, &Forward::Balance, &plain, Some((false, DisabledByPolicy))),
            (Prefer, &Forward::Balance, &none, Some((true, NotProvidedByServiceDiscovery))),
            (Require, &Forward::Balance, &none, Some((false, NotProvidedByServiceDiscovery))),
            (Prefer, &pod, &mtls, None),
            (Require, &pod, &mtls, None),
            (Prefer, &pod, &None, Some((true, NotProvidedByServiceDiscovery))),
            (Require, &pod, &None, Some((false, NotProvidedByServiceDiscovery))),
            (Prefer, &left, &mtls, Some((true, LeftToKubeProxy))),
            (Require, &left, &mtls, Some((false, LeftToKubeProxy))),
            (Prefer, &unknown, &None, Some((true, UnknownDestination))),
            (Require, &unknown, &None, Some((false, UnknownDestination))),
            (Disable, &unknown, &None, Some((true, DisabledByPolicy))),
        ] {
            let tls = OutboundTls { mode, source: None };
            let config = Outbound { forward: forward.clone(), tls, ..Outbound::unknown(mode) };
            let decided = decide(&config, endpoint.as_ref(), "10.0.0.1".parse().unwrap(), &[]);
            let expected = match (expected, endpoint) {
                (Some((true, reason)), _) => Decision::Plaintext(reason),
                (Some((false, reason)), _) => Decision::Refused(reason),
                (None, endpoint) => Decision::Mtls(endpoint.as_ref().unwrap()),
            };
            assert_eq!(decided, expected, "{mode:?} {forward:?}");
        }
    }

    #[test]
    fn a_pod_that_calls_itself_does_so_in_plaintext_whatever_policy_says() {
        let config = Outbound { forward: Forward::Balance, ..Outbound::unknown(OutboundTlsMode::Require) };
        let endpoint = endpoint(EndpointProxy::Mtls);
        let ip = endpoint.address.ip();
        assert_eq!(decide(&config, Some(&endpoint), ip, &[ip]), Decision::Plaintext(NoTls::Loopback));
    }
}
