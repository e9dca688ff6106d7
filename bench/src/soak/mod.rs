//! The soak: traffic of all kinds for a long time while endpoints come and go, and a large transfer before it. It fails where
//! an exchange fails, since there is a live endpoint at any time and every one that was removed still answers, and where
//! descriptors or memory of a process grow. Must not know how loads work.

mod growth;

use crate::{
    load::{Aborted, BulkResult, LoadResult},
    measure::Usage,
    mesh::{
        Mesh, Parts,
        manifests::{Endpoint, SERVICE_IP},
    },
    topology::{Cpu, Process, Spawn},
};
use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use growth::{Watched, verdicts};
use serde::de::DeserializeOwned;
use std::{path::PathBuf, time::Duration};

/// Pods that serve.
const SERVERS: u8 = 3;
/// Between two changes of endpoints.
const CHURN: Duration = Duration::from_millis(500);
/// Between two looks at the processes.
const LOOK: Duration = Duration::from_secs(2);
/// After the last exchange, until what is held then is looked at: longer than a pool keeps an idle connection.
const SETTLE: Duration = Duration::from_secs(10);
/// Which servers are endpoints, one after another. No set is empty.
const SETS: [&[usize]; 8] = [&[0, 1, 2], &[0, 1], &[1], &[1, 2], &[2], &[0, 2], &[0], &[2, 1, 0]];

/// Mixed traffic with churn, and a large transfer: fails if exchanges fail or something grows.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Soak {
    /// The folder with conduit-operator, conduit-proxy and conduit-init.
    #[arg(long, value_name = "DIR")]
    binaries: PathBuf,
    /// Seconds of mixed traffic.
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// Bytes of the transfer, each way.
    #[arg(long, default_value_t = 10_000_000_000)]
    bytes: u64,
    /// Where logs and manifests are, and stay; a temporary folder if not given.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// The loads that run beside each other: what they are told.
const LOADS: [(&str, &[&str]); 7] = [
    ("HTTP/1.1", &["--protocol=h1", "--rate=300", "--connections=16"]),
    ("HTTP/2", &["--protocol=h2", "--rate=200", "--connections=2", "--streams=8"]),
    ("gRPC", &["--protocol=grpc", "--rate=200", "--connections=2", "--streams=8"]),
    ("TCP", &["--protocol=tcp", "--rate=200", "--connections=16"]),
    ("HTTP/1.1, a connection each", &["--protocol=h1", "--rate=20", "--connections=8", "--reconnect"]),
    ("gRPC, a connection each", &["--protocol=grpc", "--rate=10", "--connections=8", "--reconnect"]),
    ("TCP, a connection each", &["--protocol=tcp", "--rate=20", "--connections=8", "--reconnect"]),
];
const ABORTS: [&str; 4] = ["h1", "h2", "grpc", "tcp"];

/// Runs it all.
///
/// # Errors
///
/// What failed, or grew.
pub(crate) async fn run(soak: &Soak) -> Result<()> {
    let ports = ["http:80:8080", "grpc:81:8081", "tcp:90:9090"].map(str::parse);
    let ports = ports.into_iter().collect::<Result<_, _>>().map_err(anyhow::Error::msg)?;
    let parts = Parts {
        binaries: soak.binaries.clone(),
        servers: SERVERS,
        services: 0,
        addresses: 1,
        plaintext: false,
        either_cpu: false,
        ports,
        settings: Vec::new(),
        keep: soak.keep.clone(),
    };
    let mesh = Mesh::start(&parts).await?;
    let mut origins: Vec<Process> = Vec::new();
    for pod in mesh.network.pods.iter().skip(1) {
        let mut origin = Spawn::new(format!("origin-{}", pod.name), [crate::this_program()?, "origin".to_owned()]);
        origin.cpu = Cpu::Load;
        origins.push(origin.logged(pod, &mesh.folder().join("logs"))?);
    }
    mesh.servers_listen(&mut origins).await?;

    for direction in ["down", "up"] {
        transfer(&mesh, direction, soak.bytes).await?;
    }
    let mut watched = watched(&mesh)?;
    watched.iter_mut().try_for_each(Watched::begin)?;
    println!("mixed traffic for {} s, endpoints change every {} ms", soak.seconds, CHURN.as_millis());
    let failures = tokio::select! {
        failures = traffic(&mesh, soak.seconds) => failures?,
        ended = churn(&mesh) => ended?,
        ended = look(&mut watched) => ended?,
    };
    tokio::time::sleep(SETTLE).await;
    let grown = verdicts(&mut watched)?;
    mesh.stop().await?;
    let faults = [failures, grown].concat();
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    println!("soak: nothing failed, nothing grew");
    Ok(())
}

