//! How a connection is to be served: as its destination declares, or else as its first bytes say. Of two peers that wait
//! for each other, whoever breaks the silence decides.

use super::{
    detect::{self, Detected},
    io::Io,
    speaker::{FirstWords, first_words},
};
use crate::record::detection::{By, Carries};
use conduit_model::Protocol;
use std::{cell::Cell, io, time::Duration};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::Instant};

/// How long it is remembered that a server speaks first.
const REMEMBER: Duration = Duration::from_secs(600);

/// How a connection is served.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Service<O> {
    Http1,
    Http2,
    /// Its bytes are not read.
    Opaque,
    /// The same, on a connection to the server that is open already.
    Opened(O),
}

/// Whether the server of a destination spoke first lately, so that the next client need not be waited for.
#[derive(Debug, Default)]
pub(crate) struct ServerFirst(Cell<Option<Instant>>);

impl ServerFirst {
    fn remember(&self) {
        self.0.set(Some(Instant::now() + REMEMBER));
    }

    fn is_known(&self) -> bool {
        self.0.get().is_some_and(|until| Instant::now() < until)
    }
}

/// How a connection is served, and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decided<O> {
    pub(crate) service: Service<O>,
    pub(crate) by: By,
    pub(crate) carries: Carries,
}

/// Decides on `stream`. A client that says nothing for as long as `within` may wait for the server, which is then
/// opened.
///
/// # Errors
/// The stream's, or that the server cannot be opened.
pub(crate) async fn decide<O: AsMut<Io>>(
    stream: &TcpStream,
    declared: Protocol,
    within: Duration,
    server_first: &ServerFirst,
    open: impl AsyncFnOnce() -> Option<O>,
) -> io::Result<Decided<O>> {
    match declared {
        Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => {
            return Ok(decided(detect::http_version(stream, declared).await?, By::Declared));
        }
        Protocol::Tls | Protocol::Opaque => return Ok(decided(declared, By::Declared)),
        Protocol::Detect if server_first.is_known() => return Ok(decided(Protocol::Opaque, By::ServerFirst)),
        Protocol::Detect => {}
    }
    match detect::detect(stream, within).await? {
        Detected::Silence => {}
        detected => return Ok(seen(detected)),
    }
    let mut opened = open().await.ok_or(io::ErrorKind::ConnectionRefused)?;
    let (by, carries) = match first_words(stream, opened.as_mut(), within).await? {
        FirstWords::Client(detected) => {
            let Decided { service, by, carries } = seen(detected);
            if !matches!(service, Service::Opaque) {
                close(opened.as_mut()).await;
                return Ok(Decided { service, by, carries });
            }
            (by, carries)
        }
        FirstWords::Server => {
            server_first.remember();
            (By::ServerFirst, Carries::Opaque)
        }
        FirstWords::ServerGaveUp => (By::Nothing, Carries::Opaque),
    };
    Ok(Decided { service: Service::Opened(opened), by, carries })
}

/// By what a client has shown.
fn seen<O>(detected: Detected) -> Decided<O> {
    match detected {
        Detected::Protocol(protocol) => decided(protocol, By::FirstBytes),
        // From here it is the application's own, whatever it offers.
        Detected::Mesh => decided(Protocol::Tls, By::FirstBytes),
        Detected::Unfinished | Detected::UnfinishedHello | Detected::Silence => decided(Protocol::Opaque, By::Nothing),
    }
}

/// Ends a connection that has said nothing and is not missed. In order, so that a peer's proxy does not take it for broken;
/// nothing was written, so that there is nothing to wait for.
async fn close(unused: &mut Io) {
    let _ = unused.shutdown().await;
}

fn decided<O>(protocol: Protocol, by: By) -> Decided<O> {
    let (service, carries) = match protocol {
        Protocol::Http1 => (Service::Http1, Carries::Http1),
        Protocol::Http2 | Protocol::Grpc => (Service::Http2, Carries::Http2),
        Protocol::Tls => (Service::Opaque, Carries::Tls),
        Protocol::Opaque | Protocol::Detect => (Service::Opaque, Carries::Opaque),
    };
    Decided { service, by, carries }
}
