//! The control plane goes away and comes back, or there are two of it; traffic does not notice.

use crate::{pair, profile, route_grows};
use anyhow::ensure;
use conduit_e2e::{Case, Mesh, installation, workload};

#[test]
fn operator_restart() {
    Case::run("operator-restart", Mesh::Enabled, async |case| {
        pair(&case).await?;
        case.apply(&profile(&case, "before")).await?;
        let traffic = case.traffic("client", "http://echo", 200).await?;
        route_grows(&case, "before").await?;

        installation::kill_operators(&case.cluster).await?;
        installation::ready(&case.cluster).await?;
        // The streams are taken up again: what changes now arrives, at the proxies that saw the operator die.
        case.apply(&profile(&case, "after")).await?;
        route_grows(&case, "after").await?;
        traffic.end().await?.none_failed()
    });
}

#[test]
fn two_replicas() {
    Case::run("two-replicas", Mesh::Enabled, async |case| {
        let outcome = async {
            installation::install(&case.cluster, &["replicas=2"]).await?;
            pair(&case).await?;
            case.apply(&profile(&case, "one")).await?;
            let traffic = case.traffic("client", "http://echo", 50).await?;
            route_grows(&case, "one").await?;
            let name = format!("echo.{}.svc.cluster.local", case.namespace);
            // One client and two servers.
            case.profile_programmed(&name, 3).await?;

            // Whichever replica a proxy was on, and whichever led: with one of the two gone all is as before.
            installation::kill_operators(&case.cluster).await?;
            installation::ready(&case.cluster).await?;
            case.apply(&profile(&case, "two")).await?;
            route_grows(&case, "two").await?;
            case.profile_programmed(&name, 3).await?;
            ensure!(installation::operators(&case.cluster).await?.len() == 2, "there are not two replicas");
            ensure!(workload::is_meshed(&case.pod("client").await?), "the client is not meshed");
            traffic.end().await?.none_failed()
        }
        .await;
        installation::install(&case.cluster, &[]).await?;
        outcome
    });
}
