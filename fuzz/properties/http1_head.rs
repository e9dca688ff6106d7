//! The bytes of a client's HTTP/1 connection: requests, one after the other, or anything else.
//!
//! What smuggles a request is that two readers see its end in different places. So the requests that the proxy sees are
//! looked for by a second reader, which knows nothing of the first: line by line, as RFC 9112 has it, and giving up at
//! whatever it is not sure of. It must see each of them, with the same body.

use crate::second_reader::{chunks, fields, line};
use conduit_proxy::http::http1::{head, sequence::requests};

/// What is accepted is seen by the other reader too, and means the same when it is written again.
pub fn holds(bytes: &[u8]) {
    let (seen, _) = requests(bytes);
    let mut rest = bytes;
    for request in &seen {
        let (method, target, headers, body, left) = naive(rest).expect("what the proxy accepts is a request");
        assert_eq!(request.method().as_str().as_bytes(), method);
        assert_eq!(request.body(), &body);
        rest = left;

        let mut written = [method, b" ", target, b" HTTP/1.1\r\n"].concat();
        for (name, value) in &headers {
            written.extend_from_slice(&[name, &b": "[..], value, b"\r\n"].concat());
        }
        if request.version() == http::Version::HTTP_11 {
            written.extend_from_slice(b"\r\n");
            let again = head::request(&written).expect("it was accepted").expect("it has ended");
            assert_eq!(again.message.headers(), request.headers());
            assert_eq!(again.message.uri(), request.uri());
        }
    }
    // What is decided on the first bytes holds whatever comes after them.
    let early = requests(&bytes[..bytes.len() / 2]).0;
    assert!(early.len() <= seen.len());
    for (early, late) in early.iter().zip(&seen) {
        assert_eq!((early.headers(), early.body()), (late.headers(), late.body()));
    }
}

type Parts<'b> = (&'b [u8], &'b [u8], Vec<(&'b [u8], &'b [u8])>, Vec<u8>, &'b [u8]);

/// The first request: its method, target, headers and body, and what comes after it.
fn naive(bytes: &[u8]) -> Option<Parts<'_>> {
    let mut rest = bytes;
    let first = loop {
        match line(&mut rest)? {
            b"" => {}
            first => break first,
        }
    };
    let mut words = first.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || !(version == b"HTTP/1.1" || version == b"HTTP/1.0") {
        return None;
    }
    let headers = fields(&mut rest)?;
    let named = |wanted: &str| -> Vec<&[u8]> {
        headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()))
            .map(|(_, value)| *value)
            .collect()
    };
    let body = match (named("transfer-encoding").as_slice(), named("content-length").as_slice()) {
        ([], []) => Vec::new(),
        ([], [length]) if length.iter().all(u8::is_ascii_digit) => {
            let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
            let (body, left) = rest.split_at_checked(length)?;
            rest = left;
            body.to_vec()
        }
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") => chunks(&mut rest)?,
        _ => return None,
    };
    Some((method, target, headers, body, rest))
}
