//! How a connection to the pod begins: with the handshake of a peer of the mesh, or without.
//!
//! A peer of the mesh says so in its first bytes, whatever it has been told about the port; so every connection is looked
//! at, those to opaque ports too. There a client that has proved nothing may wait for the server, which is opened after a
//! short silence: sooner would be to take a peer whose hello comes a moment later for a client without one.
//!
//! Why the two do not race, on a port that declares to be opaque: to open the application at once is harmless, but to pass its
//! greeting on is not. A peer that reads a greeting where a ServerHello should be fails, and the greeting has been sent in the
//! clear. So it would have to be held until the client is known not to be a peer, which is what is waited for anyway. Nor can
//! the wait be made as short as the round trip: a peer's hello follows its SYN by the time that its proxy takes to run, which a
//! CPU limit stretches to a period of the scheduler, 100 ms.

use super::admit::{self, Permit};
use crate::{
    listen::{
        detect::{self, Detected, HELLO_TIMEOUT},
        io::Io,
        speaker::{FirstWords, first_words},
    },
    outcome::Failure,
    record::detection::By,
};
use conduit_model::{Admission, Protocol};
use std::{io, time::Duration};
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// How a connection goes on.
#[derive(Debug)]
pub(super) enum Opening {
    /// With the handshake of a peer, which says what it carries.
    Mesh,
    /// With requests, each of which is decided on.
    Http1,
    Http2,
    /// With bytes that are not read.
    Bytes(Permit, By),
    /// With the application's own TLS, which is not read either.
    Tls(Permit),
    /// With bytes that are not read, on a connection to the application that is open already.
    Opened(Io, By),
    /// Not at all.
    Refused(Failure),
}

/// What is known before the first byte.
#[derive(Debug)]
pub(super) struct Expected<'a> {
    /// What the port declares to speak.
    pub(super) protocol: Protocol,
    /// What the client is served as long as it has proved nothing.
    pub(super) admission: Admission<'a>,
    /// How long first bytes are waited for before the server may speak first.
    pub(super) patience: Duration,
}

/// Decides on `stream`, of which no byte was read.
///
/// # Errors
/// The stream's, or that the application cannot be opened.
pub(super) async fn decide(
    stream: &TcpStream,
    expected: Expected<'_>,
    open: impl AsyncFnOnce(Permit) -> Result<Io, Failure>,
) -> io::Result<Opening> {
    let Expected { protocol, admission, patience } = expected;
    match admit::bytes(admission) {
        Err(failure) => refusing(stream, admission, failure).await,
        // Requests are decided on one by one.
        Ok(_) if is_http(protocol) => of_http(stream, protocol).await,
        Ok(permit) => serving(stream, protocol, patience, permit, open).await,
    }
}

/// Where only peers are served, and probes: whoever does not start a handshake is told so where it asks by HTTP.
async fn refusing(stream: &TcpStream, admission: Admission<'_>, failure: Failure) -> io::Result<Opening> {
    Ok(match detect::detect(stream, HELLO_TIMEOUT).await? {
        Detected::Mesh => Opening::Mesh,
        Detected::Protocol(Protocol::Http1) => Opening::Http1,
        Detected::Protocol(Protocol::Http2 | Protocol::Grpc) => Opening::Http2,
        Detected::Protocol(Protocol::Tls) => match admit::tls(admission) {
            Ok(permit) => Opening::Tls(permit),
            Err(failure) => Opening::Refused(failure),
        },
        Detected::Protocol(Protocol::Opaque | Protocol::Detect)
        | Detected::Unfinished
        | Detected::UnfinishedHello
        | Detected::Silence => Opening::Refused(failure),
    })
}

