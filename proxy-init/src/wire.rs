//! A ruleset as netlink messages (`include/uapi/linux/netfilter/nf_tables.h` in the kernel), and bytes. Pure: it opens
//! no socket, and decides nothing about rules.
//!
//! The messages are those of `netlink-packet-netfilter`; the expressions that it lacks, `redir` and `fib`, are written
//! through its `Other`.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
};
use netlink_packet_netfilter::nftables::{
    Bitwise, ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook as HookAttribute,
    HookNumber, Immediate, InetHookNumber, ListAttribute, Meta, MetaKey, NfTablesMessage, Operator, Payload, Register,
    RuleAttribute, RuleMessage, TableAttribute, TableFlags, TableMessage, Verdict, VerdictAttribute,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};

use crate::ruleset::{Action, Chain, Condition, Hook, Rule, Ruleset, TABLE};
use crate::settings::PortRange;

/// `NFNL_SUBSYS_NFTABLES`: which subsystem a batch is for.
const SUBSYSTEM_NFTABLES: u16 = 10;
/// The priority of destination NAT (`NF_IP_PRI_NAT_DST`), as the wire's unsigned number.
const PRIORITY_NAT_DST: u32 = (-100_i32).cast_unsigned();
/// `NF_ACCEPT`, the policy of both chains.
const POLICY_ACCEPT: u32 = 1;
/// `enum nft_payload_bases`.
const BASE_NETWORK_HEADER: u32 = 1;
const BASE_TRANSPORT_HEADER: u32 = 2;
/// Length of an interface name in the kernel (`IFNAMSIZ`); the kernel compares all of it.
const INTERFACE_NAME_LENGTH: usize = 16;
/// `NFTNL_UDATA_RULE_COMMENT`: the type of user data that nft shows as a rule's comment.
const USERDATA_COMMENT: u8 = 0;
/// `enum nft_redir_attributes`: the register that holds the port, and the flag that says so.
const REDIR_REGISTER_PROTO_MIN: u16 = 1;
const REDIR_FLAGS: u16 = 3;
/// `NF_NAT_RANGE_PROTO_SPECIFIED`.
const NAT_RANGE_PROTO_SPECIFIED: u32 = 1 << 1;
/// `enum nft_fib_attributes`, and the values used of each.
const FIB_DESTINATION_REGISTER: u16 = 1;
const FIB_RESULT: u16 = 2;
const FIB_FLAGS: u16 = 3;
const FIB_RESULT_ADDRESS_TYPE: u32 = 3;
const FIB_FLAG_DESTINATION: u32 = 1 << 1;
/// `RTN_LOCAL`: an address of this network namespace.
const ADDRESS_TYPE_LOCAL: u32 = 2;

/// A message of a batch, and what it is, for the error that may answer it.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) message: NetlinkMessage<NetfilterMessage>,
    pub(crate) what: String,
}

/// The transaction that puts the ruleset in the place of whatever table of that name there is.
///
/// The first message makes sure that there is a table to delete. The kernel applies all of the batch or nothing, so
/// that no connection ever meets half a table. Sequence numbers count from 0; only the last rule asks for an
/// acknowledgement, which comes after the commit (errors come unasked).
pub(crate) fn transaction(ruleset: &Ruleset) -> Vec<Step> {
    let table = || TableMessage { attributes: vec![TableAttribute::Name(TABLE.to_owned())] };
    let new_table = || TableMessage {
        attributes: vec![TableAttribute::Name(TABLE.to_owned()), TableAttribute::Flags(TableFlags::empty())],
    };
    let mut steps = vec![
        step(batch(ControlMessage::BatchBegin), 0, "the transaction"),
        step(inet(NfTablesMessage::NewTable(new_table())), NLM_F_CREATE, "the table"),
        step(inet(NfTablesMessage::DeleteTable(table())), 0, "the removal of the former table"),
        step(inet(NfTablesMessage::NewTable(new_table())), NLM_F_CREATE, "the table"),
    ];
    for chain in &ruleset.chains {
        let what = format!("the chain {:?}", chain.hook.chain_name());
        steps.push(step(inet(NfTablesMessage::NewChain(chain_message(chain.hook))), NLM_F_CREATE, &what));
    }
    for chain in &ruleset.chains {
        for rule in &chain.rules {
            let message = NfTablesMessage::NewRule(rule_message(chain.hook, rule));
            let what = format!("the rule `{rule}` of chain {:?}", chain.hook.chain_name());
            steps.push(step(inet(message), NLM_F_CREATE | NLM_F_APPEND, &what));
        }
    }
    if let Some(last) = steps.last_mut() {
        last.message.header.flags |= NLM_F_ACK;
    }
    steps.push(step(batch(ControlMessage::BatchEnd), 0, "the transaction"));
    for (sequence_number, step) in (0..).zip(&mut steps) {
        step.message.header.sequence_number = sequence_number;
    }
    steps
}

