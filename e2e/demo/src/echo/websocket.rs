//! WebSocket echo at `/ws`: what comes as a message goes back as one. It must not know how the connection was made.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

pub(super) fn router() -> Router {
    Router::new().route("/ws", any(upgrade))
}

/// RFC 6455, section 4.2: the key is answered, and the connection is the echo's from then on.
async fn upgrade(mut request: Request) -> Response {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return (StatusCode::BAD_REQUEST, "expected a WebSocket handshake\n").into_response();
    };
    let Ok(accept) = HeaderValue::try_from(derive_accept_key(key.as_bytes())) else {
        return (StatusCode::BAD_REQUEST, "sec-websocket-key: expected base64\n").into_response();
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(connection) => {
                echo(WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, None).await).await
            }
            Err(error) => tracing::warn!(%error, "the upgrade failed"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    response
}

async fn echo<S>(mut socket: WebSocketStream<S>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // Pings and the closing handshake are answered by the library while the stream is read.
    while let Some(Ok(message)) = socket.next().await {
        let wanted = message.is_text() || message.is_binary();
        if wanted && let Err(error) = socket.send(message).await {
            tracing::debug!(%error, "the client went away");
            return;
        }
    }
}
