//! Certificates take care of themselves: root and issuer change, the Secret goes, the operator is away, and nobody notices
//! until a certificate ends.

use crate::pair;
use anyhow::{Context, Result, ensure};
use conduit_e2e::{
    Case, Mesh,
    attack::{ISSUER, attacker},
    eventually, identity, installation, manifest, workload,
};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use rustls::pki_types::CertificateDer;
use serde_json::json;
use std::time::{Duration, Instant, SystemTime};

#[test]
fn issuer_and_root_rotate_under_traffic() {
    Case::run("rotation", Mesh::Enabled, async |case| {
        let outcome = async {
            installation::install(&case.cluster, &["identity.rotationOverlap=10s", "identity.certificateLifetime=60s"])
                .await?;
            pair(&case).await?;
            case.service_accounts(&["thief"]).await?;
            case.steal_issuer().await?;
            case.apply(&attacker("thief", "thief", "[sleep, 1h]")).await?;
            case.pod_ready("thief").await?;
            let pods = case.pods_of("echo").await?;
            let address = pods[0].status.as_ref().and_then(|status| status.pod_ip.clone()).context("no address")?;
            let traffic = case.traffic("client", "http://echo", 100).await?;

            // A session of a connection is taken up again as long as nothing changed.
            let own = format!("spiffe://cluster.local/ns/{}/sa/thief", case.namespace);
            let to = format!("{address}:8080");
            let attack = ["tls", "--to", &to, "--issuer", ISSUER, "--identity", &own];
            let [first, second] = case.attack_twice("thief", &attack).await?.again().await?;
            ensure!(first["ok"] == true && first["resumed"] == false, "{first}");
            ensure!(second["ok"] == true && second["resumed"] == true, "nothing is ever resumed: {second}");
            let across = case.attack_twice("thief", &attack).await?;

            let began = identity::secret(&case.cluster).await?;
            identity::rotate(&case.cluster, "issuer").await?;
            changed(&case, "issuer.crt", &identity::certificate(&began, "issuer.crt")?, Duration::from_secs(20))
                .await?;
            let now = identity::secret(&case.cluster).await?;
            ensure!(
                identity::certificate(&now, "root.crt")? == identity::certificate(&began, "root.crt")?,
                "the root was rotated with its issuer"
            );

            identity::rotate(&case.cluster, "root").await?;
            let root = identity::certificate(&began, "root.crt")?;
            // Announced for an overlap of 10 s before it signs.
            changed(&case, "root.crt", &root, Duration::from_secs(60)).await?;
            let issuer = identity::certificate(&identity::secret(&case.cluster).await?, "issuer.crt")?;
            // Proxies renew within a tenth of a certificate's life.
            eventually("every proxy is on the new root", Duration::from_secs(40), || {
                case.signed_by(&["echo", "client"], &issuer)
            })
            .await?;
            let [_, after] = across.again().await?;
            ensure!(after["resumed"] == false, "a session outlived the rotation: {after}");
            traffic.end().await?.none_failed()?;
            untouched(&case).await
        }
        .await;
        installation::install(&case.cluster, &[]).await?;
        outcome
    });
}

