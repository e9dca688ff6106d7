//! A discovery stream: who the operator takes its caller for, and what it tells.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use conduit_model::wire::discovery_client::DiscoveryClient;
use conduit_model::wire::watch_response::Update;
use conduit_model::wire::{self, WatchRequest, target, watch_request};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::operator::{Trust, connect};
use super::papers::Papers;
use super::report;
use crate::duration;

#[derive(Args)]
pub(super) struct Settings {
    /// The operator's discovery.
    #[arg(long, default_value = "conduit-operator.conduit.svc:8086", value_name = "ADDRESS")]
    to: String,
    #[command(flatten)]
    trust: Trust,
    #[command(flatten)]
    papers: Papers,
    /// A destination that is asked for beside the caller's own inbound configuration; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    outbound: Vec<SocketAddr>,
    /// How long it is listened for.
    #[arg(long, value_parser = duration, default_value = "3s")]
    within: Duration,
}

pub(super) async fn run(settings: Settings) -> anyhow::Result<()> {
    report(attempt(&settings).await);
    Ok(())
}

async fn attempt(settings: &Settings) -> anyhow::Result<Value> {
    let (connection, origin) = connect(&settings.to, &settings.trust, &settings.papers).await?;
    let own = target::Target::Inbound(wire::InboundTarget {});
    let others = settings.outbound.iter().map(|address| target::Target::Outbound(socket_address(*address)));
    let subscriptions: Vec<_> = std::iter::once(own).chain(others).map(subscribe).collect();
    // Open for as long as it is listened for.
    let requests = stream::iter(subscriptions).chain(stream::pending());
    let mut client = DiscoveryClient::with_origin(connection, origin);
    let mut responses = client.watch(requests).await?.into_inner();

    let (mut workloads, mut told) = (BTreeSet::new(), 0);
    let end = Instant::now() + settings.within;
    while let Ok(next) = tokio::time::timeout_at(end, responses.message()).await {
        let Some(response) = next? else { break };
        told += 1;
        if let Some(Update::Inbound(inbound)) = response.update {
            let workload = inbound.workload.context("inbound.workload: is required")?;
            workloads.insert(format!("{}/{}/{}", workload.namespace, workload.service_account, workload.pod));
        }
    }
    Ok(json!({"inbound": workloads, "messages": told}))
}

fn subscribe(target: target::Target) -> WatchRequest {
    let target = Some(wire::Target { target: Some(target) });
    WatchRequest {
        message: Some(watch_request::Message::Subscribe(wire::Subscribe { target, ..wire::Subscribe::default() })),
    }
}

fn socket_address(address: SocketAddr) -> wire::SocketAddress {
    let ip = match address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    wire::SocketAddress { ip, port: address.port().into() }
}
