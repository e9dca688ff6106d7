//! A ClientHello of TLS 1.2 (RFC 5246, section 7.4.1.2), written by hand: this program's own TLS has no code for it.
//! Reports whether the server goes along.

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Types of a record (RFC 5246, section 6.2.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
/// TLS 1.2 on the wire.
const VERSION: [u8; 2] = [3, 3];
/// ECDHE with ECDSA and with RSA, each with AES-128-GCM: what any server of that time takes.
const SUITES: [u16; 2] = [0xc02b, 0xc02f];

pub(super) async fn attempt(to: &str, alpn: &[String]) -> anyhow::Result<Value> {
    let mut tcp = TcpStream::connect(to).await.context("no connection")?;
    tcp.write_all(&hello(alpn)).await?;
    let mut answer = [0; 7];
    let mut read = 0;
    while read < answer.len() {
        match tcp.read(&mut answer[read..]).await {
            Ok(0) => bail!("the connection was closed after {read} bytes"),
            Ok(more) => read += more,
            Err(error) => bail!("{error}, after {read} bytes"),
        }
    }
    match answer {
        [ALERT, _, _, _, _, _, code] => bail!("alert {code}"),
        [HANDSHAKE, major, minor, ..] => Ok(json!({"server_hello": format!("{major}.{minor}")})),
        other => bail!("no TLS: {}", String::from_utf8_lossy(&other)),
    }
}

/// The whole record.
pub(super) fn hello(alpn: &[String]) -> Vec<u8> {
    let protocols: Vec<u8> = alpn.iter().flat_map(|name| short(name.as_bytes())).collect();
    let extensions = [
        // supported_groups: P-256 and X25519; ec_point_formats: uncompressed.
        extension(10, &long(&[0, 23, 0, 29])),
        extension(11, &short(&[0])),
        // signature_algorithms: ECDSA with P-256, RSA-PSS, RSA, each with SHA-256.
        extension(13, &long(&[4, 3, 8, 4, 4, 1])),
        extension(16, &long(&protocols)),
    ];
    let random: [u8; 32] = std::array::from_fn(|_| fastrand::u8(..));
    let suites: Vec<u8> = SUITES.iter().flat_map(|suite| suite.to_be_bytes()).collect();
    let body = [&VERSION[..], &random, &short(&[]), &long(&suites), &short(&[0]), &long(&extensions.concat())].concat();
    // The type of message is client_hello, its length has three bytes.
    let message = [&[1, 0][..], &long(&body)].concat();
    [&[HANDSHAKE, 3, 1][..], &long(&message)].concat()
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &long(body)].concat()
}

/// Bytes behind their length, in one byte; nothing here is longer.
fn short(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8][..], bytes].concat()
}

/// Bytes behind their length, in two.
fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}
