//! The web front: HTTP/1.1 and JSON, and the only one that calls the others, by their Services' names.
//!
//! Checkout fails now and then, on purpose and in a fixed order, so that success rates have something to show.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use clap::Args;
use futures::{TryStreamExt, stream};
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Serialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::cart::Carts;
use super::proto::catalog_client::CatalogClient;
use super::proto::{GetRequest, ListRequest, Product, QuoteLine};
use super::redis;
use crate::serve;

/// A call to another service takes this long at most.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the front listens and whom it calls.
#[derive(Args, Clone)]
pub(crate) struct Settings {
    /// HTTP/1.1.
    #[arg(long, default_value_t = 8080)]
    pub(super) port: u16,
    /// The catalog's Service.
    #[arg(long, default_value = "http://catalog:8080")]
    pub(super) catalog: Uri,
    /// The recommender's Service.
    #[arg(long, default_value = "http://recommend:8080")]
    pub(super) recommend: Uri,
    /// The host and port of the carts' Redis.
    #[arg(long, default_value = "cart:6379")]
    pub(super) cart: String,
    /// How many checkouts of a hundred fail.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(super) checkout_failures: u8,
    /// The seed of which of them do.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
}

/// Serves until `stop`, then finishes what was accepted.
///
/// # Errors
/// The port cannot be listened on, or an address is none.
pub(crate) async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    let listener = serve::listen(settings.port).await?;
    serve::http(listener, router(settings)?, stop).await;
    Ok(())
}

pub(super) fn router(settings: Settings) -> anyhow::Result<Router> {
    let catalog = Endpoint::from(settings.catalog).connect_timeout(CALL_TIMEOUT).timeout(CALL_TIMEOUT).connect_lazy();
    let recommend = settings.recommend.authority().context("--recommend: expected a URL with a host")?.to_string();
    let front = Front {
        catalog: CatalogClient::new(catalog),
        http2: Client::builder(TokioExecutor::new()).http2_only(true).build_http(),
        recommend,
        carts: Carts::new(settings.cart),
        checkout_failures: settings.checkout_failures,
        random: Mutex::new(fastrand::Rng::with_seed(settings.seed)),
    };
    Ok(Router::new()
        .route("/", get(home))
        .route("/products/{id}", get(product))
        .route("/cart/{customer}", get(cart).post(add))
        .route("/checkout/{customer}", post(checkout))
        .route("/ready", get(serve::ready))
        .with_state(Arc::new(front)))
}

struct Front {
    catalog: CatalogClient<Channel>,
    http2: Client<HttpConnector, Empty<Bytes>>,
    /// Host and port.
    recommend: String,
    carts: Carts,
    checkout_failures: u8,
    random: Mutex<fastrand::Rng>,
}

#[derive(Serialize)]
struct Item {
    id: String,
    name: String,
    price_cents: u32,
}

/// Everything that is for sale: the catalog's server stream.
async fn home(State(front): State<Arc<Front>>) -> Result<Json<Vec<Item>>, Failure> {
    let products = front.catalog.clone().list(ListRequest {}).await?.into_inner();
    Ok(Json(products.map_ok(Item::from).try_collect().await?))
}

/// One product and what goes with it: a unary call, then HTTP/2.
async fn product(State(front): State<Arc<Front>>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let product = front.catalog.clone().get(GetRequest { id: id.clone() }).await?.into_inner();
    let goes_with = front.recommended(&product.id).await?;
    Ok(Json(json!({"product": Item::from(product), "goes_with": goes_with})))
}

/// A cart with its prices: Redis, then the catalog's bidirectional stream.
async fn cart(State(front): State<Arc<Front>>, Path(customer): Path<String>) -> Result<Json<Value>, Failure> {
    let items = front.carts.items(&customer).await?;
    Ok(Json(front.priced(items).await?))
}

/// One more product, whose id is the body.
async fn add(
    State(front): State<Arc<Front>>,
    Path(customer): Path<String>,
    product: String,
) -> Result<StatusCode, Failure> {
    let product = front.catalog.clone().get(GetRequest { id: product }).await?.into_inner();
    front.carts.add(&customer, &product.id).await?;
    Ok(StatusCode::CREATED)
}

/// Sells what is in the cart, unless it is one of those that fail.
async fn checkout(State(front): State<Arc<Front>>, Path(customer): Path<String>) -> Result<Json<Value>, Failure> {
    let fails = front.random.lock().is_ok_and(|mut random| random.u8(..100) < front.checkout_failures);
    if fails {
        return Err(Failure(StatusCode::INTERNAL_SERVER_ERROR, "the payment was refused".into()));
    }
    let items = front.carts.items(&customer).await?;
    let sold = front.priced(items).await?;
    front.carts.clear(&customer).await?;
    Ok(Json(sold))
}

impl Front {
    async fn recommended(&self, product: &str) -> Result<Vec<String>, Failure> {
        let uri = format!("http://{}/with/{product}", self.recommend);
        let request = Request::get(uri).body(Empty::new()).map_err(Failure::upstream)?;
        let call = async {
            let response = self.http2.request(request).await.map_err(Failure::upstream)?;
            if !response.status().is_success() {
                return Err(Failure::upstream(format!("recommend answered {}", response.status())));
            }
            Ok(response.into_body().collect().await.map_err(Failure::upstream)?.to_bytes())
        };
        let answer = tokio::time::timeout(CALL_TIMEOUT, call).await.map_err(Failure::upstream)??;
        serde_json::from_slice(&answer).map_err(Failure::upstream)
    }

    async fn priced(&self, items: Vec<String>) -> Result<Value, Failure> {
        let mut quantities = BTreeMap::<_, u32>::new();
        for item in items {
            *quantities.entry(item).or_default() += 1;
        }
        let lines = quantities.into_iter().map(|(product_id, quantity)| QuoteLine { product_id, quantity });
        let quoted = self.catalog.clone().quote(stream::iter(lines.collect::<Vec<_>>())).await?.into_inner();
        let quoted: Vec<_> = quoted.try_collect().await?;
        let total: u64 = quoted.iter().map(|line| line.total_cents).sum();
        let lines: Vec<_> = quoted
            .into_iter()
            .map(|line| json!({"id": line.product_id, "quantity": line.quantity, "total_cents": line.total_cents}))
            .collect();
        Ok(json!({"lines": lines, "total_cents": total}))
    }
}

impl From<Product> for Item {
    fn from(product: Product) -> Self {
        Self { id: product.id, name: product.name, price_cents: product.price_cents }
    }
}

/// What a customer is told, and the log with it.
struct Failure(StatusCode, String);

impl Failure {
    fn upstream(error: impl ToString) -> Self {
        Self(StatusCode::BAD_GATEWAY, error.to_string())
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::NotFound => Self(StatusCode::NOT_FOUND, status.message().to_owned()),
            _ => Self::upstream(format!("catalog: {status}")),
        }
    }
}

impl From<redis::Error> for Failure {
    fn from(error: redis::Error) -> Self {
        Self::upstream(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        if self.0 == StatusCode::BAD_GATEWAY {
            tracing::warn!(error = self.1, "a call failed");
        }
        (self.0, self.1 + "\n").into_response()
    }
}
