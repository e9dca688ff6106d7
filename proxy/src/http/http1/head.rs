//! The head of an HTTP/1 message, read strictly: what could be understood in two ways is refused, for what is not
//! understood as the next server understands it is how requests are smuggled (RFC 9112 section 11.2).
//!
//! Tokens are `httparse`'s; what it is lenient about is refused here: lines that end with a bare LF, targets with a fragment,
//! hosts that are none. Framing is judged in [`super::framing`].
//!
//! A head is copied once out of the buffer that it was read into; the values of its headers are slices of that copy. It also
//! tells how names were written ([`Written`]), which applications can see, though they should not look.

use super::framing::{self, Framing};
use crate::http::limits;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::HOST,
    uri::{PathAndQuery, Scheme},
};
use httparse::{Header, Status};
use std::mem::MaybeUninit;

/// Why a head is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not HTTP as it has to be. Says what was expected.
    #[error("{0}")]
    Invalid(&'static str),
    /// Its body is in a transfer coding that the proxy cannot take it out of.
    #[error("the transfer coding is not chunked")]
    Coding,
    /// It is longer, or has more headers, than is read.
    #[error("the head is too large")]
    TooLarge,
}

/// A head, and what it says of what follows.
#[derive(Debug)]
pub struct Head<M> {
    /// The message, whose body follows.
    pub message: M,
    /// How its body is framed.
    pub framing: Framing,
    /// Whether the connection may be used after it.
    pub keep_alive: bool,
    /// Its length in bytes.
    pub length: usize,
}

/// How a head was written, where that is not how [`super::write`] would write it.
#[derive(Clone, Debug)]
pub(super) struct Written {
    head: Bytes,
    /// The reason of a response.
    reason: Bytes,
}

impl Written {
    /// The name of a header as it was written. Its value is a slice of the head, and the name stands before it.
    pub(super) fn name(&self, name: &HeaderName, value: &HeaderValue) -> Option<&[u8]> {
        let at = (value.as_bytes().as_ptr() as usize).checked_sub(self.head.as_ptr() as usize)?;
        let before = self.head.get(..at)?.trim_ascii_end().strip_suffix(b":")?;
        let written = before.get(before.len().checked_sub(name.as_str().len())?..)?;
        written.eq_ignore_ascii_case(name.as_str().as_bytes()).then_some(written)
    }

    /// The reason of a response.
    pub(super) fn reason(&self) -> &[u8] {
        &self.reason
    }
}

/// Reads the head of a request at the beginning of `bytes`; none if it does not end there.
///
/// # Errors
/// It must be refused, whatever follows.
pub fn request(bytes: &[u8]) -> Result<Option<Head<Request<()>>>, Fault> {
    let mut headers = [const { MaybeUninit::uninit() }; limits::HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return unfinished(bytes),
        Err(error) => return Err(fault(error)),
    };
    let head = copied(bytes, length)?;
    let of = |part: &[u8]| head.slice_ref_within(bytes, part);
    let mut request = Request::new(());
    let method = parsed.method.unwrap_or_default().as_bytes();
    *request.method_mut() = Method::from_bytes(method).map_err(|_| Fault::Invalid("the method is not a token"))?;
    *request.version_mut() = version(parsed.version);
    let target = parsed.path.unwrap_or_default().as_bytes();
    *request.uri_mut() = self::target(of(target), request.method())?;
    let (headers, cased) = self::headers(parsed.headers, of)?;
    *request.headers_mut() = headers;
    host(&mut request)?;
    if cased {
        request.extensions_mut().insert(Written { head: head.clone(), reason: Bytes::new() });
    }
    let framing = framing::of_request(request.version(), request.headers())?;
    if request.method() == Method::CONNECT && !matches!(framing, Framing::None | Framing::Length(0)) {
        // Servers that know of none take it for what comes next (RFC 9110 section 9.3.6).
        return Err(Fault::Invalid("a CONNECT has a body"));
    }
    let keep_alive = framing::keeps_alive(request.version(), request.headers());
    Ok(Some(Head { message: request, framing, keep_alive, length }))
}

