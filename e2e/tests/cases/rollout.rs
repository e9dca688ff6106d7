//! No request is lost when an application that finishes what it accepted is updated under load.

use conduit_e2e::{Case, Mesh, manifest};

#[test]
fn rollout() {
    Case::run("rollout", Mesh::Enabled, async |case| {
        case.apply(&manifest::echo("echo", 3)).await?;
        case.apply(&manifest::client("client")).await?;
        case.available("echo").await?;
        case.available("client").await?;
        let traffic = case.traffic("client", "http://echo", 200).await?;
        for stamp in ["one", "two"] {
            case.restart("echo", stamp).await?;
            case.available("echo").await?;
        }
        traffic.end().await?.none_failed()
    });
}
