//! The application's own TLS: what the handshake shows must be what the server says it has.

use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;

use super::{authority, connect};
use crate::tls::{FINGERPRINT, client, fingerprint};

pub(super) async fn check(target: &Uri) -> anyhow::Result<Value> {
    let connector = TlsConnector::from(Arc::new(client()?));
    let name = ServerName::try_from("conduit-demo")?;
    let stream = connector.connect(name, connect(target).await?).await.context("the TLS handshake failed")?;
    let certificates = stream.get_ref().1.peer_certificates();
    let seen = fingerprint(certificates.and_then(<[_]>::first).context("the server showed no certificate")?);

    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/inspect").header(header::HOST, authority(target)?).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let own = response.headers().get(FINGERPRINT).with_context(|| format!("the answer has no {FINGERPRINT}"))?.clone();
    ensure!(response.status().is_success(), "{}", response.status());
    response.into_body().collect().await?;
    ensure!(own == seen.as_str(), "the certificate seen is not the server's: somebody between ended its TLS");
    Ok(json!({"certificate_sha256": seen}))
}
