//! A pod from which the mesh is attacked, with what a thief could have: tokens, certificates, the mesh's own issuer.
//!
//! What an attempt does is `conduit-demo attack`'s; this file knows how it is started and what Kubernetes gives away.

use crate::{
    case::Case,
    command::{self, Output},
    identity,
    manifest::{self, PROGRAM},
};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{Pod, Secret, ServiceAccount},
};
use kube::{
    Api, ResourceExt,
    api::{AttachedProcess, ObjectMeta, PostParams},
};
use serde_json::Value;

/// The audience of tokens that the operator takes.
pub const AUDIENCE: &str = "identity.conduit.io";
/// Folder of [`attacker`] for what it is given.
pub const KEPT: &str = "/kept";
/// Folder of [`attacker`] with the mesh's issuer, where it was stolen.
pub const ISSUER: &str = "/issuer";
/// Secret of a case with a copy of the mesh's issuer.
const STOLEN: &str = "stolen";

/// A pod without a proxy that runs as this service account, trusts what the mesh trusts, and has what was stolen.
pub fn attacker(name: &str, service_account: &str, arguments: &str) -> String {
    let mounts = format!(
        "    volumeMounts:
    - {{name: trust, mountPath: /var/run/conduit}}
    - {{name: kept, mountPath: {KEPT}}}
    - {{name: issuer, mountPath: {ISSUER}}}"
    );
    let volumes = format!(
        "serviceAccountName: {service_account}
  volumes:
  - {{name: trust, configMap: {{name: conduit-trust-bundle}}}}
  - {{name: kept, emptyDir: {{medium: Memory}}}}
  - {{name: issuer, secret: {{secretName: {STOLEN}, optional: true}}}}"
    );
    manifest::also(&manifest::plain(&manifest::pod(name, arguments, &mounts)), &volumes)
}

/// The same, made to look as if a proxy served it: what the operator goes by is there, and there is no proxy.
pub fn impostor(name: &str, service_account: &str, arguments: &str) -> String {
    let proxy = format!(
        "initContainers:
  - {{name: conduit-proxy, image: '{}', args: [sleep, 1h], restartPolicy: Always}}",
        manifest::IMAGE
    );
    manifest::also(&attacker(name, service_account, arguments), &proxy)
}

impl Case {
    /// Makes service accounts.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn service_accounts(&self, names: &[&str]) -> Result<()> {
        for name in names {
            self.apply(&format!("{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {name}}}}}")).await?;
        }
        Ok(())
    }

    /// Copies the mesh's issuer, with its key, to where attackers have it.
    ///
    /// # Errors
    /// Where the mesh has none.
    pub async fn steal_issuer(&self) -> Result<()> {
        let own = identity::secret(&self.cluster).await?;
        let copy = Secret {
            metadata: ObjectMeta { name: Some(STOLEN.into()), ..ObjectMeta::default() },
            data: own.data,
            ..Secret::default()
        };
        let secrets: Api<Secret> = Api::namespaced(self.cluster.client.clone(), &self.namespace);
        secrets.create(&PostParams::default(), &copy).await?;
        Ok(())
    }

    /// A token of a service account for this audience, bound to this pod where one is given. Ten minutes are the shortest
    /// that Kubernetes gives.
    ///
    /// # Errors
    /// What the API server says.
    pub async fn token(&self, service_account: &str, audience: &str, pod: Option<&Pod>) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.cluster.client.clone(), &self.namespace);
        let bound = pod.map(|pod| BoundObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: Some(pod.name_any()),
            uid: pod.uid(),
        });
        let spec = TokenRequestSpec {
            audiences: vec![audience.into()],
            bound_object_ref: bound,
            expiration_seconds: Some(600),
        };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let given = accounts.create_token_request(service_account, &PostParams::default(), &request).await?;
        Ok(given.status.context("no token was given")?.token)
    }

    /// What came of `conduit-demo attack` in a pod.
    ///
    /// # Errors
    /// Where the attempt could not be made: one that the mesh refuses is no error.
    pub async fn attack(&self, pod: &str, arguments: &[&str]) -> Result<Value> {
        let output = self.exec(pod, &[&[PROGRAM, "attack"], arguments].concat()).await?;
        output.json().with_context(|| format!("attack {}", arguments.join(" ")))
    }

    /// Starts an attack that connects twice: now, and when it is told to.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub async fn attack_twice(&self, pod: &str, arguments: &[&str]) -> Result<Twice> {
        let process = self.start(pod, &[&[PROGRAM, "attack"], arguments, &["--again"]].concat()).await?;
        Ok(Twice { process })
    }

    /// What a container has written so far.
    ///
    /// # Errors
    /// Where there is no such pod or container.
    pub async fn log(&self, pod: &str) -> Result<String> {
        let of_app = kube::api::LogParams { container: Some("app".into()), ..Default::default() };
        Ok(self.pods().logs(pod, &of_app).await?)
    }

    /// The lines of JSON that a container has written so far.
    ///
    /// # Errors
    /// Where a line is none.
    pub async fn lines(&self, pod: &str) -> Result<Vec<Value>> {
        let log = self.log(pod).await?;
        log.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    }
}

/// An attack that has connected once.
pub struct Twice {
    process: AttachedProcess,
}

impl Twice {
    /// Connects again, with the session of the first connection; gives what came of both.
    ///
    /// # Errors
    /// Where there are not two lines.
    pub async fn again(mut self) -> Result<[Value; 2]> {
        let mut input = self.process.stdin().context("no standard input")?;
        tokio::io::AsyncWriteExt::write_all(&mut input, b"\n").await?;
        tokio::io::AsyncWriteExt::flush(&mut input).await?;
        let Output { stdout, stderr, .. } = command::finish(self.process).await?;
        let lines: Vec<Value> =
            stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>().with_context(|| stdout.clone())?;
        lines.try_into().map_err(|_| anyhow::anyhow!("not two lines: {stdout}{stderr}"))
    }
}

/// That an attempt was refused before the application had a part in it.
///
/// # Errors
/// Where it was not.
pub fn refused(line: &Value) -> Result<()> {
    ensure!(line["ok"] == false && line["answer"].is_null(), "it was not refused: {line}");
    // A connection that could not be opened at all proves nothing of what is behind it.
    ensure!(!line["error"].as_str().unwrap_or_default().starts_with("no connection"), "it never got there: {line}");
    Ok(())
}
