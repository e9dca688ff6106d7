//! In what a peer differs from the usual, one thing at a time, so that what that thing costs shows. Must not know how it is
//! done, nor what is measured.

use super::Peer;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One difference from the usual.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Variation {
    /// None.
    #[default]
    Usual,
    /// No TLS between the proxies, by policy.
    Plaintext,
    /// 1,000 more Services, each of which the client has called.
    Services,
    /// 1,000 endpoints of the one Service, all of them served by one pod with as many addresses.
    Endpoints,
    /// Both proxies on either CPU, beside the load.
    EitherCpu,
    /// Likewise, with two workers each.
    TwoWorkers,
    /// No TLS session is resumed, or nearly none.
    NewSessions,
    /// Every TLS session is resumed that can be.
    Resumption,
}

impl Variation {
    /// All of them.
    pub(crate) const ALL: [Self; 8] = [
        Self::Usual,
        Self::Plaintext,
        Self::Services,
        Self::Endpoints,
        Self::EitherCpu,
        Self::TwoWorkers,
        Self::NewSessions,
        Self::Resumption,
    ];

    /// Whether this can be had of a peer.
    pub(crate) fn concerns(self, peer: Peer) -> bool {
        match self {
            Self::Usual => true,
            Self::NewSessions | Self::Resumption => matches!(peer, Peer::Envoy | Peer::Conduit),
            Self::Plaintext | Self::Services | Self::Endpoints | Self::EitherCpu | Self::TwoWorkers => {
                peer == Peer::Conduit
            }
        }
    }

    /// Services besides the one that is called.
    pub(super) fn services(self) -> u16 {
        if self == Self::Services { 1000 } else { 0 }
    }

    /// Addresses of the server's pod, each of which is an endpoint. A client keeps some tickets for a workload, and each for
    /// the address that gave it: with many addresses hardly any is of use.
    pub(super) fn addresses(self) -> u16 {
        match self {
            Self::Endpoints => 1000,
            Self::NewSessions => 250,
            _ => 1,
        }
    }
}

impl fmt::Display for Variation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Usual => "as usual",
            Self::Plaintext => "without TLS",
            Self::Services => "1,000 Services more",
            Self::Endpoints => "1,000 endpoints",
            Self::EitherCpu => "one worker, either CPU",
            Self::TwoWorkers => "two workers, either CPU",
            Self::NewSessions => "new sessions",
            Self::Resumption => "resumed sessions",
        })
    }
}
