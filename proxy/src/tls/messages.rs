//! What may come after a handshake besides data (RFC 8446 section 4.6): tickets, and the next key.

use super::record::{Opener, Sealer};
use rustls::{
    ConnectionTrafficSecrets, ContentType, Error, HandshakeType, InvalidMessage, PeerMisbehaved, SupportedCipherSuite,
    Tls13CipherSuite, client::ClientConnectionData, crypto::cipher::OutboundChunks, kernel::KernelConnection,
    server::ServerConnectionData,
};

/// Longest message that is put together from several records.
const LONGEST: usize = 16 * 1024;
/// Longest ticket that is kept, and longest chain of the peer that is kept with one. A proxy's ticket holds its client's chain:
/// both are of a few hundred bytes per certificate. Whoever sends more is not resumed with.
const MOST_KEPT: usize = 4 * 1024;

/// Either side's part of a session that goes on after the handshake.
pub(crate) enum Session {
    Client {
        session: KernelConnection<ClientConnectionData>,
        /// Whether the peer's chain is short enough to be kept with a ticket.
        keeps_tickets: bool,
    },
    Server(KernelConnection<ServerConnectionData>),
}

/// The beginning of a message of which more is to come.
#[derive(Debug, Default)]
pub(super) struct Messages(Vec<u8>);

/// What the peer wants to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    /// That this side takes another key too.
    NextKey,
}

impl Session {
    /// A client's, whose server has presented certificates of `chain` bytes.
    pub(super) fn client(session: KernelConnection<ClientConnectionData>, chain: usize) -> Self {
        Self::Client { session, keeps_tickets: chain <= MOST_KEPT }
    }

    /// Takes a ticket, or lets go of it: a client need not keep any (RFC 8446 section 4.6.1).
    fn ticket(&mut self, body: &[u8]) -> Result<(), Error> {
        match self {
            Self::Client { session, keeps_tickets: true } if body.len() <= MOST_KEPT => {
                session.handle_new_session_ticket(body)
            }
            Self::Client { .. } => Ok(()),
            Self::Server(_) => Err(inappropriate(HandshakeType::NewSessionTicket)),
        }
    }

    fn next_inbound(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Client { session, .. } => session.update_rx_secret(),
            Self::Server(session) => session.update_rx_secret(),
        }
    }

    fn next_outbound(&mut self) -> Result<(u64, ConnectionTrafficSecrets), Error> {
        match self {
            Self::Client { session, .. } => session.update_tx_secret(),
            Self::Server(session) => session.update_tx_secret(),
        }
    }

    fn suite(&self) -> Result<&'static Tls13CipherSuite, Error> {
        let suite = match self {
            Self::Client { session, .. } => session.negotiated_cipher_suite(),
            Self::Server(session) => session.negotiated_cipher_suite(),
        };
        tls13(suite)
    }

    /// Says that another key follows, in a record that is given back to be sent, and takes it.
    pub(super) fn renew(&mut self, sealer: &mut Sealer) -> Result<Vec<u8>, Error> {
        // A key update that asks for none in return.
        let message = [u8::from(HandshakeType::KeyUpdate), 0, 0, 1, 0];
        let record = sealer.seal(ContentType::Handshake, OutboundChunks::Single(&message))?;
        *sealer = Sealer::new(self.suite()?, self.next_outbound()?)?;
        Ok(record)
    }
}

/// A suite of TLS 1.3: there is no other version here.
pub(super) fn tls13(suite: SupportedCipherSuite) -> Result<&'static Tls13CipherSuite, Error> {
    suite.tls13().ok_or(Error::General("expected a cipher suite of TLS 1.3".into()))
}

fn inappropriate(got_type: HandshakeType) -> Error {
    let expect_types = vec![HandshakeType::NewSessionTicket, HandshakeType::KeyUpdate];
    Error::InappropriateHandshakeMessage { expect_types, got_type }
}

impl Messages {
    /// Whether a message has begun and not ended.
    pub(super) fn is_unfinished(&self) -> bool {
        !self.0.is_empty()
    }

    /// Takes what a record of handshake messages carries.
    ///
    /// # Errors
    /// The peer may not say so.
    pub(super) fn take(&mut self, bytes: &[u8], session: &mut Session, opener: &mut Opener) -> Result<Asked, Error> {
        if bytes.is_empty() {
            return Err(InvalidMessage::InvalidEmptyPayload.into());
        }
        if self.0.len() + bytes.len() > LONGEST {
            return Err(InvalidMessage::HandshakePayloadTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        let mut asked = Asked::Nothing;
        let all = std::mem::take(&mut self.0);
        let mut rest = &all[..];
        while let Some((&[kind, high, middle, low], body)) = rest.split_first_chunk() {
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            let Some((body, after)) = body.split_at_checked(length) else { break };
            rest = after;
            match HandshakeType::from(kind) {
                HandshakeType::NewSessionTicket => session.ticket(body)?,
                HandshakeType::KeyUpdate => {
                    // What follows it is under the next key, and so in the next record (RFC 8446 section 5.1).
                    if !rest.is_empty() {
                        return Err(PeerMisbehaved::KeyEpochWithPendingFragment.into());
                    }
                    match body {
                        [0] => {}
                        [1] => asked = Asked::NextKey,
                        _ => return Err(InvalidMessage::InvalidKeyUpdate.into()),
                    }
                    *opener = Opener::new(session.suite()?, session.next_inbound()?)?;
                }
                got_type => return Err(inappropriate(got_type)),
            }
        }
        if !rest.is_empty() {
            self.0 = rest.to_vec();
        }
        Ok(asked)
    }
}
