//! The addresses that the proxy listens at, bound before anything runs, so that a proxy that starts is one that serves.

use crate::listen::socket::{Sharing, bind};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    num::NonZeroUsize,
};

/// Every listener of the proxy.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) admin: TcpListener,
    /// One of each worker.
    pub(super) workers: Vec<WorkerListeners>,
}

/// What one worker listens at.
#[derive(Debug)]
pub(super) struct WorkerListeners {
    pub(super) outbound: Vec<TcpListener>,
    pub(super) inbound: Vec<TcpListener>,
}

/// A listener that cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen at {address} for {purpose}: {error}")]
pub(super) struct BindError {
    purpose: &'static str,
    address: SocketAddr,
    error: io::Error,
}

/// The ports to bind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) outbound: u16,
    pub(super) inbound: u16,
    pub(super) admin: u16,
}

impl Listeners {
    /// Binds all of them, for this many workers.
    pub(super) fn bind(ports: Ports, workers: NonZeroUsize) -> Result<Self, BindError> {
        let sharing = if workers.get() > 1 { Sharing::AmongWorkers } else { Sharing::Alone };
        let worker = |_| {
            Ok(WorkerListeners {
                outbound: on_loopback("outbound connections", ports.outbound, sharing)?,
                inbound: vec![everywhere("inbound connections", ports.inbound, sharing)?],
            })
        };
        Ok(Self {
            admin: everywhere("the admin server", ports.admin, Sharing::Alone)?,
            workers: (0..workers.get()).map(worker).collect::<Result<_, _>>()?,
        })
    }
}

/// Every address of the pod: one socket for both families, or for IPv4 alone where there is no IPv6.
fn everywhere(purpose: &'static str, port: u16, sharing: Sharing) -> Result<TcpListener, BindError> {
    match listen(purpose, Ipv6Addr::UNSPECIFIED.into(), port, sharing) {
        Err(e) if lacks_ipv6(&e.error) => listen(purpose, Ipv4Addr::UNSPECIFIED.into(), port, sharing),
        bound => bound,
    }
}

/// Loopback of each family that there is: redirected connections arrive there, and nobody outside the pod can.
fn on_loopback(purpose: &'static str, port: u16, sharing: Sharing) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners = vec![listen(purpose, Ipv4Addr::LOCALHOST.into(), port, sharing)?];
    match listen(purpose, Ipv6Addr::LOCALHOST.into(), port, sharing) {
        Ok(listener) => listeners.push(listener),
        Err(e) if lacks_ipv6(&e.error) => {}
        Err(e) => return Err(e),
    }
    Ok(listeners)
}

fn listen(purpose: &'static str, ip: IpAddr, port: u16, sharing: Sharing) -> Result<TcpListener, BindError> {
    let address = SocketAddr::new(ip, port);
    bind(address, sharing).map_err(|error| BindError { purpose, address, error })
}

/// A kernel without IPv6, or one where it is turned off.
fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_named_with_what_it_is_for() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = Listeners::bind(Ports { outbound: port, inbound: 0, admin: 0 }, NonZeroUsize::MIN).unwrap_err();
        let expected =
            format!("cannot listen at 127.0.0.1:{port} for outbound connections: Address already in use (os error 98)");
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn each_worker_has_listeners_of_its_own_at_the_same_ports() {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let ports = Ports { outbound: free(), inbound: free(), admin: 0 };
        let two = NonZeroUsize::new(2).unwrap();
        let listeners = Listeners::bind(ports, two).unwrap();
        assert_eq!(listeners.workers.len(), 2);
        for worker in &listeners.workers {
            let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
            assert!(worker.outbound.iter().all(|listener| port(listener) == ports.outbound));
            assert!(worker.inbound.iter().all(|listener| port(listener) == ports.inbound));
        }
    }
}
