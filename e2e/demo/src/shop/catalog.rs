//! The catalog: gRPC, with a call of three of its kinds. It must not know who asks.

use std::pin::Pin;

use clap::Args;
use futures::{Stream, StreamExt, stream};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::goods::{self, GOODS, Good};
use super::proto::catalog_server::{Catalog, CatalogServer};
use super::proto::{GetRequest, ListRequest, Product, QuoteLine, QuotedLine};
use crate::serve;

/// Where the catalog listens.
#[derive(Args)]
pub(crate) struct Settings {
    /// gRPC, with the standard health service.
    #[arg(long, default_value_t = 8080)]
    port: u16,
}

/// Serves until `stop`, then finishes what was accepted.
///
/// # Errors
/// The port cannot be listened on.
pub(crate) async fn run(settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    serve::http(serve::listen(settings.port).await?, router().await, stop).await;
    Ok(())
}

pub(super) async fn router() -> axum::Router {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<CatalogServer<Shelf>>().await;
    Routes::new(CatalogServer::new(Shelf)).add_service(health).into_axum_router()
}

struct Shelf;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Catalog for Shelf {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<Product>, Status> {
        Ok(Response::new(product(find(&request.get_ref().id)?)))
    }

    type ListStream = Answers<Product>;

    async fn list(&self, _request: Request<ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        Ok(Response::new(Box::pin(stream::iter(GOODS.iter().map(|good| Ok(product(good)))))))
    }

    type QuoteStream = Answers<QuotedLine>;

    async fn quote(&self, request: Request<Streaming<QuoteLine>>) -> Result<Response<Self::QuoteStream>, Status> {
        let quotes = request.into_inner().map(|line| {
            let QuoteLine { product_id, quantity } = line?;
            let total_cents = u64::from(find(&product_id)?.price_cents) * u64::from(quantity);
            Ok(QuotedLine { product_id, quantity, total_cents })
        });
        Ok(Response::new(Box::pin(quotes)))
    }
}

fn find(id: &str) -> Result<&'static Good, Status> {
    goods::find(id).ok_or_else(|| Status::not_found(format!("no product {id:?}")))
}

fn product(good: &Good) -> Product {
    Product { id: good.id.into(), name: good.name.into(), price_cents: good.price_cents }
}
