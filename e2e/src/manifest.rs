//! The manifests that the cases share: a server of every protocol, and a pod to call it from.
//!
//! What a case is about stands in the case itself; here is only what surrounds it.

/// The image of `conduit-demo`, which holds the servers, the checks and the load.
pub const IMAGE: &str = concat!("ghcr.io/conduit-mesh/conduit-demo:", env!("CARGO_PKG_VERSION"));

/// The program in it.
pub const PROGRAM: &str = "/conduit-demo";

/// Kubernetes' image of a real Redis, from Debian's package.
pub const REDIS_IMAGE: &str = "conduit.test/redis:1";

/// The same of a real MariaDB, with its client, and `sleep`.
pub const MARIADB_IMAGE: &str = "conduit.test/mariadb:1";

/// A Deployment and a Service, both called `name`, of a server with a port of each kind. Ports of the Service:
///
/// | port | what is declared | what is spoken |
/// | --- | --- | --- |
/// | 80 | `appProtocol: http` | HTTP/1.1 |
/// | 81 | `appProtocol: kubernetes.io/h2c` | HTTP/2 |
/// | 82 | the name `grpc` | gRPC |
/// | 83 | nothing | any of them |
/// | 443 | the name `https` | the application's own TLS |
/// | 444 | nothing | the same |
/// | 9000 | `appProtocol: tcp` | an echo |
/// | 9001 | nothing | an echo |
/// | 9002 | nothing | a server that speaks first |
///
/// The pod's port is 8080 for 80, 8443 for 443 and so on. The kubelet asks a port of its own, 8079, so that its probes are
/// not among the requests that a case counts.
pub fn echo(name: &str, replicas: u32) -> String {
    let ports = "[--http, '8079', --http, '8080', --http, '8081', --http, '8082', --http, '8083', --https, '8443', --https, '8444', \
                 --tcp, '9000', --tcp, '9001', --banner, '9002']";
    let deployment = deployment(name, replicas, &format!("[echo-server, {}", ports.trim_start_matches('[')), READINESS);
    format!(
        "{deployment}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports:
  - {{name: http, port: 80, targetPort: 8080, appProtocol: http}}
  - {{name: two, port: 81, targetPort: 8081, appProtocol: kubernetes.io/h2c}}
  - {{name: grpc, port: 82, targetPort: 8082}}
  - {{name: any, port: 83, targetPort: 8083}}
  - {{name: https, port: 443, targetPort: 8443}}
  - {{name: any-tls, port: 444, targetPort: 8444}}
  - {{name: bytes, port: 9000, targetPort: 9000, appProtocol: tcp}}
  - {{name: any-bytes, port: 9001, targetPort: 9001}}
  - {{name: banner, port: 9002, targetPort: 9002}}
"
    )
}

const READINESS: &str = "readinessProbe: {httpGet: {path: /ready, port: 8079}, periodSeconds: 1}";

/// A Deployment of one pod that does nothing until a case runs a command in it.
pub fn client(name: &str) -> String {
    deployment(name, 1, "[sleep, 1h]", "")
}

/// A Deployment of `conduit-demo` with these arguments, in a container `app` with this further field.
pub fn deployment(name: &str, replicas: u32, arguments: &str, field: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  strategy: {{rollingUpdate: {{maxSurge: 1, maxUnavailable: 0}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 30
      containers:
      - name: app
        image: {IMAGE}
        args: {arguments}
        resources: {{requests: {{cpu: 5m, memory: 8Mi}}}}
        {field}
"
    )
}

/// A pod of `conduit-demo` with the label `app: <name>`, these arguments, and further lines of its container `app`, each
/// indented by four.
pub fn pod(name: &str, arguments: &str, container: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: app
    image: {IMAGE}
    args: {arguments}
    resources: {{requests: {{cpu: 5m, memory: 8Mi}}}}
{container}
"
    )
}

/// The same manifest, whose pods are kept out of the mesh by their own label.
pub fn plain(yaml: &str) -> String {
    yaml.replace("labels: {app: ", "labels: {conduit.io/inject: disabled, app: ")
}

/// The same manifest, whose pods have these further fields of their `spec`, such as `nodeName: node2`. Further lines of one
/// are indented as in a Pod.
pub fn also(yaml: &str, fields: &str) -> String {
    let lines = yaml.lines().flat_map(|line| {
        let here = line.trim_start().starts_with("terminationGracePeriodSeconds:");
        let indent = line.len() - line.trim_start().len();
        let deeper = " ".repeat(indent.saturating_sub(2));
        let added = fields.lines().enumerate().map(move |(number, field)| match number {
            0 => format!("{deeper}  {field}"),
            _ => format!("{deeper}{field}"),
        });
        added.take(if here { usize::MAX } else { 0 }).chain([line.to_owned()]).collect::<Vec<_>>()
    });
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_added_to_the_pods_of_a_deployment_and_to_a_pod() {
        let deployment = also(&client("a"), "nodeName: node2");
        assert!(deployment.contains("\n      nodeName: node2\n      terminationGracePeriodSeconds"), "{deployment}");
        let pod = also(&pod("a", "[]", ""), "volumes:\n  - {name: kept}");
        assert!(pod.contains("\n  volumes:\n  - {name: kept}\n  terminationGracePeriodSeconds"), "{pod}");
    }

    #[test]
    fn a_plain_pod_says_so_itself() {
        assert!(plain(&client("a")).contains("metadata: {labels: {conduit.io/inject: disabled, app: a}}"));
    }
}