/// The request for all chains of the table's family; the kernel cannot filter it.
pub(crate) fn dump_chains() -> NetlinkMessage<NetfilterMessage> {
    netlink(inet(NfTablesMessage::GetChain(ChainMessage { attributes: vec![] })), NLM_F_DUMP)
}

/// The request for all rules of the table.
pub(crate) fn dump_rules() -> NetlinkMessage<NetfilterMessage> {
    let attributes = vec![RuleAttribute::Table(TABLE.to_owned())];
    netlink(inet(NfTablesMessage::GetRule(RuleMessage { attributes })), NLM_F_DUMP)
}

/// The bytes of messages, one after the other, as one datagram.
pub(crate) fn bytes<'a>(messages: impl IntoIterator<Item = &'a NetlinkMessage<NetfilterMessage>>) -> Vec<u8> {
    let mut datagram = Vec::new();
    for message in messages {
        // Attributes are padded to four bytes each, so that messages are aligned without padding of their own.
        let start = datagram.len();
        datagram.resize(start + message.buffer_len(), 0);
        message.serialize(&mut datagram[start..]);
    }
    datagram
}

pub(crate) fn chain_message(hook: Hook) -> ChainMessage {
    let number = match hook {
        Hook::Output => InetHookNumber::LocalOut,
        Hook::Prerouting => InetHookNumber::PreRouting,
    };
    ChainMessage {
        attributes: vec![
            ChainAttribute::Table(TABLE.to_owned()),
            ChainAttribute::Name(hook.chain_name().to_owned()),
            ChainAttribute::Hook(vec![
                HookAttribute::Number(HookNumber::Inet(number)),
                HookAttribute::Priority(PRIORITY_NAT_DST),
            ]),
            ChainAttribute::Policy(POLICY_ACCEPT),
            ChainAttribute::Type("nat".to_owned()),
        ],
    }
}

pub(crate) fn rule_message(hook: Hook, rule: &Rule) -> RuleMessage {
    let mut expressions = condition(rule.condition);
    expressions.extend(action(rule.action));
    RuleMessage {
        attributes: vec![
            RuleAttribute::Table(TABLE.to_owned()),
            RuleAttribute::Chain(hook.chain_name().to_owned()),
            RuleAttribute::Expressions(
                expressions.into_iter().map(ListAttribute::<ExpressionAttribute>::from).collect(),
            ),
            RuleAttribute::UserData(comment(rule.comment)),
        ],
    }
}

/// The messages of a chain's rules, in order.
pub(crate) fn rule_messages(chain: &Chain) -> Vec<RuleMessage> {
    chain.rules.iter().map(|rule| rule_message(chain.hook, rule)).collect()
}

fn condition(condition: Condition) -> Vec<Expressions> {
    match condition {
        Condition::SocketUser(uid) => vec![load(MetaKey::SocketUserId), compare(Operator::Equal, &uid.to_ne_bytes())],
        Condition::LeavesByLoopback => vec![load(MetaKey::Oifname), compare(Operator::Equal, &interface_name("lo"))],
        Condition::CameByLoopback => vec![load(MetaKey::Iifname), compare(Operator::Equal, &interface_name("lo"))],
        Condition::Destination(subnet) => destination(subnet),
        Condition::DestinationNotLocal => {
            vec![destination_address_type(), compare(Operator::NotEqual, &ADDRESS_TYPE_LOCAL.to_ne_bytes())]
        }
        Condition::TcpDestination(range) => {
            let mut expressions = tcp();
            expressions.extend(tcp_destination(range));
            expressions
        }
        Condition::Tcp => tcp(),
    }
}

fn tcp() -> Vec<Expressions> {
    const IPPROTO_TCP: u8 = 6;
    vec![load(MetaKey::L4Proto), compare(Operator::Equal, &[IPPROTO_TCP])]
}

fn tcp_destination(range: PortRange) -> Vec<Expressions> {
    let first = range.first().get().to_be_bytes();
    let last = range.last().get().to_be_bytes();
    let port = load_payload(BASE_TRANSPORT_HEADER, 2, 2);
    if first == last {
        vec![port, compare(Operator::Equal, &first)]
    } else {
        vec![port, compare(Operator::GreatherThanEqual, &first), compare(Operator::LessThanEqual, &last)]
    }
}

