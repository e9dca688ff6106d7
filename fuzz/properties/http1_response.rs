//! The bytes of a server's HTTP/1 connection: answers to requests, one after the other, or anything else.
//!
//! What splits a response is that two readers see its end in different places. So, as for requests, what the proxy takes for
//! answers is looked for by a second reader, which must see each of them with the same body.

use crate::second_reader::{chunks, fields, line};
use conduit_proxy::http::http1::sequence::responses;
use http::Method;

/// What is accepted is seen by the other reader too. The first byte chooses what was asked for.
pub fn holds(bytes: &[u8]) {
    let Some((&asked, bytes)) = bytes.split_first() else { return };
    let method = [Method::GET, Method::HEAD, Method::POST, Method::CONNECT][usize::from(asked) % 4].clone();
    let (seen, _) = responses(bytes, &method);
    let mut rest = bytes;
    for response in &seen {
        let (status, body, left) = naive(rest, &method).expect("what the proxy accepts is a response");
        assert_eq!(response.status().as_str().as_bytes(), status);
        assert_eq!(response.body(), &body);
        rest = left;
    }
    // What is decided on the first bytes holds whatever comes after them, but for an answer that ends with its connection.
    let early = responses(&bytes[..bytes.len() / 2], &method).0;
    assert!(early.len() <= seen.len());
    for (early, late) in early.iter().zip(&seen) {
        assert_eq!((early.status(), early.headers()), (late.status(), late.headers()));
        assert!(late.body().starts_with(early.body()));
    }
}

/// The first response: its status and body, and what comes after it.
fn naive<'b>(bytes: &'b [u8], method: &Method) -> Option<(&'b [u8], Vec<u8>, &'b [u8])> {
    let mut rest = bytes;
    // Empty lines before an answer are passed over. RFC 9112 section 2.2 asks that of servers alone, but readers of answers
    // do so too, and they are no part of a body: nobody takes them for something else.
    while let Some(left) = rest.strip_prefix(b"\r\n") {
        rest = left;
    }
    let mut words = line(&mut rest)?.splitn(3, |byte| *byte == b' ');
    let (version, status) = (words.next()?, words.next()?);
    if !(version == b"HTTP/1.1" || version == b"HTTP/1.0") || status.len() != 3 {
        return None;
    }
    let headers = fields(&mut rest)?;
    let named = |wanted: &str| -> Vec<&[u8]> {
        let named = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()));
        named.map(|(_, value)| *value).collect()
    };
    let tunnel = *method == Method::CONNECT && status[0] == b'2';
    let bodiless = status[0] == b'1' || status == b"204" || status == b"304";
    if *method == Method::HEAD || tunnel || bodiless {
        return Some((status, Vec::new(), rest));
    }
    let body = match (named("transfer-encoding").as_slice(), named("content-length").as_slice()) {
        ([], []) => std::mem::take(&mut rest).to_vec(),
        ([], [length]) if length.iter().all(u8::is_ascii_digit) => {
            let length: usize = std::str::from_utf8(length).ok()?.parse().ok()?;
            let (body, left) = rest.split_at_checked(length)?;
            rest = left;
            body.to_vec()
        }
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") => chunks(&mut rest)?,
        _ => return None,
    };
    Some((status, body, rest))
}
