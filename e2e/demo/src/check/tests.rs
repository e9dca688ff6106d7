//! Every check holds against the echo server, and fails against a server that does less.

use clap::Parser;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::echo;

#[derive(Parser)]
struct EchoArguments {
    #[command(flatten)]
    settings: echo::Settings,
}

/// Ports that were free a moment ago.
async fn free_port() -> u16 {
    TcpListener::bind("[::]:0").await.unwrap().local_addr().unwrap().port()
}

/// The echo server with one port per option, in the order http, https, tcp, banner.
async fn echo_server() -> [u16; 4] {
    let ports = [free_port().await, free_port().await, free_port().await, free_port().await];
    let options = ["--http", "--https", "--tcp", "--banner"];
    let arguments = options.iter().zip(ports).flat_map(|(option, port)| [(*option).to_owned(), port.to_string()]);
    let settings = EchoArguments::parse_from(std::iter::once("echo".to_owned()).chain(arguments)).settings;
    tokio::spawn(async move { echo::run(settings, CancellationToken::new()).await.unwrap() });
    for port in ports {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
    ports
}

/// A server that accepts, answers HTTP 200 to whatever comes, and closes.
async fn careless_server() -> (u16, AbortHandle) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            });
        }
    });
    (port, server.abort_handle())
}

fn every_check(ports: [u16; 4]) -> Vec<Check> {
    let [http, https, tcp, banner] = ports;
    let uri = |scheme: &str, port: u16| format!("{scheme}://127.0.0.1:{port}").parse::<Uri>().unwrap();
    vec![
        Check::Http1 { target: uri("http", http) },
        Check::Websocket { target: uri("http", http) },
        Check::H2 { target: uri("http", http) },
        Check::Grpc { target: uri("http", http) },
        Check::GrpcEnds { target: uri("http", http) },
        Check::Https { target: uri("https", https) },
        Check::HalfClose { target: format!("127.0.0.1:{tcp}") },
        Check::ServerFirst { target: format!("127.0.0.1:{banner}"), within: Duration::from_secs(5) },
    ]
}

#[tokio::test]
async fn every_check_holds_against_the_echo_server() {
    for check in every_check(echo_server().await) {
        let (name, _) = check.name();
        if let Err(error) = check.run().await {
            panic!("{name}: {error:#}");
        }
    }
}

#[tokio::test]
async fn every_check_fails_against_a_server_that_only_says_200() {
    let (port, server) = careless_server().await;
    for check in every_check([port; 4]) {
        let (name, _) = check.name();
        let outcome = tokio::time::timeout(Duration::from_secs(5), check.run()).await;
        assert!(!matches!(outcome, Ok(Ok(_))), "{name} was content");
    }
    server.abort();
}

/// Passes so many bytes from one side to the other, and the other way all that come; then ends both.
async fn cut_off(to: u16, after: u64) -> u16 {
    use tokio::io::AsyncReadExt;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
        let ((from_client, mut to_client), (mut from_server, mut to_server)) =
            (client.into_split(), server.into_split());
        let mut from_client = from_client.take(after);
        tokio::select! {
            _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
            _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
        }
    });
    port
}

#[tokio::test]
async fn a_connection_is_held_until_it_is_cut_and_what_came_back_before_is_counted() {
    let [http, _, tcp, _] = echo_server().await;
    for (scheme, server) in [("tcp", tcp), ("ws", http)] {
        let held = async |after| {
            let target = format!("{scheme}://127.0.0.1:{}", cut_off(server, after).await).parse().unwrap();
            Check::Hold { target }.run().await
        };
        let detail = held(3500).await.unwrap();
        assert!(detail["exchanges"].as_u64().is_some_and(|exchanges| exchanges >= 2), "{scheme}: {detail}");
        assert!(held(500).await.is_err(), "{scheme}: no message came back, and it was content");
    }
}

#[test]
fn a_difference_is_named_by_its_place() {
    assert_eq!(same_bytes(b"abc", b"abd").unwrap_err().to_string(), "byte 2 came back as 99, not 100");
    assert_eq!(same_bytes(b"ab", b"abd").unwrap_err().to_string(), "2 bytes came back, not 3");
}