#[test]
fn without_an_operator_nothing_fails_before_a_certificate_ends_and_all_recovers_when_it_is_back() {
    Case::run("operator-away", Mesh::Enabled, async |case| {
        let outcome = async {
            installation::install(&case.cluster, &["identity.certificateLifetime=60s"]).await?;
            // One server: with two, a connection to either might be idle, and be closed for that.
            case.apply(&manifest::echo("echo", 1)).await?;
            case.apply(&manifest::client("client")).await?;
            case.apply(&manifest::echo("later", 1)).await?;
            for app in ["echo", "client", "later"] {
                case.available(app).await?;
            }
            case.reaches("client", "http1", "http://echo").await?;
            // Known to the client from now on; its connections are idle then, and closed long before the certificates end.
            case.reaches("client", "http1", "http://later").await?;
            // All have certificates of less than 70 % of their life now, and none gets another.
            installation::scale(&case.cluster, 0).await?;
            let kept = case.traffic_on_one_connection("client", "http://echo", 10).await?;
            let traffic = case.traffic("client", "http://echo", 50).await?;
            let (first, last) = ends(&case).await?;
            let margin = Duration::from_secs(3);
            ensure!(first > Instant::now() + 3 * margin, "certificates end too soon to look");
            tokio::time::sleep_until((first - margin).into()).await;
            traffic.end().await?.none_failed().context("before any certificate ended")?;

            tokio::time::sleep_until((last + margin).into()).await;
            let answer = case.check("client", "fetch", "http://later/inspect").await?;
            ensure!(answer["status"] == 503, "past the end a new connection was made: {answer}");
            let code = answer["headers"]["conduit-error"].as_str().unwrap_or_default();
            ensure!(code.starts_with("identity-expired"), "{answer}");
            kept.end().await?.none_failed().context("connections that were open when the certificates ended")?;

            installation::scale(&case.cluster, 1).await?;
            eventually("all have recovered", Duration::from_secs(30), || async {
                for target in ["http://later/inspect", "http://echo/inspect"] {
                    let answer = case.check("client", "fetch", target).await?;
                    ensure!(answer["status"] == 200, "{target}: {answer}");
                }
                Ok(())
            })
            .await?;
            let traffic = case.traffic("client", "http://echo", 50).await?;
            tokio::time::sleep(Duration::from_secs(3)).await;
            traffic.end().await?.none_failed().context("after its return")?;
            untouched(&case).await
        }
        .await;
        let restored = async {
            // First the number of operators: helm does not take back what somebody else has set otherwise.
            installation::scale(&case.cluster, 1).await?;
            installation::install(&case.cluster, &[]).await
        }
        .await;
        outcome.and(restored)
    });
}

/// When the first and the last certificate of the case's proxies end.
async fn ends(case: &Case) -> Result<(Instant, Instant)> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64();
    let (mut first, mut last) = (f64::MAX, 0.0_f64);
    for pod in case.pods().list(&ListParams::default()).await? {
        let scrape = case.scrape(&pod.metadata.name.context("a pod without a name")?).await?;
        let end = scrape.sum("identity_cert_expiration_timestamp_seconds", &[]);
        (first, last) = (first.min(end), last.max(end));
    }
    let instant = |end: f64| Instant::now() + Duration::from_secs_f64((end - now).max(0.0));
    Ok((instant(first), instant(last)))
}

#[test]
fn an_identity_secret_that_is_emptied_or_deleted_comes_back_as_it_was() {
    Case::run("identity-secret", Mesh::Enabled, async |case| {
        pair(&case).await?;
        let traffic = case.traffic("client", "http://echo", 100).await?;
        let began = identity::secret(&case.cluster).await?;
        let secrets = identity::secrets(&case.cluster);
        let restored = async |what: &str| {
            eventually(&format!("the Secret is back after it was {what}"), Duration::from_secs(20), || async {
                let now = identity::secret(&case.cluster).await?;
                ensure!(now.data == began.data, "it holds something else");
                Ok(())
            })
            .await
        };
        let empty = Patch::Merge(json!({"data": null}));
        secrets.patch(identity::SECRET, &PatchParams::default(), &empty).await?;
        restored("emptied").await?;
        secrets.delete(identity::SECRET, &DeleteParams::default()).await?;
        restored("deleted").await?;
        // A pod of now has a certificate that those of before trust.
        case.apply(&manifest::client("later")).await?;
        case.available("later").await?;
        case.check("later", "grpc", "http://echo:82").await?;
        traffic.end().await?.none_failed()?;
        untouched(&case).await
    });
}

