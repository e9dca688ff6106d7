//! The engine against servers that stall, fail, lie and close.

use axum::Router;
use axum::routing::{get, post};
use tokio::net::TcpListener;

use super::super::mix::{Mix, steps};
use super::*;
use crate::serve;

async fn server(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve::http(listener, router, CancellationToken::new()));
    address
}

fn plan(address: SocketAddr, mix: Mix) -> Plan {
    Plan {
        address,
        authority: "echo".into(),
        rate: 100.0,
        steps: steps(&[mix]),
        duration: Some(Duration::from_millis(500)),
        connections: 4,
        new_connections: 20,
        timeout: Duration::from_secs(2),
        seed: 1,
    }
}

async fn total(plan: Plan) -> Summary {
    run(plan, CancellationToken::new(), |_| {}).await
}

#[tokio::test]
async fn as_many_requests_are_sent_as_the_rate_says() {
    let address = server(Router::new().route("/inspect", get(|| async { "ok" }))).await;
    let total = total(plan(address, Mix::Get)).await;
    assert_eq!((total.sent, total.failed), (50, 0));
}

#[tokio::test]
async fn an_answer_that_is_not_the_body_sent_is_a_failure() {
    let address = server(Router::new().route("/echo", post(|| async { "something else" }))).await;
    let total = total(plan(address, Mix::Post)).await;
    assert_eq!(total.failures.get("body"), Some(&50));
}

#[tokio::test]
async fn a_failing_status_is_counted_by_its_code() {
    let address = server(Router::new()).await;
    let total = total(plan(address, Mix::Get)).await;
    assert_eq!(total.failures.get("status_404"), Some(&50));
}

#[tokio::test]
async fn nobody_listening_is_a_failure_of_every_request() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let total = total(plan(address, Mix::Get)).await;
    assert_eq!(total.failures.get("connect"), Some(&50));
}

#[tokio::test]
async fn a_stall_shows_in_the_latency_of_what_came_due_meanwhile() {
    let slow = || async { tokio::time::sleep(Duration::from_millis(30)).await };
    let address = server(Router::new().route("/inspect", get(slow))).await;
    let total = total(Plan { connections: 1, ..plan(address, Mix::Get) }).await;
    assert_eq!((total.sent, total.failed), (50, 0));
    assert!(total.quantile(1.0) > 900.0, "the last request waited for the 49 before it");
}

#[tokio::test]
async fn a_connection_that_the_server_closed_while_idle_is_no_failure() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    });
    let total = total(Plan { new_connections: 0, rate: 20.0, ..plan(address, Mix::Get) }).await;
    assert_eq!((total.sent, total.failed), (10, 0), "{:?}", total.failures);
}

#[tokio::test]
async fn a_stop_ends_the_run_and_keeps_the_count() {
    let address = server(Router::new().route("/inspect", get(|| async { "ok" }))).await;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        told.cancel();
    });
    let total = run(Plan { duration: None, ..plan(address, Mix::Get) }, stop, |_| {}).await;
    assert!(total.sent > 0 && total.failed == 0);
}
