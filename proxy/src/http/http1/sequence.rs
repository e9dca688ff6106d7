//! What the bytes of a client's connection are taken for, all at once and without a connection: how the fuzzer looks at what
//! the server reads.

use super::{
    body::Reading,
    chunked::Next,
    head::{self, Fault},
};
use bytes::{Buf, BytesMut};
use http::Request;

/// The requests that are whole in `bytes`, with their bodies, and why no more are read, if not because more has to come.
pub fn requests(bytes: &[u8]) -> (Vec<Request<Vec<u8>>>, Option<Fault>) {
    let (mut input, mut requests) = (BytesMut::from(bytes), Vec::new());
    loop {
        while input.starts_with(b"\r\n") {
            input.advance(2);
        }
        let head = match head::request(&input) {
            Ok(Some(head)) => head,
            Ok(None) => return (requests, None),
            Err(fault) => return (requests, Some(fault)),
        };
        input.advance(head.length);
        let (mut reading, mut body) = (Reading::from(head.framing), Vec::new());
        loop {
            match reading.next(&mut input) {
                Ok(Next::Data(data)) => body.extend_from_slice(&data),
                Ok(Next::Trailers(_) | Next::End) => break,
                Ok(Next::More) => return (requests, None),
                Err(fault) => return (requests, Some(fault)),
            }
        }
        requests.push(head.message.map(|()| body));
        if !head.keep_alive {
            return (requests, None);
        }
    }
}
