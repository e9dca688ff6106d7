//! Serving one HTTP/2 connection of a client, with the request function of whoever accepted it.

use super::{
    body::{Finish, ResponseBody},
    incoming::Incoming,
    limits,
};
use crate::listen::{drain::Drain, io::Io};
use http::{Request, Response};
use hyper::{rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, future::Future, pin::pin};

/// Runs what belongs to an HTTP/2 connection on its worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalExecutor;

impl<T: Future<Output = ()> + 'static> Executor<T> for LocalExecutor {
    fn execute(&self, task: T) {
        tokio::task::spawn_local(task);
    }
}

/// Serves HTTP/2. Once `going_away` is ready, or on drain, the client is told to open no more streams (GOAWAY).
///
/// # Errors
/// hyper's: the connection broke, or the client does not speak HTTP/2.
pub(crate) async fn serve<S, R, F>(
    io: Io,
    request: S,
    mut drain: Drain,
    going_away: impl Future<Output = ()>,
) -> hyper::Result<()>
where
    S: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<ResponseBody<F>>> + 'static,
    F: Finish + Unpin + 'static,
{
    let service = service_fn(|req| {
        let response = request(req.map(Incoming::Http2));
        async { Ok::<_, Infallible>(response.await) }
    });
    let connection = http2::Builder::new(LocalExecutor)
        .auto_date_header(false)
        .initial_stream_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_concurrent_streams(limits::STREAMS)
        .max_header_list_size(limits::HEAD as u32)
        .max_send_buf_size(limits::SEND_BUFFER)
        .serve_connection(TokioIo::new(io), service);
    let (mut connection, going_away) = (pin!(connection), pin!(going_away));
    tokio::select! {
        biased;
        ended = &mut connection => return ended,
        () = going_away => connection.as_mut().graceful_shutdown(),
        () = drain.draining() => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