#[test]
fn an_issuer_of_the_user_s_own_is_used_and_followed() {
    Case::run("own-issuer", Mesh::Enabled, async |case| {
        const SECRET: &str = "own-issuer";
        let secrets = identity::secrets(&case.cluster);
        let outcome = async {
            let first = own_issuer::new("first")?;
            case.cluster.apply(installation::SYSTEM, &first.secret(SECRET)?).await?;
            installation::install(&case.cluster, &[&format!("identity.issuer.existingSecret={SECRET}")]).await?;
            pair(&case).await?;
            case.signed_by(&["echo", "client"], &first.certificate).await?;
            case.check("client", "grpc", "http://echo:82").await?;

            // As cert-manager renews it: another issuer below the same root. Nothing fails.
            let traffic = case.traffic("client", "http://echo", 50).await?;
            let second = first.renewed("second")?;
            case.cluster.apply(installation::SYSTEM, &second.secret(SECRET)?).await?;
            case.apply(&manifest::client("later")).await?;
            case.available("later").await?;
            eventually("a pod of now has a certificate of the new one", Duration::from_secs(60), || async {
                let pod = case.pod("later").await?;
                case.signed_by(&["later"], &second.certificate)
                    .await
                    .or(Err(anyhow::anyhow!("{}", workload::state(&pod))))?;
                Ok(())
            })
            .await?;
            case.check("later", "grpc", "http://echo:82").await?;
            // What cannot be used changes nothing.
            let broken = second.secret(SECRET)?.replace("PRIVATE KEY", "NO KEY");
            case.cluster.apply(installation::SYSTEM, &broken).await?;
            case.apply(&manifest::client("latest")).await?;
            case.available("latest").await?;
            case.check("latest", "grpc", "http://echo:82").await?;
            traffic.end().await?.none_failed()?;
            untouched(&case).await
        }
        .await;
        installation::install(&case.cluster, &[]).await?;
        secrets.delete(SECRET, &DeleteParams::default()).await?;
        outcome
    });
}

/// Waits until an entry of the mesh's Secret is another certificate.
async fn changed(case: &Case, entry: &str, before: &CertificateDer<'_>, within: Duration) -> Result<()> {
    eventually(&format!("there is another {entry}"), within, || async {
        let now = identity::certificate(&identity::secret(&case.cluster).await?, entry)?;
        ensure!(now != *before, "it is the same");
        Ok(())
    })
    .await
}

/// That no container of the case was restarted.
async fn untouched(case: &Case) -> Result<()> {
    for pod in case.pods().list(&ListParams::default()).await? {
        ensure!(workload::restarts(&pod).iter().all(|times| *times == 0), "restarted: {}", workload::state(&pod));
    }
    Ok(())
}

mod own_issuer {
    //! A certificate authority of a user, in the Secret layout of cert-manager.

    use anyhow::Result;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
    use rustls::pki_types::CertificateDer;
    use std::sync::Arc;

    /// An issuer below a root.
    pub(super) struct OwnIssuer {
        root: Arc<CertifiedIssuer<'static, KeyPair>>,
        key: KeyPair,
        pem: String,
        /// The issuer's certificate.
        pub(super) certificate: CertificateDer<'static>,
    }

    /// A root and an issuer below it.
    pub(super) fn new(name: &str) -> Result<OwnIssuer> {
        let root = CertifiedIssuer::self_signed(authority("root of the user"), KeyPair::generate()?)?;
        below(Arc::new(root), name)
    }

    fn below(root: Arc<CertifiedIssuer<'static, KeyPair>>, name: &str) -> Result<OwnIssuer> {
        let key = KeyPair::generate()?;
        let certificate = authority(name).signed_by(&key, &*root)?;
        Ok(OwnIssuer { root, key, pem: certificate.pem(), certificate: certificate.der().clone() })
    }

    fn authority(name: &str) -> CertificateParams {
        let mut wanted = CertificateParams::default();
        wanted.distinguished_name.push(DnType::CommonName, name);
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wanted.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        wanted.use_authority_key_identifier_extension = true;
        wanted
    }

    impl OwnIssuer {
        /// Another issuer below the same root.
        pub(super) fn renewed(&self, name: &str) -> Result<OwnIssuer> {
            below(self.root.clone(), name)
        }

        /// The Secret with it, as YAML.
        pub(super) fn secret(&self, name: &str) -> Result<String> {
            Ok(serde_json::to_string(&serde_json::json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "kubernetes.io/tls",
                "metadata": {"name": name},
                "stringData": {"tls.crt": self.pem, "tls.key": self.key.serialize_pem(), "ca.crt": self.root.pem()},
            }))?)
        }
    }
}