/// Reads the head of a response to a request of `method` at the beginning of `bytes`; none if it does not end there.
///
/// # Errors
/// It cannot be understood, or could be in two ways.
pub fn response(bytes: &[u8], method: &Method) -> Result<Option<Head<Response<()>>>, Fault> {
    let mut headers = [const { MaybeUninit::uninit() }; limits::HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut headers) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return unfinished(bytes),
        Err(error) => return Err(fault(error)),
    };
    let head = copied(bytes, length)?;
    let of = |part: &[u8]| head.slice_ref_within(bytes, part);
    let mut response = Response::new(());
    let code = parsed.code.unwrap_or_default();
    *response.status_mut() = StatusCode::from_u16(code).map_err(|_| Fault::Invalid("the status is not a number"))?;
    *response.version_mut() = version(parsed.version);
    let (headers, cased) = self::headers(parsed.headers, of)?;
    *response.headers_mut() = headers;
    let reason = parsed.reason.unwrap_or_default();
    let usual = response.status().canonical_reason().is_some_and(|usual| usual == reason);
    if !usual || cased {
        let reason = of(reason.as_bytes());
        response.extensions_mut().insert(Written { head: head.clone(), reason });
    }
    let framing = framing::of_response(method, &response)?;
    let keep_alive = framing::keeps_alive(response.version(), response.headers())
        && framing != Framing::UntilEnd
        && !framing::is_doubtful(&response);
    Ok(Some(Head { message: response, framing, keep_alive, length }))
}

/// Slices of a copy by those of what was copied.
trait SliceWithin {
    /// What of `self`, a copy of the first bytes of `original`, is `part`, a slice of `original`.
    fn slice_ref_within(&self, original: &[u8], part: &[u8]) -> Bytes;
}

impl SliceWithin for Bytes {
    fn slice_ref_within(&self, original: &[u8], part: &[u8]) -> Bytes {
        if part.is_empty() {
            // Of which it is not said where it is.
            return Bytes::new();
        }
        let start = part.as_ptr() as usize - original.as_ptr() as usize;
        self.slice(start..start + part.len())
    }
}

fn unfinished<M>(bytes: &[u8]) -> Result<Option<Head<M>>, Fault> {
    if bytes.len() < limits::HEAD { Ok(None) } else { Err(Fault::TooLarge) }
}

/// The head, if its lines end as they have to.
fn copied(bytes: &[u8], length: usize) -> Result<Bytes, Fault> {
    if length > limits::HEAD {
        return Err(Fault::TooLarge);
    }
    let head = &bytes[..length];
    // A bare CR is refused by the parser.
    if has_bare_lf(head) {
        return Err(Fault::Invalid("a line ends without CR"));
    }
    Ok(Bytes::copy_from_slice(head))
}

/// Whether there is an LF that no CR stands before. There is no way out of the loop, so that it looks at sixteen bytes at a
/// time: it is a tenth of what a head costs otherwise.
fn has_bare_lf(head: &[u8]) -> bool {
    let after = head.get(1..).unwrap_or_default();
    let bare = head.iter().zip(after).fold(0, |bare, (before, byte)| {
        let is_bare = (*byte == b'\n') & (*before != b'\r');
        bare | u8::from(is_bare)
    });
    bare != 0 || head.first() == Some(&b'\n')
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 }
}

fn fault(error: httparse::Error) -> Fault {
    match error {
        httparse::Error::TooManyHeaders => Fault::TooLarge,
        httparse::Error::HeaderName => Fault::Invalid("the name of a header is not a token"),
        httparse::Error::HeaderValue => Fault::Invalid("the value of a header has a control character"),
        httparse::Error::NewLine => Fault::Invalid("a line does not end with CR and LF"),
        httparse::Error::Status => Fault::Invalid("the status is not a number of three digits"),
        httparse::Error::Token => Fault::Invalid("the first line is not one of HTTP"),
        httparse::Error::Version => Fault::Invalid("the version is not HTTP/1.0 or HTTP/1.1"),
    }
}

