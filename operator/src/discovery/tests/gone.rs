//! Proxies that are gone without a word.

use super::{who::Proven, *};
use futures::StreamExt;
use hyper_util::rt::TokioIo;
use std::io;
use tokio::sync::watch;
use tonic::transport::{Endpoint, Uri};

#[tokio::test(start_paused = true)]
async fn a_proxy_that_is_gone_without_a_word_is_not_counted_for_long() {
    let operator = Operator::start();
    operator.apply(&profile("/a"));
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut passed, served) = tokio::io::duplex(64 * 1024);
    let (cut, mut is_cut) = watch::channel(false);
    let _passage = AbortOnDropHandle::new(tokio::spawn(async move {
        let mut far = far;
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut far, &mut passed) => {}
            _ = is_cut.wait_for(|cut| *cut) => {}
        }
        // Both ends stay open, and nothing passes.
        std::future::pending::<()>().await;
    }));
    let incoming = futures::stream::iter([Ok::<_, io::Error>(Proven::new(served))]).chain(futures::stream::pending());
    let discovery = operator.discovery.clone();
    let _serving = AbortOnDropHandle::new(tokio::spawn(async move { discovery.serve(incoming).await }));

    let mut near = Some(near);
    let connector = tower::service_fn(move |_: Uri| {
        let near = near.take().map(TokioIo::new).ok_or(io::ErrorKind::NotConnected);
        async { near.map_err(io::Error::from) }
    });
    let channel = Endpoint::from_static("http://operator").connect_with_connector(connector).await.unwrap();
    let (requests, queue) = mpsc::channel(16);
    let updates = DiscoveryClient::new(channel).watch(ReceiverStream::new(queue)).await.unwrap().into_inner();
    let mut proxy = Proxy { requests, updates };
    proxy.subscribe(web()).await;
    proxy.hears_of(2).await;
    // It says nothing for long, and is there.
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((operator.programmed(NAME).await.proxies, operator.metrics.streams.get()), (1, 1));

    cut.send_replace(true);
    let gone = async {
        while operator.metrics.streams.get() > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(Duration::from_secs(30), gone).await.expect("it is noticed within half a minute");
    assert_eq!((operator.programmed(NAME).await.proxies, operator.metrics.subscriptions.get()), (0, 0));
}
