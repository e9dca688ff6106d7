//! Conduit as it is run, without a cluster: its operator on the node, in each pod the rules of its `conduit-init` and its
//! proxy, with everything on: discovery, identity, mutual TLS, policy, routes, balancing, metrics. Must not know what is
//! measured.

pub(crate) mod manifests;

use crate::topology::{Cpu, Host, Network, Pod, Process, Spawn};
use anyhow::{Context, Result, bail};
use manifests::{Manifests, NAMESPACE, Port, SERVICE_IP, SERVICE_NAME, account};
use serde_json::json;
use std::{
    fs,
    io::{Read, Write},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::TempDir;

const OPERATOR: &str = "conduit-operator.conduit.svc.cluster.local";
const PROXY_UID: u32 = 2102;
pub(crate) const ADMIN: u16 = 4191;
/// How long the mesh may take to be ready.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked at while it is not.
const PAUSE: Duration = Duration::from_millis(10);
/// How long one answer of an admin server may take.
const ANSWER: Duration = Duration::from_secs(2);

/// What a mesh is made of.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Parts {
    /// The folder with conduit-operator, conduit-proxy and conduit-init.
    #[arg(long, value_name = "DIR")]
    pub(crate) binaries: PathBuf,
    /// How many pods serve.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) servers: u8,
    /// A port of the Service; may be repeated.
    #[arg(
        long = "port",
        value_name = "NAME:PORT:TARGET[:APPPROTOCOL]",
        default_values = ["http:80:8080", "grpc:81:8081", "tcp:90:9090"]
    )]
    pub(crate) ports: Vec<Port>,
    /// How many other Services there are, each with a first port that leads to the first server.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=10_000))]
    pub(crate) services: u16,
    /// How many addresses each server's pod has: each is an endpoint of the Service, as if it were a pod of its own.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub(crate) addresses: u16,
    /// Have proxies speak plaintext to each other, by policy.
    #[arg(long)]
    pub(crate) plaintext: bool,
    /// Let the proxies run on either CPU, and not on one of their own.
    #[arg(long)]
    pub(crate) either_cpu: bool,
    /// A setting of the proxies beside those that they need, such as CONDUIT_PROXY_LOG=debug; may be repeated.
    #[arg(long = "proxy-env", value_name = "NAME=VALUE", value_parser = setting)]
    pub(crate) settings: Vec<(String, String)>,
    /// Where logs and manifests are, and stay; a temporary folder if not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("expected NAME=VALUE, got {text:?}"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A mesh that runs. Everything ends with it.
#[derive(Debug)]
pub(crate) struct Mesh {
    /// The pods: the client, then the servers.
    pub(crate) network: Network,
    /// What the operator reads.
    pub(crate) manifests: Manifests,
    operator: Process,
    /// The proxies, in the order of the pods.
    proxies: Vec<Process>,
    parts: Parts,
    folder: PathBuf,
    _temporary: Option<TempDir>,
}

impl Mesh {
    /// Pods with rules, and a ready operator, but no proxies yet.
    pub(crate) async fn without_proxies(parts: &Parts) -> Result<Self> {
        let temporary = parts.keep.is_none().then(tempfile::tempdir).transpose()?;
        let folder = match (&parts.keep, &temporary) {
            (Some(folder), _) => std::path::absolute(folder)?,
            (None, Some(temporary)) => temporary.path().to_owned(),
            (None, None) => bail!("there is no folder"),
        };
        for name in ["manifests", "identity", "logs", "bin"] {
            fs::create_dir_all(folder.join(name)).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        // The proxies run as a user of their own, who has to reach what they read.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        for program in ["conduit-operator", "conduit-proxy", "conduit-init"] {
            let from = parts.binaries.join(program);
            fs::copy(&from, folder.join("bin").join(program))
                .with_context(|| format!("{} is not there", from.display()))?;
        }
        let servers = (0..parts.servers).map(|number| format!("server-{number}"));
        let names: Vec<String> = std::iter::once("client".to_owned()).chain(servers).collect();
        let network = Network::new(&names, &hosts(), &folder)?;
        if parts.addresses > 1 {
            network.widen()?;
        }
        let manifests = Manifests::write(&folder.join("manifests"), &network, parts)?;
        credentials(&folder.join("identity"), &network)?;
        for pod in &network.pods {
            let init = folder.join("bin/conduit-init");
            Spawn::new("conduit-init", [init.to_string_lossy()]).output(pod).await?;
        }
        let operator = operator(&folder).logged(&network.node, &folder.join("logs"))?;
        let mut mesh = Self {
            network,
            manifests,
            operator,
            proxies: Vec::new(),
            parts: parts.clone(),
            folder,
            _temporary: temporary,
        };
        mesh.operator_is_ready().await?;
        Ok(mesh)
    }

