//! The handshake: rustls says what is to be sent and when more is needed, and this room moves the bytes.
//!
//! rustls is shown one record at a time, so that what follows the handshake in the same segment is left for the stream.

use super::{
    buffer,
    messages::Session,
    record::{HEADER, MOST_SEALED},
    stream::TlsStream,
};
use rustls::{
    ClientConfig, CommonState, Error, ExtractedSecrets, ServerConfig,
    client::{ClientConnectionData, UnbufferedClientConnection},
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus},
};
use rustls_pki_types::ServerName;
use std::{io, sync::Arc};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Room for what comes: a hello, or a certificate with what leads to its root.
const ROOM: usize = 4096;
/// Most that is kept of messages that are not whole, before more is read. Longer ones are of no proxy; and a buffer has room
/// for whatever the stream goes on with.
const MOST: usize = buffer::SIZE - ROOM;

/// A handshake that has succeeded.
pub(crate) struct Handshaken<S, C> {
    io: S,
    connection: C,
    /// What came after it.
    early: Vec<u8>,
}

/// Either side of a handshake.
pub(crate) trait Connection {
    type Data;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn state(&self) -> &CommonState;
    fn into_session(self) -> Result<(ExtractedSecrets, Session), Error>;
}

/// What a connection waits for.
enum Step {
    Again,
    Send,
    Receive,
    Done,
}

/// Shakes hands as a client.
///
/// # Errors
/// The connection's, and whatever keeps either side from proving itself, as rustls says it.
pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    alpn: Vec<Vec<u8>>,
) -> io::Result<Handshaken<S, UnbufferedClientConnection>> {
    let connection = UnbufferedClientConnection::new_with_alpn(config, name, alpn).map_err(io::Error::other)?;
    shake(io, connection).await
}

/// Shakes hands as a server.
///
/// # Errors
/// As for [`connect`].
pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    config: Arc<ServerConfig>,
) -> io::Result<Handshaken<S, UnbufferedServerConnection>> {
    shake(io, UnbufferedServerConnection::new(config).map_err(io::Error::other)?).await
}

impl<S, C: Connection> Handshaken<S, C> {
    /// What was agreed on.
    pub(crate) fn state(&self) -> &CommonState {
        self.connection.state()
    }

    /// The connection from then on. The configuration must let secrets be extracted.
    ///
    /// # Errors
    /// The keys are none that this room can use.
    pub(crate) fn into_stream(self) -> Result<TlsStream<S>, Error> {
        let state = self.connection.state();
        let suite = state.negotiated_cipher_suite().ok_or(Error::HandshakeNotComplete)?;
        let kind = state.handshake_kind();
        let (secrets, session) = self.connection.into_session()?;
        TlsStream::new(self.io, suite, secrets, session, kind, self.early)
    }
}

async fn shake<S: AsyncRead + AsyncWrite + Unpin, C: Connection>(
    mut io: S,
    mut connection: C,
) -> io::Result<Handshaken<S, C>> {
    let (mut incoming, mut outgoing) = (Vec::with_capacity(ROOM), Vec::new());
    let (mut shown, mut unsent) = (0, None);
    loop {
        let (step, used) = advance(&mut connection, &mut incoming[..shown], &mut outgoing);
        incoming.drain(..used);
        shown -= used;
        match step {
            Ok(Step::Again) => {}
            // A peer that does not take it any more may have said why: that is read first.
            Ok(Step::Send) if unsent.is_some() => outgoing.clear(),
            Ok(Step::Send) => {
                unsent = send(&mut io, &outgoing).await.err();
                outgoing.clear();
            }
            Ok(Step::Receive) => {
                while !has_record(&incoming[shown..]) {
                    if let Err(error) = receive(&mut io, &mut incoming).await {
                        return Err(unsent.unwrap_or(error));
                    }
                }
                shown += record(&incoming[shown..]);
            }
            Ok(Step::Done) => {
                return match unsent {
                    Some(error) => Err(error),
                    None => Ok(Handshaken { io, connection, early: incoming }),
                };
            }
            Err(error) => {
                // The alert that tells the peer, and no step beyond: what it is about would be met again.
                while connection.state().wants_write() {
                    if !matches!(advance(&mut connection, &mut [], &mut outgoing), (Ok(Step::Again), 0)) {
                        break;
                    }
                }
                let _ = send(&mut io, &outgoing).await;
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
        }
    }
}

/// Lets the connection take one step: what it waits for, and how much of what it was shown it is done with.
fn advance<C: Connection>(
    connection: &mut C,
    incoming: &mut [u8],
    outgoing: &mut Vec<u8>,
) -> (Result<Step, Error>, usize) {
    let UnbufferedStatus { discard, state } = connection.process(incoming);
    let step = state.and_then(|state| match state {
        ConnectionState::EncodeTlsData(data) => encode(data, outgoing).map(|()| Step::Again),
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Step::Send)
        }
        ConnectionState::BlockedHandshake => Ok(Step::Receive),
        ConnectionState::WriteTraffic(_) => Ok(Step::Done),
        _ => Err(Error::General("the connection ended in its handshake".into())),
    });
    (step, discard)
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) -> Result<(), Error> {
    let start = outgoing.len();
    loop {
        match data.encode(&mut outgoing[start..]) {
            Ok(length) => {
                outgoing.truncate(start + length);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needed)) => outgoing.resize(start + needed.required_size, 0),
            Err(error) => return Err(Error::General(error.to_string())),
        }
    }
}

async fn send(io: &mut (impl AsyncWrite + Unpin), outgoing: &[u8]) -> io::Result<()> {
    io.write_all(outgoing).await?;
    io.flush().await
}

async fn receive(io: &mut (impl AsyncRead + Unpin), incoming: &mut Vec<u8>) -> io::Result<()> {
    if incoming.len() > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a handshake's message is too long"));
    }
    incoming.reserve(ROOM);
    match io.take(ROOM as u64).read_buf(incoming).await? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer ended the handshake")),
        _ => Ok(()),
    }
}

/// Whether `bytes` start with a whole record, or with what is none, which rustls is to say.
fn has_record(bytes: &[u8]) -> bool {
    match bytes {
        [20..=23, 3, _, _, _, ..] => record(bytes) <= bytes.len(),
        [20..=23, 3, ..] | [20..=23] | [] => false,
        _ => true,
    }
}

/// The length of the record that `bytes` start with; all of them where that is none.
fn record(bytes: &[u8]) -> usize {
    match bytes {
        [20..=23, 3, _, high, low, ..] => match usize::from(u16::from_be_bytes([*high, *low])) {
            length if length <= MOST_SEALED => HEADER + length,
            _ => bytes.len(),
        },
        _ => bytes.len(),
    }
}

impl Connection for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn state(&self) -> &CommonState {
        self
    }

    fn into_session(self) -> Result<(ExtractedSecrets, Session), Error> {
        let chain = self.peer_certificates().unwrap_or_default().iter().map(|certificate| certificate.len()).sum();
        let (secrets, session) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, Session::client(session, chain)))
    }
}

impl Connection for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }

    fn state(&self) -> &CommonState {
        self
    }

    fn into_session(self) -> Result<(ExtractedSecrets, Session), Error> {
        let (secrets, session) = self.dangerous_into_kernel_connection()?;
        Ok((secrets, Session::Server(session)))
    }
}
