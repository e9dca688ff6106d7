//! Where the operator is, and how its addresses are found and tried. Knows nothing of what is said there.

use std::{fmt, io, net::SocketAddr, str::FromStr, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// A name or address with a port, such as `conduit-operator.conduit.svc:8086` or `[fd00::1]:8086`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A DNS name or an IP address, without brackets.
    pub host: String,
    /// The port, not 0.
    pub port: u16,
}

/// As it stands in settings and log lines.
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, number) = text.rsplit_once(':').ok_or_else(|| "it has no port".to_owned())?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().map(|_| v6).map_err(|e| e.to_string())?,
            None if host.is_empty() => return Err("it has no host".to_owned()),
            None if host.contains(':') => return Err("an IPv6 address stands in brackets".to_owned()),
            None => host,
        };
        let port = number.parse().ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| format!("{number:?} is no port from 1 to 65535"))?;
        Ok(Self { host: host.to_owned(), port })
    }
}

/// How long one address may take to answer before the next one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Connects to one of the addresses of `operator`, tried in random order so that proxies spread over its replicas.
///
/// The name is looked up anew each time by the system's resolver, on a thread of its own.
///
/// # Errors
/// The resolver's, or that of the address that was tried last.
pub(super) async fn dial(operator: &HostPort) -> io::Result<TcpStream> {
    let mut addresses: Vec<SocketAddr> =
        tokio::net::lookup_host((operator.host.as_str(), operator.port)).await?.collect();
    fastrand::shuffle(&mut addresses);
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let refused = |e: io::Error| io::Error::new(e.kind(), format!("{address}: {e}"));
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(e)) => last = refused(e),
            Err(_) => last = refused(io::ErrorKind::TimedOut.into()),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_port_is_a_name_or_an_address_and_ipv6_stands_in_brackets() {
        let of = |text: &str| text.parse::<HostPort>();
        assert_eq!(of("[fd00::1]:80"), Ok(HostPort { host: "fd00::1".into(), port: 80 }));
        assert_eq!(of("10.0.0.1:80"), Ok(HostPort { host: "10.0.0.1".into(), port: 80 }));
        for wrong in ["fd00::1:80", "name", ":80", "name:", "name:http", "[name]:80"] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_host_and_port_reads_what_it_writes() {
        for text in ["[fd00::1]:80", "conduit-operator.conduit.svc:8086"] {
            assert_eq!(text.parse::<HostPort>().map(|parsed| parsed.to_string()), Ok(text.to_owned()));
        }
    }
}
