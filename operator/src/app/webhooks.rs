//! The webhooks of a cluster: the certificate that they serve with, that the API server trusts it, and what answers.

use super::{
    Flags, SERVICE,
    admin::Condition,
    listen::{bind, with_tls},
    tasks::Tasks,
};
use crate::{
    admission::{self, Admission, Events, Namespaces},
    index::Index,
    inject,
    reconcile::{
        certificate::{self, Certificates},
        notices::Notices,
        webhook::{self, INJECTOR, VALIDATOR},
    },
};
use conduit_webhook_certs::ServingCertificate;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::{Api, Client};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use time::OffsetDateTime;
use tokio::sync::watch;

/// What the webhooks work with.
pub(super) struct Parts {
    /// What is injected.
    pub(super) config: inject::Config,
    pub(super) client: Client,
    pub(super) index: Index,
    /// Who hears until when the certificate is valid.
    pub(super) notices: Notices,
}

/// Starts them, and says what has to be so before the API server can call them.
///
/// # Errors
///
/// The port cannot be listened on, or TLS cannot be set up.
pub(super) async fn start(
    tasks: &mut Tasks,
    flags: &Flags,
    registry: &mut Registry,
    parts: Parts,
) -> anyhow::Result<[Condition; 3]> {
    let Parts { config, client, index, notices } = parts;
    let closing = tasks.closing();
    let serving = Arc::new(ServingCertificate::default());
    let (bundle, ca_bundle) = watch::channel(None);
    let certificates = Certificates {
        secrets: Api::namespaced(client.clone(), &flags.namespace),
        source: source(flags),
        serving: Arc::clone(&serving),
        bundle,
        notices,
        now: OffsetDateTime::now_utc,
    };
    tasks.spawn("the webhooks' serving certificate", certificates.run(closing.clone()));

    let (written, injector) = watch::channel(false);
    let (api, bundle, stop) = (client.clone(), ca_bundle.clone(), closing.clone());
    let injectors = webhook::run::<MutatingWebhookConfiguration>(api, INJECTOR, bundle, written, stop);
    tasks.spawn("the injector's caBundle", injectors);
    let (written, validator) = watch::channel(false);
    let (api, stop) = (client.clone(), closing.clone());
    let validators = webhook::run::<ValidatingWebhookConfiguration>(api, VALIDATOR, ca_bundle, written, stop);
    tasks.spawn("the validator's caBundle", validators);

    let (events, writer) = Events::new(client.clone(), flags.pod_name.clone());
    tasks.spawn_until_closing("events", writer.run());
    let metrics = admission::Metrics::default();
    metrics.register(registry);
    let router = admission::router(Arc::new(Admission {
        config,
        cluster_domain: flags.cluster_domain.clone(),
        namespaces: Namespaces::new(index, client),
        events,
        metrics,
    }));
    let listener = bind(flags.listen_ip, flags.webhook_port, "webhooks").await?;
    let incoming = with_tls(listener, Arc::clone(&serving), &[b"h2", b"http/1.1"])?;
    tasks.spawn("the webhooks", admission::serve(incoming, router, closing));

    Ok([
        Condition::new("there is no serving certificate for the webhooks", move || serving.is_loaded()),
        Condition::new("caBundle is not written to the injector", move || *injector.borrow()),
        Condition::new("caBundle is not written to the validator", move || *validator.borrow()),
    ])
}

/// Where the certificate comes from.
fn source(flags: &Flags) -> certificate::Source {
    match flags.identity.webhook_certificate_secret() {
        Some(secret) => {
            // The name by which the API server calls a webhook's Service.
            let name = format!("{SERVICE}.{}.svc", flags.namespace);
            certificate::Source::Users { secret: secret.to_owned(), name }
        }
        None => certificate::Source::Ours { names: flags.names() },
    }
}
