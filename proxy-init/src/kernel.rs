//! The conversation with the kernel over a netlink socket: send the transaction, hear its answer, read the table back.
//! Knows nothing of what the rules mean.

use std::io::{self, Read};
use std::time::Duration;

use netlink_packet_core::{NLM_F_DUMP_INTR, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::nftables::NfTablesMessage;
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner};
use socket2::{Domain, Protocol, Socket, Type};

use crate::ruleset::Ruleset;
use crate::verify::verify;
use crate::wire::{Step, bytes, dump_chains, dump_rules, transaction};

pub use crate::verify::Difference;

/// How long the kernel may take for one answer. It answers at once, but may load modules first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The kernel fills dumps in parts of at most 32 KiB.
const ANSWER_BUFFER: usize = 64 * 1024;

/// Puts the ruleset in the place of the former table in this process's network namespace, all of it or nothing, then
/// reads it back and compares.
///
/// # Errors
///
/// See [`InterceptError`]. After [`InterceptError::Different`] and errors of the reading back the new table stands; after
/// all others the former one does, if there was one.
pub fn intercept(ruleset: &Ruleset) -> Result<(), InterceptError> {
    let mut connection = Connection::open()?;
    connection.commit(&transaction(ruleset))?;

    let mut chains = Vec::new();
    let mut rules = Vec::new();
    for request in [dump_chains(), dump_rules()] {
        for message in connection.dump(&request)? {
            match message {
                NfTablesMessage::NewChain(chain) => chains.push(chain),
                NfTablesMessage::NewRule(rule) => rules.push(rule),
                _ => {}
            }
        }
    }
    Ok(verify(ruleset, &chains, &rules)?)
}

/// Why a pod's traffic is not intercepted.
#[derive(Debug, thiserror::Error)]
pub enum InterceptError {
    /// The process lacks the capability.
    #[error(
        "not permitted to change the network rules of this pod: the container conduit-init needs the capability \
         NET_ADMIN (securityContext.capabilities.add: [\"NET_ADMIN\"]) and must run as uid 0, which the namespace's Pod \
         Security level has to allow (label pod-security.kubernetes.io/enforce=privileged)"
    )]
    NotPermitted,
    /// The kernel has no nf_tables, or not all that the table needs of it.
    #[error(
        "this node's kernel does not support {what}: Conduit needs Linux 5.2 or newer with nf_tables and its NAT \
         (modules nf_tables, nft_chain_nat, nft_redir, nft_fib_inet); load the modules on the node or use another kernel"
    )]
    Unsupported {
        /// What the kernel refused.
        what: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// The kernel refused a part of the table for another reason.
    #[error("the kernel refused {what}")]
    Refused {
        /// What the kernel refused.
        what: String,
        /// The kernel's error.
        source: io::Error,
    },
    /// The netlink socket failed, or the kernel did not answer within ten seconds.
    #[error("cannot {doing} over netlink")]
    Socket {
        /// What was being done.
        doing: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The kernel's answer is no netlink message.
    #[error("the kernel's answer over netlink cannot be read: {0}")]
    Answer(String),
    /// Someone else changed the rules while they were read.
    #[error("the rules were changed by another program while they were read back")]
    Changed,
    /// The kernel holds another table than was sent.
    #[error("the table that the kernel holds is not the one that was written")]
    Different(#[from] Difference),
}

impl InterceptError {
    /// What an error number that answers a part of the table means.
    fn refused(what: &str, errno: i32) -> Self {
        let what = what.to_owned();
        let source = io::Error::from_raw_os_error(errno);
        match errno {
            libc::EPERM => Self::NotPermitted,
            // A chain type or expression that the kernel does not know is "not found", a subsystem or family "not
            // supported". Nothing else in the transaction looks anything up: it makes all that it names.
            libc::ENOENT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT => {
                Self::Unsupported { what, source }
            }
            _ => Self::Refused { what, source },
        }
    }
}

struct Connection {
    socket: Socket,
    buffer: Vec<u8>,
}

impl Connection {
    fn open() -> Result<Self, InterceptError> {
        let protocol = Protocol::from(libc::NETLINK_NETFILTER);
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(protocol)).map_err(|source| {
            match source.raw_os_error() {
                Some(errno @ (libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT)) => {
                    InterceptError::refused("netfilter over netlink", errno)
                }
                _ => InterceptError::Socket { doing: "open a socket", source },
            }
        })?;
        socket
            .set_read_timeout(Some(ANSWER_TIMEOUT))
            .map_err(|source| InterceptError::Socket { doing: "set a timeout", source })?;
        Ok(Connection { socket, buffer: vec![0; ANSWER_BUFFER] })
    }

    /// Sends a batch and waits for its one acknowledgement, or the first error.
    fn commit(&mut self, steps: &[Step]) -> Result<(), InterceptError> {
        self.send(&bytes(steps.iter().map(|step| &step.message)), "send the table")?;
        loop {
            for answer in self.receive("hear that the table is written")? {
                let NetlinkPayload::Error(error) = answer.payload else { continue };
                let Some(code) = error.code else { return Ok(()) };
                let step = usize::try_from(answer.header.sequence_number).ok().and_then(|number| steps.get(number));
                return Err(InterceptError::refused(step.map_or("the transaction", |step| &step.what), -code.get()));
            }
        }
    }

    /// Sends a dump request and collects its answer.
    fn dump(&mut self, request: &NetlinkMessage<NetfilterMessage>) -> Result<Vec<NfTablesMessage>, InterceptError> {
        self.send(&bytes([request]), "ask for the table")?;
        let mut messages = Vec::new();
        loop {
            for answer in self.receive("read the table back")? {
                if answer.header.flags & NLM_F_DUMP_INTR != 0 {
                    return Err(InterceptError::Changed);
                }
                match answer.payload {
                    NetlinkPayload::Done(_) => return Ok(messages),
                    NetlinkPayload::Error(error) => {
                        let errno = error.code.map_or(0, |code| -code.get());
                        return Err(InterceptError::refused("the reading back of the table", errno));
                    }
                    NetlinkPayload::InnerMessage(NetfilterMessage {
                        inner: NetfilterMessageInner::NfTables(message),
                        ..
                    }) => messages.push(message),
                    _ => {}
                }
            }
        }
    }

    /// Sends one datagram; a netlink socket that is not connected sends to the kernel.
    fn send(&self, datagram: &[u8], doing: &'static str) -> Result<(), InterceptError> {
        let sent = self.socket.send(datagram).map_err(|source| InterceptError::Socket { doing, source })?;
        debug_assert_eq!(sent, datagram.len(), "the kernel takes a netlink datagram whole");
        Ok(())
    }

    /// The messages of the next datagram.
    fn receive(&mut self, doing: &'static str) -> Result<Vec<NetlinkMessage<NetfilterMessage>>, InterceptError> {
        let length = loop {
            match (&self.socket).read(&mut self.buffer) {
                Ok(length) => break length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let source = io::Error::new(io::ErrorKind::TimedOut, "no answer within ten seconds");
                    return Err(InterceptError::Socket { doing, source });
                }
                Err(source) => return Err(InterceptError::Socket { doing, source }),
            }
        };
        messages(&self.buffer[..length])
    }
}