/// The processes that must not grow.
fn watched(mesh: &Mesh) -> Result<Vec<Watched>> {
    let operator = Watched::new("operator", mesh.operator().pid()?);
    let proxies = mesh.network.pods.iter().zip(mesh.proxies());
    let proxies = proxies.map(|(pod, proxy)| Ok(Watched::new(format!("proxy of {}", pod.name), proxy.pid()?)));
    std::iter::once(Ok(operator)).chain(proxies).collect()
}

async fn transfer(mesh: &Mesh, direction: &str, bytes: u64) -> Result<()> {
    let arguments =
        ["bulk", "--protocol=tcp", "--checksum", &format!("--direction={direction}")].map(ToOwned::to_owned);
    let bytes = format!("--bytes={bytes}");
    let result: BulkResult = client(mesh, [&arguments[..], &[to("tcp"), bytes]].concat()).await?;
    let BulkResult { bytes, seconds, checksum, .. } = result;
    let rate = bytes as f64 / 1e6 / seconds;
    println!("transfer {direction}: {bytes} bytes in {seconds:.1} s, {rate:.0} MB/s, SHA-256 {checksum} on both sides");
    Ok(())
}

/// All loads until they end; what failed of them.
async fn traffic(mesh: &Mesh, seconds: u32) -> Result<Vec<String>> {
    let seconds = format!("--seconds={seconds}");
    let loads = LOADS.iter().map(async |(name, options)| {
        let protocol = options[0].trim_start_matches("--protocol=");
        let options = options.iter().map(ToString::to_string).collect();
        let arguments = [vec!["load".to_owned(), to(protocol), seconds.clone()], options].concat();
        let result: LoadResult = client(mesh, arguments).await?;
        anyhow::Ok((*name, result))
    });
    let aborts = ABORTS.iter().map(async |protocol| {
        let arguments = vec!["abort".to_owned(), to(protocol), format!("--protocol={protocol}"), seconds.clone()];
        client::<Aborted>(mesh, arguments).await
    });
    let (results, aborted) = futures::try_join!(try_join_all(loads), try_join_all(aborts))?;
    let aborted: u64 = aborted.iter().map(|aborted| aborted.aborted).sum();
    println!("{aborted} exchanges were broken off by their clients");
    let mut failures = Vec::new();
    for (name, LoadResult { exchanges, errors, stuck, first_error, latency, .. }) in results {
        println!(
            "{name}: {exchanges} exchanges, {errors} failed, p50 {:.0} µs, p99 {:.0} µs",
            latency.p50, latency.p99
        );
        if errors > 0 || stuck > 0 {
            let first = first_error.unwrap_or_else(|| "no answer".to_owned());
            failures.push(format!("{name}: {errors} failed and {stuck} got no answer; the first: {first}"));
        }
    }
    Ok(failures)
}

/// Changes the endpoints for ever.
async fn churn<T>(mesh: &Mesh) -> Result<T> {
    let all: Vec<Endpoint> =
        mesh.network.pods.iter().skip(1).map(|pod| Endpoint { pod: pod.name.clone(), ip: pod.ip }).collect();
    for set in SETS.iter().cycle() {
        let endpoints: Vec<Endpoint> = set.iter().filter_map(|index| all.get(*index).cloned()).collect();
        mesh.manifests.endpoints(&endpoints)?;
        tokio::time::sleep(CHURN).await;
    }
    bail!("there is no set of endpoints")
}

/// Looks at the processes for ever.
async fn look<T>(watched: &mut [Watched]) -> Result<T> {
    loop {
        tokio::time::sleep(LOOK).await;
        for process in watched.iter_mut() {
            process.look(Usage::of(process.pid).with_context(|| format!("the {} has ended", process.name))?);
        }
    }
}

fn to(protocol: &str) -> String {
    let port = match protocol {
        "h1" => 80,
        "tcp" => 90,
        _ => 81,
    };
    format!("--to={SERVICE_IP}:{port}")
}

async fn client<T: DeserializeOwned>(mesh: &Mesh, arguments: Vec<String>) -> Result<T> {
    let mut spawn = Spawn::new(arguments.join(" "), std::iter::once(crate::this_program()?).chain(arguments));
    spawn.cpu = Cpu::Load;
    let printed = spawn.output(&mesh.network.pods[0]).await?;
    Ok(serde_json::from_str(&printed)?)
}