    /// A mesh whose proxies are ready.
    pub(crate) async fn start(parts: &Parts) -> Result<Self> {
        let mut mesh = Self::without_proxies(parts).await?;
        let pods = 0..mesh.network.pods.len();
        let mut proxies = pods.map(|index| mesh.spawn_proxy(index)).collect::<Result<Vec<_>>>()?;
        for (index, proxy) in proxies.iter_mut().enumerate() {
            mesh.is_ready(index, proxy).await?;
        }
        mesh.proxies = proxies;
        Ok(mesh)
    }

    /// Starts the proxy of the pod at this place, which is not ready when this returns.
    pub(crate) fn spawn_proxy(&self, index: usize) -> Result<Process> {
        let pod = self.network.pods.get(index).context("there is no such pod")?;
        self.proxy(index, pod).logged(pod, &self.folder.join("logs"))
    }

    /// The proxies, in the order of the pods.
    pub(crate) fn proxies(&self) -> &[Process] {
        &self.proxies
    }

    /// The operator.
    pub(crate) fn operator(&self) -> &Process {
        &self.operator
    }

    /// Where logs and manifests are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Asks everything to end.
    pub(crate) async fn stop(self) -> Result<()> {
        for proxy in self.proxies {
            proxy.stop().await?;
        }
        self.operator.stop().await
    }

    /// What a command in the client's pod is told of the mesh.
    pub(crate) fn environment(&self) -> Result<Vec<(String, String)>> {
        let mut environment = vec![
            ("CONDUIT_BENCH_SERVICE".to_owned(), SERVICE_NAME.to_owned()),
            ("CONDUIT_BENCH_SERVICE_IP".to_owned(), SERVICE_IP.to_string()),
            ("CONDUIT_BENCH_MANIFESTS".to_owned(), self.folder.join("manifests").display().to_string()),
            ("CONDUIT_BENCH_LOGS".to_owned(), self.folder.join("logs").display().to_string()),
            ("CONDUIT_BENCH_OPERATOR_PID".to_owned(), self.operator.pid()?.to_string()),
        ];
        for (pod, proxy) in self.network.pods.iter().zip(&self.proxies) {
            let name = pod.name.to_uppercase().replace('-', "_");
            let mut add = |what: &str, value: String| environment.push((format!("CONDUIT_BENCH_{name}_{what}"), value));
            add("IP", pod.ip.to_string());
            add("PROXY_PID", proxy.pid()?.to_string());
            add("ADMIN", format!("{}:{ADMIN}", pod.ip));
            add("NETNS", pod.namespace.net().display().to_string());
        }
        Ok(environment)
    }

