//! Requests that must not be passed on: the files of `proxy/tests/hostile/`, at either side.

use crate::support::*;
use conduit_model::Protocol;
use std::{cell::Cell, fs, net::SocketAddr, path::Path, rc::Rc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The requests, each with its name.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let named = files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()));
    let mut corpus: Vec<_> = named.filter(|(name, _)| name.as_bytes()[0].is_ascii_digit()).collect();
    corpus.sort();
    assert!(corpus.len() > 50);
    corpus
}

/// All that comes back for `bytes`, until the connection closes.
async fn answer(address: SocketAddr, bytes: &[u8]) -> String {
    let (mut reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
    let bytes = bytes.to_vec();
    // It may be answered before it is read whole.
    let sent = tokio::task::spawn_local(async move { drop((writer.write_all(&bytes).await, writer)) });
    let mut answer = Vec::new();
    let _ = reader.read_to_end(&mut answer).await;
    sent.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn no_hostile_request_reaches_the_application_and_each_is_answered_and_the_last() {
    run(async {
        let seen = Rc::new(Cell::new(false));
        let sees = seen.clone();
        let application = server(move |mut stream, _| {
            let sees = sees.clone();
            async move { sees.set(sees.get() || matches!(stream.read(&mut [0; 1]).await, Ok(1))) }
        })
        .await;
        let outbound = OutboundProxy::balancing(Protocol::Http1, &[endpoint(application, false)]);
        let inbound = InboundProxy::before(application, Protocol::Http1);
        for (name, bytes) in corpus() {
            for (side, address) in [("outbound", outbound.address), ("inbound", inbound.address)] {
                let answer = answer(address, &bytes).await;
                let status = format!("HTTP/1.1 {} ", &name[..3]);
                assert!(answer.starts_with(&status), "{side}, {name}: {answer:?}");
                assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{side}, {name}: {answer:?}");
                assert!(answer.contains("conduit-error: request-"), "{side}, {name}: {answer:?}");
                assert!(answer.contains("connection: close\r\n"), "{side}, {name}: {answer:?}");
                assert!(!seen.get(), "{side}, {name}: the application saw it");
            }
        }
    });
}
