//! The shop as a whole on loopback: the real front, catalog and recommender, and a Redis of two commands.

use std::collections::HashMap;
use std::net::SocketAddr;

use axum::Router;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{catalog, front, recommend};
use crate::serve;

async fn serving(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve::http(listener, router, CancellationToken::new()));
    address
}

/// Speaks enough RESP for the carts: lists that are pushed to, read and deleted.
async fn redis() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut lists = HashMap::<String, Vec<String>>::new();
        while let Ok((stream, _)) = listener.accept().await {
            let mut lines = BufReader::new(stream);
            let line = async |lines: &mut BufReader<_>| {
                let mut text = String::new();
                lines.read_line(&mut text).await.unwrap();
                text.trim_end().to_owned()
            };
            loop {
                let Some(words) = line(&mut lines).await.strip_prefix('*').map(|count| count.parse::<usize>().unwrap())
                else {
                    break;
                };
                let mut command = Vec::new();
                for _ in 0..words {
                    line(&mut lines).await;
                    command.push(line(&mut lines).await);
                }
                let list = lists.entry(command[1].clone()).or_default();
                let reply = match command[0].as_str() {
                    "LPUSH" => {
                        list.insert(0, command[2].clone());
                        format!(":{}\r\n", list.len())
                    }
                    "LRANGE" => list.iter().fold(format!("*{}\r\n", list.len()), |reply, item| {
                        format!("{reply}${}\r\n{item}\r\n", item.len())
                    }),
                    "DEL" => {
                        list.clear();
                        ":1\r\n".into()
                    }
                    "LTRIM" | "EXPIRE" => "+OK\r\n".into(),
                    other => format!("-ERR unknown command {other}\r\n"),
                };
                lines.get_mut().write_all(reply.as_bytes()).await.unwrap();
            }
        }
    });
    address
}

async fn shop(checkout_failures: u8) -> SocketAddr {
    let settings = front::Settings {
        port: 0,
        catalog: format!("http://{}", serving(catalog::router().await).await).parse().unwrap(),
        recommend: format!("http://{}", serving(recommend::router()).await).parse().unwrap(),
        cart: redis().await.to_string(),
        checkout_failures,
        seed: 1,
    };
    serving(front::router(settings).unwrap()).await
}

async fn call(method: &str, shop: SocketAddr, path: &str, body: &'static str) -> (StatusCode, String) {
    let request = Request::builder().method(method).uri(format!("http://{shop}{path}"));
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let response = Client::builder(TokioExecutor::new()).build_http().request(request).await.unwrap();
    let status = response.status();
    (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

fn value(answer: (StatusCode, String)) -> Value {
    assert!(answer.0.is_success(), "{answer:?}");
    serde_json::from_str(&answer.1).unwrap()
}

#[tokio::test]
async fn a_product_comes_with_what_goes_with_it() {
    let shop = shop(0).await;
    let teapot = json!({"id": "teapot", "name": "Teapot", "price_cents": 3900});
    let expected = json!({"product": teapot, "goes_with": ["strainer", "mug"]});
    assert_eq!(value(call("GET", shop, "/products/teapot", "").await), expected);
    assert_eq!(call("GET", shop, "/products/lost", "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(value(call("GET", shop, "/", "").await).as_array().unwrap().len(), 8);
}

#[tokio::test]
async fn a_cart_is_filled_priced_and_sold() {
    let shop = shop(0).await;
    for product in ["mug", "mug", "spoon"] {
        assert_eq!(call("POST", shop, "/cart/ada", product).await.0, StatusCode::CREATED);
    }
    let mugs = json!({"id": "mug", "quantity": 2, "total_cents": 2400});
    let spoon = json!({"id": "spoon", "quantity": 1, "total_cents": 290});
    let expected = json!({"lines": [mugs, spoon], "total_cents": 2690});
    assert_eq!(value(call("GET", shop, "/cart/ada", "").await), expected);
    assert_eq!(value(call("POST", shop, "/checkout/ada", "").await), expected);
    assert_eq!(value(call("GET", shop, "/cart/ada", "").await), json!({"lines": [], "total_cents": 0}));
}

#[tokio::test]
async fn the_same_checkouts_fail_in_every_run() {
    let failures = async || {
        let shop = shop(30).await;
        let mut failed = Vec::new();
        for index in 0..20 {
            if call("POST", shop, "/checkout/ada", "").await.0 == StatusCode::INTERNAL_SERVER_ERROR {
                failed.push(index);
            }
        }
        failed
    };
    let first = failures().await;
    assert!(!first.is_empty());
    assert_eq!(first, failures().await);
}

#[tokio::test]
async fn a_product_that_does_not_exist_cannot_be_bought() {
    assert_eq!(call("POST", shop(0).await, "/cart/ada", "lost").await.0, StatusCode::NOT_FOUND);
}
