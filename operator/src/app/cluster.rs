//! The operator in a cluster: every part, put together.

use super::{
    Flags, SERVICE,
    admin::{self, Condition, Readiness},
    mesh::{self, Listeners},
    tasks::Tasks,
    webhooks,
};
use crate::{
    credential::TokenReviews,
    index::{self, Index, ObjectName},
    issuer::Lifetimes,
    reconcile::{
        certificate,
        identity::{self, Identity},
        leader::Election,
        notices::{Certificate, Notices},
        remarks::Remarks,
        status::{self, LEASE, Status},
        trust_bundle,
    },
};
use anyhow::{Context, anyhow};
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long to serve on after being told to stop: others learn of it from EndpointSlices and kube-proxy's rules.
const LINGER: Duration = Duration::from_secs(3);

/// Runs the operator against the API server of its cluster.
///
/// # Errors
///
/// It could not start, or a part of it ended by itself.
pub(super) async fn run(flags: &Flags) -> anyhow::Result<()> {
    let config = flags
        .injection()
        .map_err(|faults| anyhow!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")))?;
    let lifetimes = flags.identity.lifetimes().map_err(|fault| anyhow!("{fault}"))?;
    refuse_reserved(flags)?;
    let client = Client::try_default().await.context("cannot find the API server")?;
    let mut tasks = Tasks::new();
    let closing = tasks.closing();
    let mut registry = admin::registry();

    let index = super::index(flags);
    let (watched, watching) = (index.clone(), client.clone());
    // It holds the state of seven watches.
    tasks.spawn_until_closing("the index", async move { Box::pin(index::watch::run(&watched, watching)).await });

    let notices = Notices::new(client.clone(), &flags.namespace, &flags.pod_name);
    notices.register(&mut registry);
    let admitting = webhooks::Parts { config, client: client.clone(), index: index.clone(), notices: notices.clone() };
    let webhooks = webhooks::start(&mut tasks, flags, &mut registry, admitting).await?;

    let (issuer, issuing) = watch::channel(None);
    let identity = Identity {
        secrets: Api::namespaced(client.clone(), &flags.namespace),
        source: issuer_source(flags, lifetimes),
        issuer,
        notices: notices.clone(),
        now: OffsetDateTime::now_utc,
    };
    tasks.spawn("what signs certificates", identity.run(closing.clone()));
    let (bundle, trusted) = watch::channel(None);
    tasks.spawn("the trust bundle", trust_bundle::run(client.clone(), trusted, closing.clone()));
    let parts = mesh::Parts {
        index: index.clone(),
        credentials: Arc::new(TokenReviews::new(client.clone())),
        issuer: issuing,
        lifetimes,
        bundle,
        served_until: Box::new(move |at| notices.expires(Certificate::serving, at)),
    };
    let listeners = Listeners::bind(flags).await?;
    let mesh = mesh::start(&mut tasks, flags, &mut registry, listeners, parts)?;

    tasks.spawn("the status of objects", lead(flags, index.clone(), client, closing));

    let mut conditions = vec![Condition::new("the index is not synced", move || index.synced())];
    conditions.extend(webhooks);
    conditions.extend(mesh.conditions);
    let readiness = Readiness::new(conditions);
    let report = move || {
        let discovery = mesh.discovery.clone();
        async move { discovery.programmed().await }
    };
    let admin = admin::router(readiness.clone(), registry).merge(status::router(report));
    super::serve_admin(&mut tasks, flags, admin).await?;
    tasks.run(LINGER, || readiness.drain()).await
}

/// Writes status and Events while this replica holds the Lease.
fn lead(flags: &Flags, index: Index, client: Client, closing: CancellationToken) -> impl Future<Output = ()> + use<> {
    let remarks = Arc::new(Remarks { index: index.clone(), client: client.clone(), instance: flags.pod_name.clone() });
    let status = Arc::new(Status {
        index,
        client,
        service: ObjectName::new(&flags.namespace, SERVICE),
        admin_port: flags.admin_port,
        now: Timestamp::now,
    });
    let election = Election {
        leases: status.leases(),
        name: LEASE.to_owned(),
        identity: flags.pod_name.clone(),
        now: Timestamp::now,
    };
    election.run(closing, move |leader| {
        let (status, remarks) = (Arc::clone(&status), Arc::clone(&remarks));
        async move {
            tokio::join!(status.run(&leader), remarks.run(&leader));
        }
    })
}

/// A user's own Secret is never written; one that Conduit fills itself would be emptied of what somebody puts there.
fn refuse_reserved(flags: &Flags) -> anyhow::Result<()> {
    let given = &flags.identity;
    for (flag, name) in [
        ("--issuer-secret", given.issuer_secret()),
        ("--webhook-certificate-secret", given.webhook_certificate_secret()),
    ] {
        let reserved = [identity::SECRET, certificate::SECRET].into_iter().find(|reserved| name == Some(reserved));
        if let Some(reserved) = reserved {
            return Err(anyhow!(
                "flag {flag}: must name a Secret of your own, is {reserved}, which Conduit fills itself"
            ));
        }
    }
    Ok(())
}

/// Where the issuer of workloads' certificates comes from.
fn issuer_source(flags: &Flags, lifetimes: Lifetimes) -> identity::Source {
    match flags.identity.issuer_secret() {
        Some(secret) => {
            let domain = flags.identity.trust_domain.clone();
            identity::Source::Users { secret: secret.to_owned(), domain }
        }
        None => identity::Source::Ours(lifetimes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn a_secret_that_conduit_fills_itself_is_nobody_elses() {
        let refused = |argument: &str| {
            let flags = Flags::parse_from(["conduit-operator", argument]);
            refuse_reserved(&flags).map_err(|error| error.to_string())
        };
        assert_eq!([refused("--issuer-secret=mine"), refused("--issuer-secret=")], [Ok(()), Ok(())]);
        for (argument, flag, name) in [
            ("--issuer-secret=conduit-identity", "--issuer-secret", "conduit-identity"),
            ("--issuer-secret=conduit-webhook-certs", "--issuer-secret", "conduit-webhook-certs"),
            (
                "--webhook-certificate-secret=conduit-webhook-certs",
                "--webhook-certificate-secret",
                "conduit-webhook-certs",
            ),
        ] {
            let said = format!("flag {flag}: must name a Secret of your own, is {name}, which Conduit fills itself");
            assert_eq!(refused(argument), Err(said));
        }
    }
}