/// The destination address lies at byte 16 of an IPv4 header and at byte 24 of an IPv6 header.
fn destination(subnet: IpNet) -> Vec<Expressions> {
    let (family, offset) = match subnet {
        IpNet::V4(_) => (NetfilterProtoFamily::IPv4, 16),
        IpNet::V6(_) => (NetfilterProtoFamily::IPv6, 24),
    };
    let mut expressions = vec![load(MetaKey::Nfproto), compare(Operator::Equal, &[family.into()])];
    if subnet.prefix_len() > 0 {
        let address = octets(subnet.network());
        expressions.push(load_payload(BASE_NETWORK_HEADER, offset, u32::from(subnet.max_prefix_len()) / 8));
        if subnet.prefix_len() < subnet.max_prefix_len() {
            expressions.push(mask(&octets(subnet.netmask())));
        }
        expressions.push(compare(Operator::Equal, &address));
    }
    expressions
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn action(action: Action) -> Vec<Expressions> {
    match action {
        Action::Return => vec![Expressions::Immediate(vec![
            Immediate::DestinationRegister(Register::Verdict),
            Immediate::Data(DataAttribute::Verdict(vec![VerdictAttribute::Code(Verdict::Return)])),
        ])],
        Action::Redirect(port) => vec![
            Expressions::Immediate(vec![
                Immediate::DestinationRegister(Register::Reg1),
                Immediate::Data(DataAttribute::Value(port.get().to_be_bytes().to_vec())),
            ]),
            other(
                "redir",
                [(REDIR_REGISTER_PROTO_MIN, Register::Reg1.into()), (REDIR_FLAGS, NAT_RANGE_PROTO_SPECIFIED)],
            ),
        ],
    }
}

fn load(key: MetaKey) -> Expressions {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(Register::Reg1)])
}

fn load_payload(base: u32, offset: u32, length: u32) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
}

fn destination_address_type() -> Expressions {
    other(
        "fib",
        [
            (FIB_FLAGS, FIB_FLAG_DESTINATION),
            (FIB_RESULT, FIB_RESULT_ADDRESS_TYPE),
            (FIB_DESTINATION_REGISTER, Register::Reg1.into()),
        ],
    )
}

fn mask(mask: &[u8]) -> Expressions {
    let length = u32::try_from(mask.len()).expect("a mask is as long as an address");
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(Register::Reg1),
        Bitwise::DestinationRegister(Register::Reg1),
        Bitwise::Length(length),
        Bitwise::Mask(DataAttribute::Value(mask.to_vec())),
        Bitwise::Xor(DataAttribute::Value(vec![0; mask.len()])),
    ])
}

fn compare(operator: Operator, value: &[u8]) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value.to_vec())),
    ])
}

/// An expression whose attributes are all numbers in network byte order.
fn other<const N: usize>(expression_type: &str, attributes: [(u16, u32); N]) -> Expressions {
    Expressions::Other {
        expression_type: expression_type.to_owned(),
        attributes: attributes
            .into_iter()
            .map(|(kind, value)| DefaultNla::new(kind, value.to_be_bytes().to_vec()))
            .collect(),
    }
}

fn interface_name(name: &str) -> [u8; INTERFACE_NAME_LENGTH] {
    let mut padded = [0; INTERFACE_NAME_LENGTH];
    padded[..name.len()].copy_from_slice(name.as_bytes());
    padded
}

/// A comment as nft keeps it: type, length, and the text with its final zero.
fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).expect("comments are short constants");
    [&[USERDATA_COMMENT, length], text.as_bytes(), &[0]].concat()
}

fn batch(message: ControlMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM_NFTABLES), message)
}

fn inet(message: impl Into<NetfilterMessageInner>) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0), message)
}

fn step(message: NetfilterMessage, flags: u16, what: &str) -> Step {
    Step { message: netlink(message, flags), what: what.to_owned() }
}

