//! The command line: the flags, their defaults and their help. Meaning is given in [`crate::settings`]; this file must
//! not know of rules.

use std::num::NonZeroU16;

use clap::Parser;

use crate::settings::{Port, PortSet, Settings, SettingsError, SubnetSet, parse_port, parse_proxy_uid};

/// Sends a pod's TCP traffic through its proxy.
///
/// Writes the nftables table `inet conduit` into the network namespace it runs in, in one transaction, and reads it back
/// to verify it. Running it again replaces the table. It needs CAP_NET_ADMIN and nothing else.
#[derive(Debug, Clone, Parser)]
#[command(name = "conduit-init", version)]
pub struct Flags {
    /// Port on loopback where the proxy accepts what the application sends.
    #[arg(long, value_name = "PORT", default_value = "4140", value_parser = parse_port)]
    pub outbound_port: Port,

    /// Port where the proxy accepts what others send to the pod.
    #[arg(long, value_name = "PORT", default_value = "4143", value_parser = parse_port)]
    pub inbound_port: Port,

    /// Port of the proxy's admin server; connections to it from outside the pod are left alone.
    #[arg(long, value_name = "PORT", default_value = "4191", value_parser = parse_port)]
    pub admin_port: NonZeroU16,

    /// User id of the proxy (1 to 4294967294); what it sends is left alone.
    #[arg(long, value_name = "UID", default_value = "2102", value_parser = parse_proxy_uid)]
    pub proxy_uid: u32,

    /// Ports and port ranges (25,100-200) of the pod whose incoming connections bypass the proxy.
    #[arg(long, value_name = "PORTS", default_value = "")]
    pub skip_inbound_ports: PortSet,

    /// Ports and port ranges (25,100-200) that the application reaches without the proxy.
    #[arg(long, value_name = "PORTS", default_value = "")]
    pub skip_outbound_ports: PortSet,

    /// Subnets (10.0.0.0/8,fd00::/8) that the application reaches without the proxy.
    #[arg(long, value_name = "CIDRS", default_value = "")]
    pub skip_subnets: SubnetSet,

    /// Print the table as nft would list it, and change nothing; needs no privilege.
    #[arg(long)]
    pub dry_run: bool,
}

impl Flags {
    /// The settings that the flags ask for.
    ///
    /// # Errors
    ///
    /// Flags that are each valid but contradict each other; the error names them.
    pub fn settings(&self) -> Result<Settings, SettingsError> {
        Settings {
            outbound_port: self.outbound_port,
            inbound_port: self.inbound_port,
            admin_port: self.admin_port,
            proxy_uid: self.proxy_uid,
            skip_inbound_ports: self.skip_inbound_ports.clone(),
            skip_outbound_ports: self.skip_outbound_ports.clone(),
            skip_subnets: self.skip_subnets.clone(),
        }
        .checked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Flags, String> {
        Flags::try_parse_from(std::iter::once(&"conduit-init").chain(arguments)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_the_promised_ports_and_user() {
        let settings = parse(&[]).unwrap().settings().unwrap();
        assert_eq!(settings, Settings::default());
        assert_eq!(
            (settings.outbound_port.get(), settings.inbound_port.get(), settings.admin_port.get()),
            (4140, 4143, 4191)
        );
        assert_eq!(settings.proxy_uid, 2102);
    }

    #[test]
    fn a_bad_value_names_its_flag_and_what_was_expected() {
        let cases = [
            (["--outbound-port", "0"], "--outbound-port", "expected a TCP port from 1 to 65535"),
            (["--inbound-port", "http"], "--inbound-port", "expected a TCP port from 1 to 65535"),
            (["--admin-port", "65536"], "--admin-port", "expected a TCP port from 1 to 65535"),
            (["--proxy-uid", "0"], "--proxy-uid", "expected a user id from 1 to 4294967294"),
            (["--proxy-uid", "4294967295"], "--proxy-uid", "expected a user id from 1 to 4294967294"),
            (["--skip-inbound-ports", "25,,80"], "--skip-inbound-ports", "expected ports and port ranges"),
            (["--skip-outbound-ports", "200-100"], "--skip-outbound-ports", "expected ports and port ranges"),
            (["--skip-subnets", "10.0.0.0"], "--skip-subnets", "expected subnets in CIDR notation"),
            (["--skip-subnets", "10.0.0.0/33"], "--skip-subnets", "expected subnets in CIDR notation"),
        ];
        for (arguments, flag, expected) in cases {
            let error = parse(&arguments).unwrap_err();
            assert!(error.contains(flag) && error.contains(expected), "{arguments:?} said: {error}");
        }
    }

    #[test]
    fn an_empty_list_skips_nothing() {
        let flags = parse(&["--skip-inbound-ports", "", "--skip-outbound-ports=", "--skip-subnets", ""]).unwrap();
        assert_eq!(flags.settings().unwrap(), Settings::default());
    }

    #[test]
    fn two_flags_with_the_same_port_are_both_named() {
        let error = parse(&["--inbound-port", "4140"]).unwrap().settings().unwrap_err();
        assert_eq!(
            error.to_string(),
            "--outbound-port and --inbound-port are both 4140: expected a different port for each"
        );
    }
}
