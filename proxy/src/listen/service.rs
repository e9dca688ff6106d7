//! How a connection is to be served: as its destination declares, or else as its first bytes say. Of two peers that wait
//! for each other, whoever breaks the silence decides.

use super::{
    detect::{self, Detected},
    io::Io,
    speaker::{FirstWords, first_words},
};
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
) -> io::Result<Service<O>> {
    match declared {
        Protocol::Http1 | Protocol::Http2 | Protocol::Grpc => {
            return detect::http_version(stream, declared).await.map(service);
        }
        Protocol::Tls | Protocol::Opaque => return Ok(Service::Opaque),
        Protocol::Detect if server_first.is_known() => return Ok(Service::Opaque),
        Protocol::Detect => {}
    }
    match detect::detect(stream, within).await? {
        Detected::Protocol(protocol) => return Ok(service(protocol)),
        // From here it is the application's own, whatever it offers.
        Detected::Mesh | Detected::Unfinished | Detected::UnfinishedHello => return Ok(Service::Opaque),
        Detected::Silence => {}
    }
    let mut opened = open().await.ok_or(io::ErrorKind::ConnectionRefused)?;
    Ok(match first_words(stream, opened.as_mut(), within).await? {
        FirstWords::Client(Detected::Protocol(protocol @ (Protocol::Http1 | Protocol::Http2))) => {
            close(opened.as_mut()).await;
            service(protocol)
        }
        FirstWords::Client(_) => Service::Opened(opened),
        FirstWords::Server => {
            server_first.remember();
            Service::Opened(opened)
        }
        FirstWords::ServerGaveUp => Service::Opened(opened),
    })
}

/// Ends a connection that has said nothing and is not missed. In order, so that a peer's proxy does not take it for broken;
/// nothing was written, so that there is nothing to wait for.
async fn close(unused: &mut Io) {
    let _ = unused.shutdown().await;
}

fn service<O>(protocol: Protocol) -> Service<O> {
    match protocol {
        Protocol::Http1 => Service::Http1,
        Protocol::Http2 | Protocol::Grpc => Service::Http2,
        Protocol::Tls | Protocol::Opaque | Protocol::Detect => Service::Opaque,
    }
}