/// Where the port declares HTTP, whose clients speak first, whenever they like. Clients do not always ask by the version
/// that a port declares; what is no HTTP at all is left to be refused as such. What is not finished is looked at again when
/// more comes, and seldom without: anybody can leave a word unfinished on any number of connections.
async fn of_http(stream: &TcpStream, declared: Protocol) -> io::Result<Opening> {
    loop {
        return Ok(match detect::detect(stream, HELLO_TIMEOUT).await? {
            Detected::Mesh => Opening::Mesh,
            Detected::Protocol(Protocol::Http1) => Opening::Http1,
            Detected::Protocol(Protocol::Http2 | Protocol::Grpc) => Opening::Http2,
            Detected::Protocol(Protocol::Tls | Protocol::Opaque | Protocol::Detect) | Detected::UnfinishedHello => {
                if declared == Protocol::Http1 {
                    Opening::Http1
                } else {
                    Opening::Http2
                }
            }
            Detected::Unfinished => continue,
            Detected::Silence => {
                stream.readable().await?;
                continue;
            }
        });
    }
}

/// Where whoever comes is served, as the first bytes say unless the port declares not to be read.
async fn serving(
    stream: &TcpStream,
    declared: Protocol,
    patience: Duration,
    permit: Permit,
    open: impl AsyncFnOnce(Permit) -> Result<Io, Failure>,
) -> io::Result<Opening> {
    let read = declared == Protocol::Detect;
    match detect::detect(stream, patience).await? {
        Detected::Mesh => return Ok(Opening::Mesh),
        Detected::Protocol(Protocol::Http1) if read => return Ok(Opening::Http1),
        Detected::Protocol(Protocol::Http2 | Protocol::Grpc) if read => return Ok(Opening::Http2),
        Detected::Protocol(Protocol::Tls) | Detected::UnfinishedHello => return Ok(Opening::Tls(permit)),
        Detected::Protocol(_) => return Ok(Opening::Bytes(permit, By::FirstBytes)),
        Detected::Unfinished => return Ok(Opening::Bytes(permit, By::Nothing)),
        Detected::Silence => {}
    }
    let mut opened = open(permit).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
    // Where the client has spoken after all, what was opened has said nothing, and is not missed.
    let other = match first_words(stream, &mut opened, patience).await? {
        FirstWords::Client(Detected::Mesh) => Opening::Mesh,
        FirstWords::Client(Detected::Protocol(Protocol::Http1)) if read => Opening::Http1,
        FirstWords::Client(Detected::Protocol(Protocol::Http2)) if read => Opening::Http2,
        FirstWords::Client(Detected::Protocol(_)) => return Ok(Opening::Opened(opened, By::FirstBytes)),
        FirstWords::Server => return Ok(Opening::Opened(opened, By::ServerFirst)),
        FirstWords::Client(_) | FirstWords::ServerGaveUp => return Ok(Opening::Opened(opened, By::Nothing)),
    };
    let _ = opened.shutdown().await;
    Ok(other)
}

/// Whether clients speak first, and are waited for without a bound.
pub(super) fn is_http(declared: Protocol) -> bool {
    match declared {
        Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => true,
        Protocol::Detect | Protocol::Tls | Protocol::Opaque => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::poll_fn, pin::pin};
    use tokio::{net::TcpListener, time::timeout};

    #[tokio::test]
    async fn an_unfinished_word_on_a_port_of_http_costs_next_to_nothing_until_more_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let server = listener.accept().await.unwrap().0;
        client.write_all(b"GE").await.unwrap();
        server.readable().await.unwrap();
        tokio::time::pause();
        let patience = Duration::from_millis(200);
        let expected = Expected { protocol: Protocol::Http1, admission: Admission::Open, patience };
        let mut decided = pin!(decide(&server, expected, async |_| unreachable!("HTTP speaks first")));
        let mut looks = 0;
        let looked = poll_fn(|cx| {
            looks += 1;
            decided.as_mut().poll(cx)
        });
        assert!(timeout(Duration::from_secs(60), looked).await.is_err());
        assert!(looks < 30, "{looks} times in a minute");
    }
}
