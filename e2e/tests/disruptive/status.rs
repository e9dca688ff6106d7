//! What slips past the webhook does no harm, and status says so.

use crate::{pair, profile, route_grows};
use anyhow::ensure;
use conduit_e2e::{Case, Mesh, installation};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{Api, api::DeleteParams};

#[test]
fn slips_past_the_webhook() {
    Case::run("slips-past", Mesh::Enabled, async |case| {
        pair(&case).await?;
        case.apply(&profile(&case, "good")).await?;
        let traffic = case.traffic("client", "http://echo", 50).await?;
        route_grows(&case, "good").await?;
        let name = format!("echo.{}.svc.cluster.local", case.namespace);
        case.profile_condition(&name, "Programmed", "True").await?;

        // As a user who applies while the webhook is not there, such as before an installation.
        let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(case.cluster.client.clone());
        webhooks.delete("conduit-validator", &DeleteParams::default()).await?;
        let outcome = async {
            let bad = profile(&case, "bad").replace("/.*", "'/x('");
            // The API server may ask the webhook a moment longer.
            conduit_e2e::eventually("the webhook is gone", std::time::Duration::from_secs(10), || case.apply(&bad))
                .await?;
            let accepted = case.profile_condition(&name, "Accepted", "False").await?;
            ensure!(accepted.message.contains("spec.routes[0].condition.pathRegex"), "{}", accepted.message);
            // The proxies keep what they hold.
            route_grows(&case, "good").await?;
            // And take what is right again.
            case.apply(&profile(&case, "better")).await?;
            route_grows(&case, "better").await?;
            case.profile_condition(&name, "Accepted", "True").await?;
            case.profile_condition(&name, "Programmed", "True").await?;
            traffic.end().await?.none_failed()
        }
        .await;
        installation::install(&case.cluster, &[]).await?;
        outcome
    });
}