/// The headers, and whether the name of one is not written in lower case.
fn headers(parsed: &[Header<'_>], of: impl Fn(&[u8]) -> Bytes) -> Result<(HeaderMap, bool), Fault> {
    let (mut headers, mut cased) = (HeaderMap::with_capacity(parsed.len()), false);
    for header in parsed {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let name = name.map_err(|_| Fault::Invalid("the name of a header is not a token"))?;
        cased |= name.as_str() != header.name;
        let value = HeaderValue::from_maybe_shared(of(header.value));
        let value = value.map_err(|_| Fault::Invalid("the value of a header has a control character"))?;
        headers.append(name, value);
    }
    Ok((headers, cased))
}

/// The target in one of the four forms (RFC 9112 section 3.2), each where it may be.
fn target(target: Bytes, method: &Method) -> Result<Uri, Fault> {
    const INVALID: Fault =
        Fault::Invalid("the target is not a path, a URL of http, an authority for CONNECT, or * for OPTIONS");
    // One that would be lost on the way is no target.
    if target.contains(&b'#') {
        return Err(Fault::Invalid("the target has a fragment"));
    }
    let starts_as_path = target.first() == Some(&b'/');
    if starts_as_path {
        // Read as a path, so that `//` does not begin an authority.
        let path = PathAndQuery::from_maybe_shared(target).map_err(|_| INVALID)?;
        return if *method == Method::CONNECT { Err(INVALID) } else { Ok(Uri::from(path)) };
    }
    let uri = Uri::from_maybe_shared(target).map_err(|_| INVALID)?;
    let fits = match (uri.scheme(), uri.authority()) {
        (Some(scheme), Some(authority)) => {
            *method != Method::CONNECT
                && (*scheme == Scheme::HTTP || *scheme == Scheme::HTTPS)
                && is_host(authority.as_str().as_bytes())
                && !authority.host().is_empty()
        }
        (None, Some(authority)) => {
            *method == Method::CONNECT && authority.port_u16().is_some() && is_host(authority.as_str().as_bytes())
        }
        _ => *method == Method::OPTIONS && uri.path() == "*",
    };
    if fits { Ok(uri) } else { Err(INVALID) }
}

/// Judges the host that a request names, and lets that of an absolute target stand for it (RFC 9112 section 3.2.2).
fn host(request: &mut Request<()>) -> Result<(), Fault> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) if is_host(host.as_bytes()) => {}
        (Some(_), None) => return Err(Fault::Invalid("the host is not a name or address with an optional port")),
        (Some(_), Some(_)) => return Err(Fault::Invalid("there is more than one host")),
        (None, _) if request.version() == Version::HTTP_10 => {}
        (None, _) => return Err(Fault::Invalid("there is no host")),
    }
    if request.uri().scheme().is_none() {
        return Ok(());
    }
    let authority = request.uri().authority().map_or("", |authority| authority.as_str());
    let named = request.headers().get(HOST);
    if named.is_none_or(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes())) {
        let host =
            HeaderValue::from_str(authority).map_err(|_| Fault::Invalid("the host of the target is not a name"))?;
        request.headers_mut().insert(HOST, host);
    }
    Ok(())
}