fn netlink(message: NetfilterMessage, flags: u16) -> NetlinkMessage<NetfilterMessage> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut message = NetlinkMessage::new(header, message.into());
    message.finalize();
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;
    use crate::settings::MAX_ENTRIES;

    /// The bytes of a rule's expressions, without the table, the chain and the comment.
    fn expression_bytes(rule_condition: Condition, rule_action: Action) -> Vec<u8> {
        let mut expressions = condition(rule_condition);
        expressions.extend(action(rule_action));
        let attributes = vec![RuleAttribute::Expressions(expressions.into_iter().map(Into::into).collect())];
        let message = netlink(inet(NfTablesMessage::NewRule(RuleMessage { attributes })), 0);
        const HEADERS: usize = 16 + 4 + 4;
        bytes([&message])[HEADERS..].to_vec()
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    // The expected bytes are what Debian's nft 1.0.6 sends for the same rule (`nft --debug=mnl`).
    #[cfg(target_endian = "little")]
    #[test]
    fn the_exemption_of_a_user_has_the_bytes_that_nft_sends() {
        let expected = hex(
            "24000180 09000100 6d657461 00000000 14000280 08000200 0000000a 08000100 00000001
             2c000180 08000100 636d7000 20000280 08000100 00000001 08000200 00000000 0c000380 08000100 36080000
             30000180 0e000100 696d6d65 64696174 65000000 1c000280 08000100 00000000 10000280 0c000280 08000100 fffffffb",
        );
        assert_eq!(expression_bytes(Condition::SocketUser(2102), Action::Return), expected);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn a_redirect_has_the_bytes_that_nft_sends() {
        let expected = hex("24000180 09000100 6d657461 00000000 14000280 08000200 00000010 08000100 00000001
             2c000180 08000100 636d7000 20000280 08000100 00000001 08000200 00000000 0c000380 05000100 06000000
             2c000180 0e000100 696d6d65 64696174 65000000 18000280 08000100 00000001 0c000280 06000100 102c0000
             24000180 0a000100 72656469 72000000 14000280 08000100 00000001 08000300 00000002");
        assert_eq!(expression_bytes(Condition::Tcp, Action::Redirect("4140".parse().unwrap())), expected);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn the_exemption_of_forwarded_traffic_has_the_bytes_that_nft_sends() {
        let expected = hex(
            "28000180 08000100 66696200 1c000280 08000300 00000002 08000200 00000003 08000100 00000001
             2c000180 08000100 636d7000 20000280 08000100 00000001 08000200 00000001 0c000380 08000100 02000000
             30000180 0e000100 696d6d65 64696174 65000000 1c000280 08000100 00000000 10000280 0c000280 08000100 fffffffb",
        );
        assert_eq!(expression_bytes(Condition::DestinationNotLocal, Action::Return), expected);
    }

    #[test]
    fn a_transaction_replaces_the_table_between_begin_and_end() {
        let steps = transaction(&Ruleset::for_settings(&Settings::default()));
        let types = message_types(&bytes(steps.iter().map(|step| &step.message)));
        const NFT: u16 = SUBSYSTEM_NFTABLES << 8;
        let (new_table, delete_table, new_chain, new_rule) = (NFT, NFT + 2, NFT + 3, NFT + 6);
        let mut expected = vec![16, new_table, delete_table, new_table, new_chain, new_chain];
        expected.extend([new_rule; 10]);
        expected.push(17);
        assert_eq!(types, expected);
    }

    /// The types of the messages in a datagram, read from their headers as the kernel does.
    fn message_types(mut datagram: &[u8]) -> Vec<u16> {
        let mut types = Vec::new();
        while !datagram.is_empty() {
            let length = u32::from_ne_bytes(datagram[..4].try_into().unwrap()) as usize;
            assert_eq!(length % 4, 0, "message {} is not aligned", types.len());
            types.push(u16::from_ne_bytes(datagram[4..6].try_into().unwrap()));
            datagram = &datagram[length..];
        }
        types
    }

    #[test]
    fn only_the_last_rule_asks_for_an_acknowledgement() {
        let steps = transaction(&Ruleset::for_settings(&Settings::default()));
        let asking: Vec<usize> =
            (0..steps.len()).filter(|&index| steps[index].message.header.flags & NLM_F_ACK != 0).collect();
        assert_eq!(asking, [steps.len() - 2]);
    }

    #[test]
    fn the_largest_table_fits_the_default_send_buffer() {
        const SEND_BUFFER: usize = 212_992;
        let ranges: Vec<String> = (1..=MAX_ENTRIES).map(|n| format!("{}-{}", n * 10, n * 10 + 5)).collect();
        let subnets: Vec<String> = (0..MAX_ENTRIES).map(|n| format!("2001:db8:{:x}::/47", n * 4)).collect();
        let settings = Settings {
            skip_inbound_ports: ranges.join(",").parse().unwrap(),
            skip_outbound_ports: ranges.join(",").parse().unwrap(),
            skip_subnets: subnets.join(",").parse().unwrap(),
            ..Settings::default()
        };
        let ruleset = Ruleset::for_settings(&settings);
        assert_eq!(ruleset.chains.iter().map(|chain| chain.rules.len()).sum::<usize>(), 10 + 3 * MAX_ENTRIES);
        let length = bytes(transaction(&ruleset).iter().map(|step| &step.message)).len();
        assert!(length < SEND_BUFFER, "{length} bytes");
    }
}
