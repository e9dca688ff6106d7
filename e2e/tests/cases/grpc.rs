//! gRPC from node to node: calls of every kind, and calls that end before they are done.

use anyhow::Context;
use conduit_e2e::{Case, Mesh, manifest};

#[test]
fn calls_that_are_cancelled_or_late_end_at_the_server_on_another_node() {
    Case::run("grpc-ends", Mesh::Enabled, async |case| {
        case.apply(&manifest::also(&manifest::echo("echo", 1), "nodeName: node2")).await?;
        case.apply(&manifest::also(&manifest::client("client"), "nodeName: node1")).await?;
        case.apply(&manifest::plain(&manifest::also(&manifest::client("plain-client"), "nodeName: node1"))).await?;
        for app in ["echo", "client", "plain-client"] {
            case.available(app).await?;
        }
        case.reaches("plain-client", "grpc", "http://echo:82").await?;
        for client in ["client", "plain-client"] {
            // Declared, and found out.
            for target in ["http://echo:82", "http://echo:83"] {
                for check in ["grpc", "grpc-ends"] {
                    case.check(client, check, target).await.with_context(|| format!("from {client}"))?;
                }
            }
        }
        Ok(())
    });
}