    async fn operator_is_ready(&mut self) -> Result<()> {
        let started = Instant::now();
        let address = SocketAddr::from((Network::NODE, 9990));
        while !answers(&self.network.node, address) {
            self.operator.check()?;
            if started.elapsed() > PATIENCE {
                bail!("the operator is not ready{}", self.operator.last_words());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Waits until the proxy of the pod at this place says that it is ready.
    pub(crate) async fn is_ready(&self, index: usize, proxy: &mut Process) -> Result<()> {
        let started = Instant::now();
        let pod = self.network.pods.get(index).context("there is no such pod")?;
        while !answers(&self.network.node, (pod.ip, ADMIN).into()) {
            proxy.check()?;
            if started.elapsed() > PATIENCE {
                bail!("the proxy of {} is not ready{}", pod.name, proxy.last_words());
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Waits until each server listens at the ports that the Service leads to.
    pub(crate) async fn servers_listen(&self, serving: &mut [Process]) -> Result<()> {
        let started = Instant::now();
        for (pod, server) in self.network.pods.iter().skip(1).zip(serving) {
            for target in self.manifests.targets() {
                while pod.namespace.connect((pod.ip, target).into(), ANSWER).is_err() {
                    server.check()?;
                    if started.elapsed() > PATIENCE {
                        bail!("nothing listens at port {target} of {}{}", pod.name, server.last_words());
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        Ok(())
    }

    fn proxy(&self, index: usize, pod: &Pod) -> Spawn {
        let further = (1..self.parts.addresses).map(|number| Network::further(index, number));
        let addresses = std::iter::once(pod.ip).chain(further).map(|ip| ip.to_string()).collect::<Vec<_>>();
        let identity = self.folder.join("identity");
        let program = self.folder.join("bin/conduit-proxy");
        let mut spawn = Spawn::new(format!("proxy-{}", pod.name), [program.to_string_lossy()]);
        let own = [
            ("LOG", "info".to_owned()),
            ("POD_IPS", addresses.join(",")),
            ("POD_NAME", pod.name.clone()),
            ("POD_NAMESPACE", NAMESPACE.to_owned()),
            ("DISCOVERY_ADDRESS", format!("{OPERATOR}:8086")),
            ("IDENTITY_ADDRESS", format!("{OPERATOR}:8080")),
            ("TRUST_FILE", identity.join("ca.crt").display().to_string()),
            ("TOKEN_FILE", identity.join(&pod.name).display().to_string()),
        ];
        spawn.environment.extend(own.map(|(name, value)| (format!("CONDUIT_PROXY_{name}"), value)));
        spawn.environment.extend(self.parts.settings.iter().cloned());
        spawn.cpu = if self.parts.either_cpu { Cpu::Either } else { Cpu::Proxies };
        spawn.uid = Some(PROXY_UID);
        spawn
    }
}

/// What names mean in the pods of a mesh, and of anything that is compared with it.
pub(crate) fn hosts() -> [Host; 2] {
    [(OPERATOR.to_owned(), Network::NODE.into()), (SERVICE_NAME.to_owned(), SERVICE_IP.into())]
}

fn operator(folder: &Path) -> Spawn {
    let path = |name: &str| folder.join(name).display().to_string();
    let mut spawn = Spawn::new(
        "operator",
        [
            path("bin/conduit-operator"),
            format!("--manifests={}", path("manifests")),
            format!("--identity-dir={}", path("identity")),
            format!("--listen-ip={}", Network::NODE),
        ],
    );
    spawn.cpu = Cpu::Load;
    spawn
}

/// A token for each pod, and the list by which the operator knows them.
fn credentials(folder: &Path, network: &Network) -> Result<()> {
    let mut listed = Vec::new();
    for pod in &network.pods {
        let token = format!("token-of-{}", pod.name);
        fs::write(folder.join(&pod.name), &token)?;
        listed.push(json!({
            "token": token, "namespace": NAMESPACE, "serviceAccount": account(&pod.name), "pod": pod.name,
        }));
    }
    Ok(fs::write(folder.join("tokens.yaml"), serde_json::to_vec_pretty(&listed)?)?)
}

/// Whether an admin server says that its program is ready.
fn answers(from: &Pod, address: SocketAddr) -> bool {
    ask(from, address, "/ready").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
}

/// What an admin server answers, head and body.
pub(crate) fn ask(from: &Pod, address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = from.namespace.connect(address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
