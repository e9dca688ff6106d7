//! Serving one HTTP/1 connection of a client, with the request function of whoever accepted it.

use super::{
    body::{Finish, ResponseBody},
    incoming::Incoming,
    limits,
};
use crate::listen::{drain::Drain, io::Io};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, future::Future, pin::pin, time::Duration};
use tokio::time::sleep;

/// Serves HTTP/1.0 and HTTP/1.1. On drain, the request at hand is answered with `connection: close`; so is the next one on
/// an idle connection, which is closed only if none comes for `linger`: a request may be on its way, and one that meets a
/// closed connection cannot be told from one that was lost half done. A client that closes while it waits for its answer
/// has gone away, as other HTTP servers see it too; the request ends at once.
///
/// # Errors
/// hyper's: the connection broke, or the client does not speak HTTP.
pub(crate) async fn serve<S, R, F>(io: Io, request: S, mut drain: Drain, linger: Duration) -> hyper::Result<()>
where
    S: Fn(Request<Incoming>) -> R,
    R: Future<Output = Response<ResponseBody<F>>>,
    F: Finish + Unpin + 'static,
{
    let draining = drain.clone();
    let service = service_fn(|req| async {
        let mut response = request(req.map(Incoming::Http1)).await;
        if draining.is_draining() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok::<_, Infallible>(response)
    });
    let connection = http1::Builder::new()
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_buf_size(limits::HEAD)
        .max_header_size(limits::HEAD)
        // An application may keep an idle connection for as long as it likes.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        ended = &mut connection => return ended,
        () = async { drain.draining().await; sleep(linger).await } => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}