/// Splits a datagram into its messages.
fn messages(mut datagram: &[u8]) -> Result<Vec<NetlinkMessage<NetfilterMessage>>, InterceptError> {
    const ALIGNMENT: usize = 4;
    let mut messages = Vec::new();
    while !datagram.is_empty() {
        let message =
            NetlinkMessage::deserialize(datagram).map_err(|error| InterceptError::Answer(error.to_string()))?;
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        datagram = &datagram[length.next_multiple_of(ALIGNMENT).min(datagram.len())..];
        messages.push(message);
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    #[test]
    fn a_missing_capability_is_said_with_what_to_change() {
        let error = InterceptError::refused("the transaction", libc::EPERM).to_string();
        assert!(error.contains("NET_ADMIN") && error.contains("pod-security.kubernetes.io/enforce"), "{error}");
    }

    #[test]
    fn a_kernel_that_lacks_a_part_is_said_with_the_part_and_the_modules() {
        for errno in [libc::ENOENT, libc::EOPNOTSUPP, libc::EAFNOSUPPORT, libc::EPROTONOSUPPORT] {
            let error = InterceptError::refused("the chain \"outbound\"", errno);
            assert!(matches!(error, InterceptError::Unsupported { .. }), "{errno}: {error:?}");
            let text = error.to_string();
            assert!(text.contains("the chain \"outbound\"") && text.contains("nft_redir"), "{text}");
        }
    }

    #[test]
    fn any_other_refusal_names_the_rule() {
        let error = InterceptError::refused("the rule `tcp dport 25 return` of chain \"outbound\"", libc::EINVAL);
        assert_eq!(error.to_string(), "the kernel refused the rule `tcp dport 25 return` of chain \"outbound\"");
    }

    #[test]
    fn a_datagram_is_split_into_its_messages() {
        let steps = transaction(&Ruleset::for_settings(&Settings::default()));
        let datagram = bytes(steps.iter().map(|step| &step.message));
        let read = messages(&datagram).unwrap();
        assert_eq!(read.len(), steps.len());
        assert!(read.iter().zip(&steps).all(|(read, step)| *read == step.message));
    }

    #[test]
    fn a_datagram_cut_short_is_an_error() {
        let datagram = bytes([&dump_rules()]);
        for length in 1..datagram.len() {
            assert!(matches!(messages(&datagram[..length]), Err(InterceptError::Answer(_))), "at {length} bytes");
        }
    }
}