/// Whether `host` is a name, an IPv4 address or an IPv6 address in brackets, with an optional port; or nothing, as where
/// there is none to be named.
fn is_host(host: &[u8]) -> bool {
    let (end, more) = if host.starts_with(b"[") { (b']', 1) } else { (b':', 0) };
    let (name, port) =
        host.split_at(host.iter().position(|byte| *byte == end).map_or(host.len(), |position| position + more));
    let name_fits = match name {
        [b'[', address @ .., b']'] => {
            !address.is_empty() && address.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
        }
        name => name.iter().copied().all(is_of_name),
    };
    let port_fits = match port {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    name_fits && port_fits
}

/// Whether a name may have `byte` (RFC 3986 section 3.2.2, without the comma, which is how a list of hosts would look).
fn is_of_name(byte: u8) -> bool {
    matches!(
        byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9'
            | b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'='
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> Fault {
        request(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_head_is_read_once_it_has_ended_and_not_before() {
        let text = b"POST /a?b HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\n\r\nabc";
        for length in 0..text.len() - 3 {
            assert!(request(&text[..length]).unwrap().is_none(), "{length}");
        }
        let head = request(text).unwrap().unwrap();
        assert_eq!(
            (head.message.uri().to_string().as_str(), head.framing, head.length),
            ("/a?b", Framing::Length(3), text.len() - 3)
        );
        assert!(head.keep_alive);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for text in [
            "GET / HTTP/1.1\nHost: web\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: web\n\r\n",
            "GET / HTTP/1.1\r\nHost: web\r\n\n",
            "\nGET / HTTP/1.1\r\nHost: web\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: web\r\nX: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: web\r\nX: a\r\n b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: web\r\nX : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: web\r\n: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: web\r\nX\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: web\r\nX: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: web\r\nX: a\x7fb\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: web\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: web\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: web\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: web\r\n\r\n",
            "GET / http/1.1\r\nHost: web\r\n\r\n",
            "GET /\r\n\r\n",
            "G(T / HTTP/1.1\r\nHost: web\r\n\r\n",
        ] {
            assert!(matches!(refused(text), Fault::Invalid(_)), "{text:?}");
        }
    }

    #[test]
    fn a_request_names_one_host_that_can_be_one() {
        for hosts in [
            "",
            "Host: a\r\nHost: a\r\n",
            "Host: a b\r\n",
            "Host: user@web\r\n",
            "Host: web/x\r\n",
            "Host: web:80x\r\n",
            "Host: web, other\r\n",
            "Host: [::1\r\n",
            "Host: [::1]x\r\n",
            "Host: [web]\r\n",
        ] {
            assert!(matches!(refused(&format!("GET / HTTP/1.1\r\n{hosts}\r\n")), Fault::Invalid(_)), "{hosts:?}");
        }
        for host in ["web", "web.shop:8080", "[::1]:80", "10.0.0.1", ""] {
            let head = request(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap().unwrap();
            assert_eq!(head.message.headers()[HOST], host);
        }
        assert!(request(b"GET / HTTP/1.0\r\n\r\n").unwrap().is_some());
        assert!(request(b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n").is_err());
    }

    #[test]
    fn a_target_has_the_form_that_its_method_asks_for() {
        let read = |line: &str| request(format!("{line} HTTP/1.1\r\nHost: web\r\n\r\n").as_bytes());
        for line in [
            "GET /",
            "GET //a/b",
            "GET /a?b=c%20d",
            "OPTIONS *",
            "GET http://web:80/x",
            "CONNECT db:5432",
            "CONNECT [::1]:80",
        ] {
            let head = read(line).unwrap().unwrap();
            assert_eq!(head.message.uri().to_string(), line.split_once(' ').unwrap().1);
        }
        for line in [
            "GET *",
            "GET web",
            "GET web:80",
            "CONNECT /",
            "CONNECT web",
            "CONNECT http://web/",
            "GET http:///x",
            "GET http://user@web/x",
            "GET ftp://web/x",
            "GET /a#b",
            "GET ?a",
        ] {
            assert!(matches!(read(line), Err(Fault::Invalid(_))), "{line}: {:?}", read(line));
        }
    }

    #[test]
    fn what_comes_after_a_connect_is_never_a_body() {
        let read = |line: &str| request(format!("CONNECT db:1 HTTP/1.1\r\nHost: db\r\n{line}\r\n").as_bytes());
        for line in ["", "Content-Length: 0\r\n"] {
            assert!(read(line).unwrap().is_some(), "{line:?}");
        }
        for line in ["Content-Length: 1\r\n", "Transfer-Encoding: chunked\r\n"] {
            assert!(matches!(read(line), Err(Fault::Invalid(_))), "{line:?}");
        }
    }

    #[test]
    fn the_host_of_an_absolute_target_stands_for_the_one_in_the_header() {
        let head = request(b"GET http://web:80/ HTTP/1.1\r\nHost: other\r\n\r\n").unwrap().unwrap();
        assert_eq!(head.message.headers()[HOST], "web:80");
    }

    #[test]
    fn a_head_that_is_too_long_or_has_too_many_headers_is_too_large() {
        let long = format!("GET / HTTP/1.1\r\nHost: web\r\nX: {}\r\n\r\n", "x".repeat(limits::HEAD));
        assert_eq!(refused(&long), Fault::TooLarge);
        assert_eq!(refused(&long[..limits::HEAD]), Fault::TooLarge);
        assert!(request(&long.as_bytes()[..limits::HEAD - 1]).unwrap().is_none());
        let many = format!("GET / HTTP/1.1\r\nHost: web\r\n{}\r\n", "X: y\r\n".repeat(limits::HEADERS));
        assert_eq!(refused(&many), Fault::TooLarge);
    }

    #[test]
    fn a_connection_on_which_a_body_may_come_that_cannot_be_is_not_used_again() {
        for (head, expected) in [
            ("204 No Content\r\n", true),
            ("204 No Content\r\nContent-Length: 0\r\n", true),
            ("204 No Content\r\nContent-Length: 5\r\n", false),
            ("204 No Content\r\nTransfer-Encoding: chunked\r\n", false),
            ("304 Not Modified\r\nContent-Length: 5\r\n", true),
        ] {
            let read = response(format!("HTTP/1.1 {head}\r\n").as_bytes(), &Method::GET).unwrap().unwrap();
            assert_eq!((read.keep_alive, read.framing), (expected, Framing::None), "{head}");
        }
    }

    #[test]
    fn names_and_reasons_are_known_as_they_were_written() {
        let head = response(b"HTTP/1.1 200 Fine\r\nX-Answer:  One\r\nx-two: 2\r\n\r\n", &Method::GET).unwrap().unwrap();
        let written = head.message.extensions().get::<Written>().unwrap();
        let of = |name: &'static str| {
            let name = HeaderName::from_static(name);
            written.name(&name, &head.message.headers()[&name]).unwrap()
        };
        assert_eq!((of("x-answer"), of("x-two"), written.reason()), (&b"X-Answer"[..], &b"x-two"[..], &b"Fine"[..]));
        let other = HeaderValue::from_static("One");
        assert_eq!(written.name(&HeaderName::from_static("x-answer"), &other), None, "it was set since");
        let plain = response(b"HTTP/1.1 200 OK\r\nx-two: 2\r\n\r\n", &Method::GET).unwrap().unwrap();
        assert!(plain.message.extensions().is_empty());
    }
}
