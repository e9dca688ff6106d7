//! The recommender: HTTP/2 without TLS, JSON. It must not know who asks.

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use clap::Args;
use tokio_util::sync::CancellationToken;

use super::goods;
use crate::serve;

/// Where the recommender listens.
#[derive(Args)]
pub(crate) struct Settings {
    /// HTTP/2 by prior knowledge; HTTP/1.1 too, for probes.
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

/// Serves until `stop`, then finishes what was accepted.
///
/// # Errors
/// The port cannot be listened on.
pub(crate) async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    serve::http(serve::listen(settings.port).await?, router(), stop).await;
    Ok(())
}

pub(super) fn router() -> Router {
    Router::new().route("/with/{product}", get(goes_with)).route("/ready", get(serve::ready))
}

async fn goes_with(Path(product): Path<String>) -> Response {
    match goods::find(&product) {
        Some(good) => Json(good.goes_with).into_response(),
        None => (StatusCode::NOT_FOUND, "no such product\n").into_response(),
    }
}
