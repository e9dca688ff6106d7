//! One of those that are measured, with its pods, its origin and its two halves. Must not know what is measured.

use super::{Half, PORTS, Peer, Ports, Programs, Variation, certificates, envoy, floor_maps, haproxy, redirects};
use crate::{
    load::Protocol,
    measure::now,
    mesh::{self, Mesh, Parts},
    topology::{Cpu, Network, Pod, Process, Spawn},
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a peer may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(10);

/// One of them, running.
#[derive(Debug)]
pub(crate) struct Subject {
    /// Which.
    pub(crate) peer: Peer,
    /// In what it is unusual.
    pub(crate) variation: Variation,
    programs: Programs,
    place: Place,
    origin: Option<Process>,
    client_half: Option<Process>,
    server_half: Option<Process>,
}

/// Where it runs.
#[derive(Debug)]
enum Place {
    Bare { network: Network, folder: TempDir },
    Mesh(Box<Mesh>),
}

impl Subject {
    /// Starts everything but the client's half: what is measured at the start is that one's.
    pub(crate) async fn without_client_half(peer: Peer, variation: Variation, programs: &Programs) -> Result<Self> {
        let place = match peer {
            Peer::Conduit => Place::Mesh(Box::new(Mesh::without_proxies(&parts(programs, variation)).await?)),
            Peer::None | Peer::Floor | Peer::Haproxy | Peer::Envoy => bare(peer)?,
        };
        let mut subject = Self {
            peer,
            variation,
            programs: programs.clone(),
            place,
            origin: None,
            client_half: None,
            server_half: None,
        };
        let mut origin = Spawn::new("origin", [crate::this_program()?, "origin".to_owned()]);
        origin.cpu = Cpu::Load;
        subject.origin = Some(origin.logged(subject.server(), subject.folder())?);
        subject.server_half = subject.spawn(Half::Server)?;
        subject.is_ready(Half::Server).await?;
        Ok(subject)
    }

    /// Starts everything, and waits until it is ready.
    pub(crate) async fn start(peer: Peer, variation: Variation, programs: &Programs) -> Result<Self> {
        let mut subject = Self::without_client_half(peer, variation, programs).await?;
        subject.start_client_half()?;
        subject.client_half_is_ready().await?;
        Ok(subject)
    }

    /// Starts the client's half, and gives the time at which it began, without waiting for it.
    pub(crate) fn start_client_half(&mut self) -> Result<u64> {
        let began = now();
        self.client_half = self.spawn(Half::Client)?;
        Ok(began)
    }

    /// Waits until the client's half can be used, and has it called all that it is to know.
    pub(crate) async fn client_half_is_ready(&mut self) -> Result<()> {
        self.is_ready(Half::Client).await?;
        let others = (0..self.variation.services()).map(mesh::manifests::other_service);
        let others: Vec<_> = others.map(|ip| format!("{ip}:{}", PORTS.service.http1)).collect();
        if !others.is_empty() {
            let to = format!("--to={}", self.target(Protocol::Http1));
            self.client(&["tour".to_owned(), to, format!("--and={}", others.join(","))]).await?;
        }
        Ok(())
    }

    /// The TLS sessions that the client's half has opened until now; none where that is not counted.
    pub(crate) fn sessions(&self) -> Result<Option<Sessions>> {
        let client = &self.network().pods[0];
        Ok(match self.peer {
            Peer::Conduit => {
                let numbers = mesh::ask(client, (client.ip, mesh::ADMIN).into(), "/metrics")?;
                let of = |result: &str| {
                    sum(&numbers, |name| {
                        name.starts_with("conduit_tls_handshakes_total{")
                            && name.contains("direction=\"outbound\"")
                            && name.contains(&format!("result=\"{result}\""))
                    })
                };
                Some(Sessions { opened: of("full") + of("resumed"), resumed: of("resumed") })
            }
            Peer::Envoy if self.kept_sessions().is_some() => {
                let numbers = mesh::ask(client, envoy::ADMIN.into(), "/stats?filter=cluster.tcp.ssl")?;
                let of = |what: &str| sum(&numbers, |name| name == format!("cluster.tcp.ssl.{what}:"));
                Some(Sessions { opened: of("handshake"), resumed: of("session_reused") })
            }
            _ => None,
        })
    }

    /// How many sessions Envoy's client is told to keep: more than are opened side by side, or none.
    fn kept_sessions(&self) -> Option<u32> {
        match self.variation {
            Variation::NewSessions => Some(0),
            Variation::Resumption => Some(64),
            _ => None,
        }
    }

    /// The processes between client and origin: the client's half, the server's.
    pub(crate) fn pids(&self) -> Result<Vec<u32>> {
        [&self.client_half, &self.server_half].into_iter().flatten().map(Process::pid).collect()
    }

    /// What the client dials.
    pub(crate) fn target(&self, protocol: Protocol) -> SocketAddr {
        match self.peer {
            Peer::None => (self.server().ip, PORTS.origin.of(protocol)).into(),
            _ => (mesh::manifests::SERVICE_IP, PORTS.service.of(protocol)).into(),
        }
    }

    /// Runs a subcommand of this program in the client's pod, and gives what it printed.
    pub(crate) async fn client(&self, arguments: &[String]) -> Result<String> {
        let mut spawn =
            Spawn::new("the load", std::iter::once(crate::this_program()?).chain(arguments.iter().cloned()));
        spawn.cpu = Cpu::Load;
        spawn.output(&self.network().pods[0]).await
    }

    /// Ends everything.
    pub(crate) async fn stop(self) -> Result<()> {
        for process in [self.client_half, self.server_half, self.origin].into_iter().flatten() {
            process.stop().await?;
        }
        match self.place {
            Place::Mesh(mesh) => mesh.stop().await,
            Place::Bare { .. } => Ok(()),
        }
    }

    fn network(&self) -> &Network {
        match &self.place {
            Place::Bare { network, .. } => network,
            Place::Mesh(mesh) => &mesh.network,
        }
    }

    fn server(&self) -> &Pod {
        &self.network().pods[1]
    }

    fn folder(&self) -> &Path {
        match &self.place {
            Place::Bare { folder, .. } => folder.path(),
            Place::Mesh(mesh) => mesh.folder(),
        }
    }

    fn spawn(&self, half: Half) -> Result<Option<Process>> {
        let (index, name) = match half {
            Half::Client => (0, "client"),
            Half::Server => (1, "server"),
        };
        let certificates = self.folder().join("certificates");
        let server = self.server().ip;
        let command = match (&self.place, self.peer) {
            (Place::Mesh(mesh), _) => return mesh.spawn_proxy(index).map(Some),
            (_, Peer::None | Peer::Conduit) => return Ok(None),
            (_, Peer::Floor) => [vec![crate::this_program()?, "relay".into()], floor_maps(half, server)].concat(),
            (_, Peer::Haproxy) => {
                let file = self.write(name, &haproxy::configuration(half, server, &certificates))?;
                vec![self.programs.haproxy.display().to_string(), "-db".into(), "-f".into(), file]
            }
            (_, Peer::Envoy) => {
                let file = self.write(
                    name,
                    &envoy::configuration(half, server, &certificates, self.kept_sessions()).to_string(),
                )?;
                let envoy = self.programs.envoy.display().to_string();
                let flags = ["--concurrency", "1", "--disable-hot-restart", "-l", "warning", "-c"];
                [vec![envoy], flags.map(ToOwned::to_owned).to_vec(), vec![file]].concat()
            }
        };
        let mut spawn = Spawn::new(format!("{}-{name}", self.peer), command);
        spawn.cpu = Cpu::Proxies;
        spawn.logged(&self.network().pods[index], self.folder()).map(Some)
    }

    fn write(&self, name: &str, configuration: &str) -> Result<String> {
        let path = self.folder().join(format!("{name}.yaml"));
        fs::write(&path, configuration)?;
        Ok(path.display().to_string())
    }

    /// Waits until a half can be used, and what is behind it.
    async fn is_ready(&mut self, half: Half) -> Result<()> {
        let server = self.server().ip;
        self.listen(1, PORTS.origin.all().map(|port| (server, port).into())).await?;
        match (&self.place, half) {
            (Place::Mesh(mesh), Half::Client) => {
                mesh.is_ready(0, self.client_half.as_mut().context("there is no proxy")?).await
            }
            (Place::Mesh(mesh), Half::Server) => {
                mesh.is_ready(1, self.server_half.as_mut().context("there is no proxy")?).await
            }
            (Place::Bare { .. }, _) if self.peer == Peer::None => Ok(()),
            (Place::Bare { .. }, Half::Client) => {
                self.listen(0, PORTS.outbound.all().map(|port| (Ipv4Addr::LOCALHOST, port).into())).await
            }
            (Place::Bare { .. }, Half::Server) => {
                self.listen(1, PORTS.inbound.all().map(|port| (server, port).into())).await
            }
        }
    }

    /// Waits until there is a listener at each of these addresses, as a pod sees them.
    async fn listen(&mut self, pod: usize, addresses: [SocketAddr; 3]) -> Result<()> {
        let started = Instant::now();
        for address in addresses {
            while self.network().pods[pod].namespace.connect(address, PATIENCE).is_err() {
                let processes = [&mut self.origin, &mut self.client_half, &mut self.server_half];
                processes.into_iter().flatten().try_for_each(Process::check)?;
                if started.elapsed() > PATIENCE {
                    bail!("{}: nothing listens at {address}", self.peer);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }
}

/// TLS sessions that a client has opened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sessions {
    /// All of them.
    pub(crate) opened: f64,
    /// Those that go on from an earlier one.
    pub(crate) resumed: f64,
}

impl Sessions {
    /// The percentage that was resumed of those that were opened after `earlier`.
    pub(crate) fn resumed_since(self, earlier: Self) -> f64 {
        100.0 * (self.resumed - earlier.resumed) / (self.opened - earlier.opened).max(1.0)
    }
}

/// The sum of those numbers, each at the end of a line, whose names are meant.
fn sum(numbers: &str, is_meant: impl Fn(&str) -> bool) -> f64 {
    let lines = numbers.lines().filter_map(|line| line.rsplit_once(' '));
    lines.filter(|(name, _)| is_meant(name)).filter_map(|(_, number)| number.trim().parse::<f64>().ok()).sum()
}

fn parts(programs: &Programs, variation: Variation) -> Parts {
    let Ports { http1, http2, tcp } = PORTS.service;
    let to = PORTS.origin;
    let port = |name: &str, port: u16, target: u16| mesh::manifests::Port::new(name, port, target);
    Parts {
        binaries: programs.binaries.clone(),
        servers: 1,
        services: variation.services(),
        addresses: variation.addresses(),
        plaintext: variation == Variation::Plaintext,
        either_cpu: matches!(variation, Variation::EitherCpu | Variation::TwoWorkers),
        ports: vec![port("http", http1, to.http1), port("grpc", http2, to.http2), port("tcp", tcp, to.tcp)],
        settings: match variation {
            Variation::TwoWorkers => vec![("CONDUIT_PROXY_WORKERS".to_owned(), "2".to_owned())],
            _ => Vec::new(),
        },
        keep: None,
    }
}

/// Two pods in which what is sent to the Service is redirected to a peer's half.
fn bare(peer: Peer) -> Result<Place> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let certificates = folder.path().join("certificates");
    fs::create_dir(&certificates)?;
    certificates::write(&certificates)?;
    let names = ["client", "server-0"].map(ToOwned::to_owned);
    let network = Network::new(&names, &mesh::hosts(), folder.path())?;
    if peer != Peer::None {
        let rules = folder.path().join("rules.nft");
        fs::write(&rules, redirects())?;
        network.pods[0].namespace.succeed(Command::new("nft").arg("-f").arg(&rules))?;
    }
    Ok(Place::Bare { network, folder })
}
