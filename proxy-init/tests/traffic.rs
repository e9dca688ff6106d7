//! What the table does to real traffic, in network namespaces of the test's own, for IPv4 and IPv6. Needs root.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::net::{SocketAddrV6, UdpSocket};
use std::time::Duration;

use support::{ELSEWHERE, NEIGHBOUR, Namespace, POD, PROXY_UID, Pod};

/// A pod whose traffic is intercepted with the given flags.
fn meshed(flags: &str) -> Pod {
    let pod = Pod::new();
    pod.pod.conduit_init(flags);
    pod
}

#[test]
fn without_the_table_everything_is_direct() {
    let Pod { pod, neighbour } = Pod::new();
    for (pod_address, address) in POD.iter().zip(NEIGHBOUR) {
        assert_eq!(pod.ask(&format!("{address}:80")), format!("neighbour, meant for {address}:80"));
        let answer = neighbour.ask(&format!("{pod_address}:80"));
        assert_eq!(answer, format!("application, meant for {pod_address}:80"));
    }
}

#[test]
fn what_the_application_sends_goes_to_the_outbound_proxy_with_its_destination_known() {
    let Pod { pod, .. } = meshed("");
    for address in NEIGHBOUR.into_iter().chain(ELSEWHERE) {
        // Port 81 has no listener: the proxy, not the destination, accepts. Port 53 is DNS over TCP, and 4143 the
        // inbound port of another pod.
        for port in [80, 81, 53, 4143] {
            let to = format!("{address}:{port}");
            assert_eq!(pod.ask(&to), format!("outbound proxy, meant for {to}"));
            assert_eq!(pod.ask_as(1000, &to), format!("outbound proxy, meant for {to}"));
        }
    }
}

#[test]
fn what_the_proxy_sends_is_left_alone() {
    let Pod { pod, .. } = meshed("");
    for address in NEIGHBOUR {
        let to = format!("{address}:80");
        assert_eq!(pod.ask_as(PROXY_UID, &to), format!("neighbour, meant for {address}:80"));
    }
    let Pod { pod, .. } = meshed("--proxy-uid 3000");
    assert!(pod.ask_as(PROXY_UID, "10.9.0.2:80").starts_with("outbound proxy"));
    assert!(pod.ask_as(3000, "10.9.0.2:80").starts_with("neighbour"));
}

#[test]
fn loopback_and_the_pods_own_addresses_are_left_alone() {
    let Pod { pod, .. } = meshed("");
    for address in ["127.0.0.1", "127.9.9.9", "[::1]"].into_iter().chain(POD) {
        for uid in [0, PROXY_UID] {
            let answer = pod.ask_as(uid, &format!("{address}:80"));
            assert_eq!(answer, format!("application, meant for {address}:80"));
        }
    }
}

#[test]
fn a_link_local_destination_is_left_alone() {
    let Pod { pod, neighbour } = meshed("");
    let (address, _) = neighbour.link_local("eth0");
    let (_, interface) = pod.link_local("eth0");
    let std::net::IpAddr::V6(address) = address else { panic!("{address} is not IPv6") };
    let to = SocketAddrV6::new(address, 80, 0, interface).to_string();
    assert_eq!(pod.ask(&to), format!("neighbour, meant for [{address}]:80"));
}

#[test]
fn what_others_send_goes_to_the_inbound_proxy_with_its_destination_known() {
    let Pod { neighbour, .. } = meshed("");
    for address in POD {
        // 4143 and 4140 are listeners of the proxy: it sees that it was meant itself, and can refuse.
        for port in [80, 81, 4143, 4140] {
            let to = format!("{address}:{port}");
            assert_eq!(neighbour.ask(&to), format!("inbound proxy, meant for {to}"));
        }
    }
}

#[test]
fn the_admin_port_is_reached_directly() {
    let Pod { neighbour, .. } = meshed("");
    for address in POD {
        let to = format!("{address}:4191");
        assert_eq!(neighbour.ask(&to), format!("admin, meant for {to}"));
    }
}

#[test]
fn skipped_inbound_ports_reach_the_application() {
    let Pod { neighbour, pod } = meshed("--skip-inbound-ports 25,100-200");
    for address in POD {
        for (port, name) in [(25, "application"), (150, "application"), (80, "inbound proxy")] {
            let to = format!("{address}:{port}");
            assert_eq!(neighbour.ask(&to), format!("{name}, meant for {to}"));
        }
    }
    for address in NEIGHBOUR {
        assert!(pod.ask(&format!("{address}:25")).starts_with("outbound proxy"), "{address}");
    }
}

#[test]
fn skipped_outbound_ports_and_subnets_are_reached_directly() {
    let Pod { pod, neighbour } = meshed("--skip-outbound-ports 25,100-200 --skip-subnets 10.77.0.0/16,fd77::/33");
    for address in NEIGHBOUR {
        for (port, name) in [(25, "neighbour"), (150, "neighbour"), (80, "outbound proxy")] {
            assert!(pod.ask(&format!("{address}:{port}")).starts_with(name), "{address}:{port}");
        }
    }
    for address in ELSEWHERE {
        assert_eq!(pod.ask(&format!("{address}:80")), format!("neighbour, meant for {address}:80"));
    }
    for address in POD {
        assert!(neighbour.ask(&format!("{address}:25")).starts_with("inbound proxy"), "{address}");
    }
}

#[test]
fn traffic_that_the_pod_only_forwards_is_left_alone() {
    let Pod { pod, neighbour } = meshed("");
    let container = Namespace::new();
    pod.join("docker0", &["10.8.0.1/24", "fd08::1/64"], &container, &["10.8.0.2/24", "fd08::2/64"]);
    pod.run(|| {
        for forwarding in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{forwarding}"), "1").unwrap();
        }
    });
    container.ip("route add default via 10.8.0.1");
    container.ip("route add default via fd08::1");
    neighbour.ip("route add 10.8.0.0/24 via 10.9.0.1");
    neighbour.ip("route add fd08::/64 via fd09::1");
    for address in NEIGHBOUR {
        let to = format!("{address}:80");
        assert_eq!(container.ask(&to), format!("neighbour, meant for {address}:80"));
    }
}

#[test]
fn udp_is_untouched() {
    let Pod { pod, neighbour } = meshed("");
    for address in NEIGHBOUR {
        let to = format!("{address}:53");
        let server = neighbour.run(|| UdpSocket::bind(&to).unwrap());
        let client = pod.run(|| UdpSocket::bind("[::]:0").or_else(|_| UdpSocket::bind("0.0.0.0:0")).unwrap());
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        }
        let destination = match to.parse().unwrap() {
            std::net::SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0),
            std::net::SocketAddr::V6(v6) => v6,
        };
        let mut buffer = [0; 8];
        client.send_to(b"question", destination).unwrap();
        let (length, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"question");
        server.send_to(b"answer", from).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), b"answer".len());
    }
}

#[test]
fn a_rerun_with_other_settings_takes_the_place_of_the_former() {
    let Pod { pod, neighbour } = meshed("--skip-inbound-ports 25 --skip-outbound-ports 25");
    assert!(pod.ask("10.9.0.2:25").starts_with("neighbour"));
    pod.conduit_init("");
    assert!(pod.ask("10.9.0.2:25").starts_with("outbound proxy"));
    assert!(neighbour.ask("10.9.0.1:25").starts_with("inbound proxy"));
}
