//! Opening a connection.

use crate::{
    listen::socket,
    outcome::Failure,
    record::tcp::{ConnectionRecord, TcpSeries},
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpStream;

/// How connections are opened and kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connector {
    /// Longest that opening one may take.
    pub(crate) connect_timeout: Duration,
    /// Longest that one is kept with nothing to do.
    pub(crate) idle_timeout: Duration,
}

/// Opens a connection to `address`, and its record.
///
/// # Errors
/// How it failed; in every case no application has seen anything.
pub(crate) async fn connect(
    address: SocketAddr,
    within: Duration,
    series: &Arc<TcpSeries>,
) -> Result<(TcpStream, ConnectionRecord), Failure> {
    let stream = match tokio::time::timeout(within, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failure(&error)),
        Err(_elapsed) => return Err(Failure::ConnectTimeout),
    };
    socket::tune(&stream).map_err(|error| failure(&error))?;
    Ok((stream, series.open()))
}

fn failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Failure::ConnectRefused,
        io::ErrorKind::TimedOut => Failure::ConnectTimeout,
        _ => Failure::ConnectFailed,
    }
}
