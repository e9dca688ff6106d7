//! What the bytes of a connection are taken for, all at once and without a connection: how the fuzzer looks at what the
//! server reads of a client, and the client of a server.

use super::{
    body::Reading,
    chunked::Next,
    framing::Framing,
    head::{self, Fault, Head},
};
use bytes::{Buf, BytesMut};
use http::{Method, Request, Response, StatusCode};

/// The requests that are whole in `bytes`, with their bodies, and why no more are read, if not because more has to come.
pub fn requests(bytes: &[u8]) -> (Vec<Request<Vec<u8>>>, Option<Fault>) {
    let (mut input, mut requests) = (BytesMut::from(bytes), Vec::new());
    loop {
        while input.starts_with(b"\r\n") {
            input.advance(2);
        }
        match message(&mut input, head::request) {
            Ok(Some((head, body))) => {
                requests.push(head.message.map(|()| body));
                if !head.keep_alive {
                    return (requests, None);
                }
            }
            Ok(None) => return (requests, None),
            Err(fault) => return (requests, Some(fault)),
        }
    }
}

/// The responses to requests of `method` that are whole in `bytes`, after which the connection ends, and why no more are read,
/// if not because more had to come. What follows a change of protocol is none.
pub fn responses(bytes: &[u8], method: &Method) -> (Vec<Response<Vec<u8>>>, Option<Fault>) {
    let (mut input, mut responses) = (BytesMut::from(bytes), Vec::new());
    loop {
        match message(&mut input, |bytes| head::response(bytes, method)) {
            Ok(Some((head, body))) => {
                let goes_on = head.keep_alive && head.message.status() != StatusCode::SWITCHING_PROTOCOLS;
                responses.push(head.message.map(|()| body));
                if !goes_on {
                    return (responses, None);
                }
            }
            Ok(None) => return (responses, None),
            Err(fault) => return (responses, Some(fault)),
        }
    }
}

/// A message and its body, if all of it is there.
type Whole<M> = Option<(Head<M>, Vec<u8>)>;

/// Takes the first message out of `input`.
fn message<M>(
    input: &mut BytesMut,
    read: impl FnOnce(&[u8]) -> Result<Option<Head<M>>, Fault>,
) -> Result<Whole<M>, Fault> {
    let Some(head) = read(input)? else { return Ok(None) };
    input.advance(head.length);
    let (mut reading, mut body) = (Reading::from(head.framing), Vec::new());
    loop {
        match reading.next(input)? {
            Next::Data(data) => body.extend_from_slice(&data),
            Next::Trailers(_) | Next::End => return Ok(Some((head, body))),
            Next::More if head.framing == Framing::UntilEnd => return Ok(Some((head, body))),
            Next::More => return Ok(None),
        }
    }
}
