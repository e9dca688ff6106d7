//! One GET, whose answer is reported and not judged: for answers that are a proxy's own.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use super::{authority, connect};

pub(super) async fn check(target: &Uri) -> anyhow::Result<Value> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(connect(target).await?)).await?;
    tokio::spawn(connection);
    let path = target.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).header(header::HOST, authority(target)?).body(Empty::<Bytes>::new())?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: BTreeMap<_, _> = head.headers.iter().map(|(name, value)| (name.as_str(), text(value))).collect();
    Ok(json!({"status": head.status.as_u16(), "headers": headers, "body": String::from_utf8_lossy(&body)}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_failure_is_reported_with_its_headers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /a?b HTTP/1.1\r\n"));
            let answer = b"HTTP/1.1 503 Service Unavailable\r\nx-reason: none\r\ncontent-length: 2\r\n\r\nno";
            stream.write_all(answer).await.unwrap();
        });
        let detail = check(&format!("http://127.0.0.1:{port}/a?b").parse().unwrap()).await.unwrap();
        assert_eq!((&detail["status"], &detail["body"]), (&json!(503), &json!("no")));
        assert_eq!(detail["headers"]["x-reason"], "none");
    }
}
