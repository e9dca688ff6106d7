//! A ruleset as nft text, in the words and layout of `nft list table inet conduit`, which `nft -f` reads back. What
//! `--dry-run` prints, and how errors name a rule. Decides nothing.

use std::fmt;

use ipnet::IpNet;

use crate::ruleset::{Action, Chain, Condition, Hook, Rule, Ruleset, TABLE};

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        for (index, chain) in self.chains.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{chain}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.hook.chain_name())?;
        writeln!(f, "\t\ttype nat hook {}; policy accept;", self.hook)?;
        for rule in &self.rules {
            writeln!(f, "\t\t{rule} comment \"{}\"", rule.comment)?;
        }
        writeln!(f, "\t}}")
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // nft has the name `dstnat` for the priority in the prerouting hook only.
        f.write_str(match self {
            Hook::Output => "output priority -100",
            Hook::Prerouting => "prerouting priority dstnat",
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.condition, self.action)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::SocketUser(uid) => write!(f, "meta skuid {uid}"),
            Condition::LeavesByLoopback => write!(f, "oifname \"lo\""),
            Condition::CameByLoopback => write!(f, "iifname \"lo\""),
            Condition::Destination(subnet) => write_destination(f, subnet),
            Condition::DestinationNotLocal => write!(f, "fib daddr type != local"),
            Condition::TcpDestination(range) => write!(f, "tcp dport {range}"),
            Condition::Tcp => write!(f, "meta l4proto tcp"),
        }
    }
}

fn write_destination(f: &mut fmt::Formatter<'_>, subnet: &IpNet) -> fmt::Result {
    let (protocol, version) = match subnet {
        IpNet::V4(_) => ("ip", "ipv4"),
        IpNet::V6(_) => ("ip6", "ipv6"),
    };
    match subnet.prefix_len() {
        0 => write!(f, "meta nfproto {version}"),
        full if full == subnet.max_prefix_len() => write!(f, "{protocol} daddr {}", subnet.addr()),
        _ => write!(f, "{protocol} daddr {subnet}"),
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Return => write!(f, "return"),
            Action::Redirect(port) => write!(f, "redirect to :{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Ruleset, Settings};

    #[test]
    fn the_default_settings_give_the_default_table() {
        let table = Ruleset::for_settings(&Settings::default()).to_string();
        assert_eq!(table, include_str!("../tests/golden/default.nft"));
    }

    #[test]
    fn every_setting_appears_in_the_table() {
        let settings = Settings {
            outbound_port: "5140".parse().unwrap(),
            inbound_port: "5143".parse().unwrap(),
            admin_port: "5191".parse().unwrap(),
            proxy_uid: 3000,
            skip_inbound_ports: "25,100-200".parse().unwrap(),
            skip_outbound_ports: "3306,4567-4568".parse().unwrap(),
            skip_subnets: "10.0.0.0/8,172.16.0.0/12,192.0.2.7/32,fd00::/8,2001:db8:8000::/33,2001:db8::1/128"
                .parse()
                .unwrap(),
        };
        assert_eq!(Ruleset::for_settings(&settings).to_string(), include_str!("../tests/golden/everything.nft"));
    }

    #[test]
    fn a_subnet_of_every_address_is_all_of_its_ip_version() {
        let settings = Settings { skip_subnets: "0.0.0.0/0,::/0".parse().unwrap(), ..Settings::default() };
        let table = Ruleset::for_settings(&settings).to_string();
        for line in ["meta nfproto ipv4 return", "meta nfproto ipv6 return"] {
            assert!(table.contains(line), "{table}");
        }
    }
}
