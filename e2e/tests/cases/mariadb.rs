//! A real MariaDB, whose client says nothing until its server has spoken.

use anyhow::{Context, Result, ensure};
use conduit_e2e::{
    Case, Mesh, command,
    manifest::{self, MARIADB_IMAGE},
};
use tokio::io::AsyncWriteExt;

/// Its own limit is the proof that nobody waits for ten seconds: it gives up where the server is not heard within five.
const CLIENT: [&str; 5] =
    ["/usr/bin/mariadb", "--no-defaults", "--batch", "--skip-column-names", "--connect-timeout=5"];

/// Ports of the Service: what is known of the first is enough, the second is declared, of the third nothing is known.
const PORTS: [&str; 3] = ["3306", "5000", "4000"];

/// A MariaDB that lets everybody in and listens on two ports, and a Service with three.
fn server() -> String {
    let arguments = [
        "--no-defaults",
        "--skip-grant-tables",
        "--skip-name-resolve",
        "--datadir=/data",
        "--tmpdir=/data",
        "--socket=/data/socket",
        "--pid-file=/data/pid",
        "--innodb-buffer-pool-size=8M",
        "--port=3306",
        // Of these it takes this many and one more.
        "--extra-port=4000",
        "--extra-max-connections=8",
    ];
    let container = "    readinessProbe: {tcpSocket: {port: 3306}, periodSeconds: 1}
    volumeMounts: [{name: data, mountPath: /data}]";
    let pod = manifest::pod("db", &format!("['{}']", arguments.join("', '")), container);
    let pod = manifest::also(&pod, "volumes:\n  - {name: data, emptyDir: {}}").replace(manifest::IMAGE, MARIADB_IMAGE);
    format!(
        "{pod}---
apiVersion: v1
kind: Service
metadata: {{name: db}}
spec:
  selector: {{app: db}}
  ports:
  - {{name: well-known, port: 3306}}
  - {{name: declared, port: 5000, targetPort: 3306, appProtocol: tcp}}
  - {{name: anything, port: 4000}}
"
    )
}

/// A pod to run MariaDB's client in.
fn client(name: &str) -> String {
    let command = "    command: [/bin/sleep, 1h]";
    let pod = manifest::pod(name, "[]", command).replace(manifest::IMAGE, MARIADB_IMAGE);
    pod.replace("terminationGracePeriodSeconds: 5", "terminationGracePeriodSeconds: 0")
}

#[test]
fn a_real_mariadb_is_heard_on_every_port_and_its_bytes_come_back_whole() {
    Case::run("mariadb", Mesh::Enabled, async |case| {
        case.apply(&server()).await?;
        case.apply(&client("client")).await?;
        case.apply(&manifest::plain(&client("plain-client"))).await?;
        for app in ["db", "client", "plain-client"] {
            case.pod_ready(app).await?;
        }
        for app in ["client", "plain-client"] {
            for port in PORTS {
                kept(&case, app, port).await.with_context(|| format!("{app} to port {port}"))?;
            }
        }
        let client = case.scrape_of("client").await?;
        let database = [("direction", "outbound"), ("dst_service", "db"), ("tls", "true")];
        let connections = client.sum("tcp_open_total", &database);
        ensure!(connections >= PORTS.len() as f64, "{connections} encrypted connections to the database are counted");
        ensure!(client.sum("request_total", &[]) == 0.0, "the database's bytes were read as requests");
        Ok(())
    });
}

/// That the database keeps a long text that it is given through this port, and gives it back.
async fn kept(case: &Case, app: &str, port: &str) -> Result<()> {
    // A prime period, so that a block that was lost or doubled shows.
    let text = String::from_iter((0..1_000_000_u32).map(|index| char::from(b'a' + (index % 23) as u8)));
    let script = format!(
        "create or replace database test; create table test.kept (what longtext); \
         insert into test.kept values ('{text}'); select what from test.kept;\n\\q\n"
    );
    let pod = case.pod(app).await?.metadata.name.context("a pod without a name")?;
    let mut process = case.start(&pod, &[&CLIENT[..], &["--host=db", "--port", port]].concat()).await?;
    let mut input = process.stdin().context("no standard input")?;
    let output = tokio::spawn(command::finish(process));
    // A client that gave up has said why, which tells more than that it reads no more.
    let _read = input.write_all(script.as_bytes()).await;
    let answer = output.await??.success()?;
    ensure!(answer.trim_end() == text, "{} bytes came back, not those that were sent", answer.len());
    Ok(())
}
