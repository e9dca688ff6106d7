//! The life of the process: bind, start the workers, run identity, discovery and the admin server, drain, end.
//!
//! The main thread is the control thread: identity, discovery, admin and signals. Traffic is carried by worker threads, which share
//! nothing with it but the directory, the proxy's own configuration and the metrics.

use super::{
    admin::{self, Admin},
    descriptors, footprint,
    listeners::{Listeners, Ports, WorkerListeners},
    logging::{self, LogControl},
    process,
    settings::Settings,
    signals::Signals,
    workers::Workers,
};
use crate::{
    discovery::{self, Client},
    identity::{self, HostPort, Identity, IdentityService, Operator},
    inbound,
    listen::{
        drain::{self, Drain},
        gateway,
        original::OriginalDestination,
        room::{Bounds, Room},
        vanished::look_after,
    },
    outbound,
    record::{self, access::AccessLog},
    upstream::{directory::Directory, own::Own},
};
use anyhow::{Context, bail};
use prometheus_client::registry::Registry;
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

/// How long the access log may take to be written at the end.
const LAST_LINES: Duration = Duration::from_secs(1);
/// How long the ends of connections that are cut are waited for, so that they are reset, counted and logged.
const CUTTING: Duration = Duration::from_secs(1);

/// Why the proxy ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Every connection ended by itself.
    Drained,
    /// Some were still open at the end of the grace period.
    GracePeriod,
    /// A second signal came.
    AtOnce,
}

/// What the workers share with each other and with the control thread.
struct Traffic {
    directory: Arc<Directory>,
    own: Arc<Own>,
    identity: Arc<Identity>,
    gateways: Vec<IpAddr>,
    metrics: Arc<record::Metrics>,
    rooms: Rooms,
    drain: Drain,
}

/// How many connections all workers serve at once.
struct Rooms {
    outbound: Arc<Room>,
    inbound: Arc<Room>,
}

impl Rooms {
    /// As the settings say, as far as descriptors are enough for it.
    fn of(settings: &Settings) -> Self {
        let wanted = [settings.outbound_max_connections, settings.inbound_max_connections];
        let limit = descriptors::raise().unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read or raise the limit of descriptors: connections may meet it");
            usize::MAX
        });
        let [outbound, inbound] = descriptors::enough_for(wanted, limit);
        if [outbound, inbound] != wanted {
            tracing::info!(
                descriptors = limit,
                outbound,
                inbound,
                "fewer connections are served at once than the settings say: each takes two descriptors, \
                 and the process may have no more"
            );
        }
        Self {
            outbound: Room::new(Bounds::shared(outbound, 100)),
            inbound: Room::new(Bounds::shared(inbound, settings.inbound_address_share)),
        }
    }
}

impl Traffic {
    /// What one worker serves, in either direction.
    fn configs(&self, settings: &Settings, listeners: WorkerListeners) -> (outbound::Config, inbound::Config) {
        let outbound = outbound::Config {
            listeners: listeners.outbound,
            original: OriginalDestination::Redirected,
            room: self.rooms.outbound.clone(),
            directory: self.directory.clone(),
            identity: self.identity.clone(),
            pod_ips: settings.pod_ips.clone(),
            metrics: self.metrics.clone(),
            drain: self.drain.clone(),
            discovery_timeout: settings.discovery_timeout,
            detect_timeout: settings.detect_timeout,
            connect_timeout: settings.outbound_connect_timeout,
            pool_idle_timeout: settings.pool_idle_timeout,
        };
        let inbound = inbound::Config {
            listeners: listeners.inbound,
            original: OriginalDestination::Redirected,
            room: self.rooms.inbound.clone(),
            pod_ips: settings.pod_ips.clone(),
            gateways: self.gateways.clone(),
            own: self.own.clone(),
            identity: self.identity.clone(),
            metrics: self.metrics.clone(),
            drain: self.drain.clone(),
            detect_timeout: settings.detect_timeout,
            connect_timeout: settings.inbound_connect_timeout,
            pool_idle_timeout: settings.pool_idle_timeout,
        };
        (outbound, inbound)
    }
}

/// The pod's default gateways. Without them probes are known by where the operator says that they come from.
fn gateways() -> Vec<IpAddr> {
    gateway::read().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot read the pod's routes: probes from its gateway are not known as such");
        Vec::new()
    })
}

/// Runs a proxy until it is told to end.
///
/// # Errors
/// What keeps it from starting, in one line: a listener that cannot be bound, or a worker that ended by itself.
pub fn run(settings: Settings) -> anyhow::Result<()> {
    let started = SystemTime::now();
    let log = logging::start(&settings.log)?;
    let ports = Ports { outbound: settings.outbound_port, inbound: settings.inbound_port, admin: settings.admin_port };
    let listeners = Listeners::bind(ports, settings.workers)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(control(settings, listeners, log, started))?;
    // Look-ups of names that are under way on other threads are not waited for.
    runtime.shutdown_background();
    Ok(())
}

async fn control(settings: Settings, listeners: Listeners, log: LogControl, started: SystemTime) -> anyhow::Result<()> {
    let mut signals = Signals::install().context("cannot handle signals")?;
    let own = Own::new();
    let (directory, wanted) = Directory::new(own.clone());
    let identity = Identity::new(settings.trust_domain.clone());
    let access = settings.access_log.map(|format| AccessLog::start(format, std::io::stdout()));
    let traffic = record::Metrics::logging(access.transpose().context("cannot start the access log")?);

    let (drain_signal, drain) = drain::channel();
    let shared = Traffic {
        directory: directory.clone(),
        own: own.clone(),
        identity: identity.clone(),
        gateways: gateways(),
        metrics: traffic.clone(),
        rooms: Rooms::of(&settings),
        drain,
    };
    let serve = listeners.workers.into_iter().map(|listeners| {
        let (outbound, inbound) = shared.configs(&settings, listeners);
        let (patience, drain) = (settings.unacknowledged_timeout, shared.drain.clone());
        async move || {
            tokio::select! {
                served = async { tokio::try_join!(outbound::serve(outbound), inbound::serve(inbound)) } => served.map(drop),
                never = look_after(patience, drain) => match never {},
            }
        }
    });
    let mut workers = Workers::start(serve)?;

    let operator = |address: &HostPort| Operator { address: address.clone(), trust_file: settings.trust_file.clone() };
    let service =
        IdentityService { operator: operator(&settings.identity_address), token_file: settings.token_file.clone() };
    let config = discovery::Config {
        operator: operator(&settings.discovery_address),
        identity: identity.clone(),
        idle: settings.discovery_idle,
    };
    let metrics = discovery::Metrics::new(Instant::now());
    let (client, inquiry) = Client::new(config, directory.clone(), wanted, own.clone(), metrics.clone());

    let mut registry = Registry::default();
    process::register(&mut registry, started);
    metrics.register(&mut registry);
    identity::metrics::register(&identity, &mut registry);
    traffic.register(&mut registry);
    let (draining, drains) = watch::channel(false);
    let (shutdown, mut asked) = mpsc::channel(1);
    let admin = Admin {
        registry,
        directory,
        own,
        identity: identity.clone(),
        discovery: inquiry,
        log,
        pod_ip: primary(&settings.pod_ips)?,
        probe_ports: settings.tcp_probe_ports.clone(),
        draining: drains,
        shutdown,
    };
    let admin_listener = TcpListener::from_std(listeners.admin).context("the admin server")?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        pod = %format_args!("{}/{}", settings.pod_namespace, settings.pod_name),
        outbound = settings.outbound_port,
        inbound = settings.inbound_port,
        admin = settings.admin_port,
        workers = settings.workers,
        "serving"
    );

    let serving = async {
        tokio::join!(
            admin::serve(admin_listener, Arc::new(admin)),
            identity::run(identity, service),
            client.run(),
            traffic.forget_unused(),
            footprint::keep_small()
        );
    };
    let life = async {
        tokio::select! {
            signal = signals.next() => tracing::info!("{signal}: draining"),
            Some(()) = asked.recv() => tracing::info!("shutdown asked for: draining"),
            ended = workers.ended() => {
                ended?;
                bail!("the workers ended without being told to");
            }
        }
        draining.send_replace(true);
        drain_signal.drain();
        let end = tokio::select! {
            ended = workers.ended() => {
                ended?;
                return Ok(End::Drained);
            }
            () = sleep(settings.shutdown_grace_period) => End::GracePeriod,
            _ = signals.next() => End::AtOnce,
        };
        drain_signal.cut();
        match timeout(CUTTING, workers.ended()).await {
            Ok(ended) => ended?,
            Err(_elapsed) => tracing::debug!("not every connection has ended that was cut"),
        }
        Ok(end)
    };
    tokio::select! {
        end = life => match end? {
            End::Drained => tracing::info!("drained"),
            End::GracePeriod => tracing::warn!("the grace period is over: connections that were open are cut"),
            End::AtOnce => tracing::warn!("told again: connections that were open are cut"),
        },
        () = serving => {}
    }
    traffic.end_log(LAST_LINES);
    Ok(())
}

/// The address where probes of the kubelet would find the application.
fn primary(pod_ips: &[IpAddr]) -> anyhow::Result<IpAddr> {
    pod_ips.first().copied().context("the pod has no address")
}
