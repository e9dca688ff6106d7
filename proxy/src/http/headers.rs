//! The headers that a proxy must change, and those that it reads.

use super::respond::CONDUIT_ERROR;
use crate::outcome::Failure;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme},
};
use std::borrow::Cow;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Whether a request asks for its connection to become something else, a WebSocket or a tunnel (RFC 9110 sections 7.8
/// and 9.3.6). Only HTTP/1.1 can, and not to another HTTP: its requests would pass unseen by policy.
pub(crate) fn wants_upgrade<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11
        && (request.method() == Method::CONNECT
            || request.headers().contains_key(UPGRADE)
                && names(request.headers(), &UPGRADE)
                && !names_http(request.headers()))
}

/// Whether one of the protocols that a request would have its connection become is a version of HTTP, such as `h2c`.
fn names_http(headers: &HeaderMap) -> bool {
    let begins = |protocol: &[u8], with: &[u8]| {
        protocol.get(..with.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(with))
    };
    let protocols = headers.get_all(UPGRADE).into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    protocols.map(<[u8]>::trim_ascii).any(|protocol| begins(protocol, b"h2") || begins(protocol, b"http"))
}

/// Whether a response says that its connection has become something else.
pub(crate) fn is_upgrade<B>(method: &Method, response: &Response<B>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS || method == Method::CONNECT && response.status().is_success()
}

/// Makes a request that came on one connection fit for the next. `upgrade`: it asks for its connection to become
/// something else.
///
/// # Errors
/// It cannot be sent on.
pub(crate) fn pass_request<B>(request: &mut Request<B>, upgrade: bool) -> Result<(), Failure> {
    if request.method() == Method::CONNECT && !upgrade && request.version() != Version::HTTP_2 {
        // It would open, and carry nothing. In HTTP/2 it is a stream like any other.
        return Err(Failure::RequestUnsupported);
    }
    if upgrade || request.headers().keys().any(concerns_connection) {
        let was_chunked = was_chunked(request.headers()).map_err(|OtherCoding| Failure::RequestUnsupported)?;
        only_trailers_in_te(request.headers_mut());
        if request.version() != Version::HTTP_2 {
            strip_hop_by_hop(request.headers_mut(), upgrade);
        }
        if was_chunked && request.version() == Version::HTTP_11 {
            // Whoever sends chunks may send none: that is a body too.
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
    }
    match request.version() {
        Version::HTTP_2 => one_authority(request),
        _ => Ok(()),
    }
}

/// Makes a response that came on one connection fit for the next. `upgrade`: its connection has become something else.
/// What it says in the name of a proxy does not pass.
///
/// # Errors
/// It cannot be sent on.
pub(crate) fn pass_response<B>(response: &mut Response<B>, upgrade: bool) -> Result<(), Failure> {
    if upgrade || response.headers().keys().any(concerns_connection) {
        was_chunked(response.headers()).map_err(|OtherCoding| Failure::ResponseInvalid)?;
        if response.version() != Version::HTTP_2 {
            strip_hop_by_hop(response.headers_mut(), upgrade);
        }
    }
    if response.version() != Version::HTTP_2 {
        // The server's own version ends here (RFC 9110 section 2.5); towards a client of HTTP/1.0 it is lowered.
        *response.version_mut() = Version::HTTP_11;
    }
    if seek(response.headers(), &CONDUIT_ERROR).is_some() {
        response.headers_mut().remove(CONDUIT_ERROR);
    }
    Ok(())
}

/// Whether a header of this name concerns only the connection that a message came on. Most messages have none: one look at
/// the names that they have, mostly at no more than their lengths, costs a fifth of a look-up for each that they may have.
fn concerns_connection(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.len() {
        2 => name == "te",
        7 => name == "upgrade",
        10 => name == "connection" || name == "keep-alive",
        16 => name == "proxy-connection",
        17 => name == "transfer-encoding",
        _ => false,
    }
}

/// The first value of a header that few messages have. To look through the names of a message, most of which differ in their
/// lengths, costs less than to find one by its hash.
pub(crate) fn seek<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// A body is in a transfer coding that is not `chunked`.
struct OtherCoding;

/// Whether a body came in chunks, which it has been taken out of.
///
/// # Errors
/// It came in another transfer coding (RFC 9112 section 7), which the proxy cannot take it out of. It offers none (`TE`),
/// and would pass on a body that nobody can read.
fn was_chunked(headers: &HeaderMap) -> Result<bool, OtherCoding> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(coding), None) if coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(true),
        (Some(_), _) => Err(OtherCoding),
    }
}

/// Leaves of what a client would accept of the next connection (`TE`, RFC 9110 section 10.1.4) only what holds end to end
/// here: trailers pass.
fn only_trailers_in_te(headers: &mut HeaderMap) {
    let Some(first) = headers.get(TE) else { return };
    if first == "trailers" && headers.get_all(TE).iter().nth(1).is_none() {
        return;
    }
    if list(headers, &TE).any(|member| member.eq_ignore_ascii_case("trailers")) {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(TE);
    }
}

/// Removes what concerns only the connection that a message came on (RFC 9110 section 7.6.1). An upgrade is between
/// client and server, with the proxy in between, so what asks for it or grants it stays.
fn strip_hop_by_hop(headers: &mut HeaderMap, upgrade: bool) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = list(headers, &CONNECTION).filter_map(|name| name.parse().ok()).collect();
        for name in named {
            // What says where a message goes and where it ends is not an option of its connection.
            if name != TE && name != HOST && name != CONTENT_LENGTH && !(upgrade && name == UPGRADE) {
                headers.remove(name);
            }
        }
        headers.remove(CONNECTION);
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    // The next connection has a framing of its own.
    headers.remove(TRANSFER_ENCODING);
    if upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        headers.remove(UPGRADE);
    }
}

/// Leaves an HTTP/2 request one authority, which is a host: an application that reads its `host` header must not see
/// another than policy has seen (RFC 9113 section 8.3.1).
///
/// # Errors
/// There is none, or it cannot be one.
fn one_authority<B>(request: &mut Request<B>) -> Result<(), Failure> {
    complete_uri(request).map_err(|_| Failure::RequestInvalid)?;
    if request.uri().authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(Failure::RequestInvalid);
    }
    if request.headers().contains_key(HOST) {
        request.headers_mut().remove(HOST);
    }
    Ok(())
}

/// Gives an HTTP/2 request the authority that it names only in its `host` header (RFC 9113 section 8.3.1 lets it).
///
/// # Errors
/// There is neither, or what there is cannot be an authority.
fn complete_uri<B>(request: &mut Request<B>) -> Result<(), http::Error> {
    if request.uri().authority().is_some() {
        return Ok(());
    }
    let host = request.headers().get(HOST).map_or(&b""[..], |host| host.as_bytes());
    let authority = Authority::try_from(host)?;
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.authority = Some(authority);
    parts.scheme.get_or_insert(Scheme::HTTP);
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    *request.uri_mut() = parts.try_into()?;
    Ok(())
}

/// The host that a request names, lower case and without port.
pub(crate) fn host<B>(request: &Request<B>) -> Option<Cow<'_, str>> {
    let named = match request.uri().host() {
        Some(host) => host,
        None => without_port(request.headers().get(HOST)?.to_str().ok()?),
    };
    Some(match named.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(named.to_ascii_lowercase()),
        false => Cow::Borrowed(named),
    })
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // Not a colon within `[::1]`.
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    }
}

/// Whether the `Connection` header names `option`.
fn names(headers: &HeaderMap, option: &HeaderName) -> bool {
    list(headers, &CONNECTION).any(|name| name.eq_ignore_ascii_case(option.as_str()))
}

/// The members of a header that is a list.
fn list<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn what_concerns_one_connection_does_not_pass_and_what_it_names_neither() {
        let mut passed = headers(&[
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("host", "web"),
        ]);
        strip_hop_by_hop(&mut passed, false);
        assert_eq!(passed, headers(&[("te", "trailers"), ("host", "web")]));
    }

    #[test]
    fn what_concerns_one_connection_is_found_where_it_stands_alone_and_nothing_else_is_taken_for_it() {
        for (name, value) in [
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip"),
            ("upgrade", "h2c"),
        ] {
            let mut request = Request::get("/").header(name, value).header("host", "web").body(()).unwrap();
            pass_request(&mut request, false).unwrap();
            assert_eq!(request.headers(), &headers(&[("host", "web")]), "{name}");
        }
        for name in ["connection", "keep-alive", "proxy-connection", "upgrade"] {
            let mut response = Response::builder().header(name, "x").header("server", "web").body(()).unwrap();
            pass_response(&mut response, false).unwrap();
            assert_eq!(response.headers(), &headers(&[("server", "web")]), "{name}");
        }
        let others = headers(&[("x", "1"), ("referer", "1"), ("user-agent", "1"), ("if-modified-since", "1")]);
        let mut request = Request::get("/").body(()).unwrap();
        *request.headers_mut() = others.clone();
        pass_request(&mut request, false).unwrap();
        assert_eq!(request.headers(), &others);
    }

    #[test]
    fn only_trailers_are_accepted_of_the_next_connection() {
        for (te, expected) in [
            (&["gzip"][..], None),
            (&["trailers"], Some("trailers")),
            (&["deflate;q=0.5, Trailers"], Some("trailers")),
            (&["gzip", "trailers"], Some("trailers")),
        ] {
            for version in [Version::HTTP_11, Version::HTTP_2] {
                let mut request = Request::get("http://web/").version(version).body(()).unwrap();
                request.headers_mut().extend(te.iter().map(|te| (TE, te.parse().unwrap())));
                pass_request(&mut request, false).unwrap();
                let passed: Vec<_> = request.headers().get_all(TE).iter().collect();
                assert_eq!(passed, Vec::from_iter(expected));
            }
        }
    }

    #[test]
    fn a_body_in_chunks_stays_so_and_one_in_another_transfer_coding_is_refused() {
        for (codings, expected) in [
            (&["chunked"][..], Ok(Some("chunked"))),
            (&["Chunked "], Ok(Some("chunked"))),
            (&[], Ok(None)),
            (&["gzip, chunked"], Err(Failure::RequestUnsupported)),
            (&["gzip", "chunked"], Err(Failure::RequestUnsupported)),
        ] {
            let codings = || codings.iter().map(|coding| (TRANSFER_ENCODING, coding.trim_end().parse().unwrap()));
            let mut request = Request::get("/").body(()).unwrap();
            request.headers_mut().extend(codings());
            let passed = pass_request(&mut request, false);
            let header = request.headers().get(TRANSFER_ENCODING).map(|value| value.to_str().unwrap());
            assert_eq!(passed.map(|()| header), expected);

            let mut response = Response::new(());
            response.headers_mut().extend(codings());
            let passed = pass_response(&mut response, false);
            assert_eq!(passed, expected.map(drop).map_err(|_| Failure::ResponseInvalid));
        }
    }

    #[test]
    fn a_tunnel_passes_where_it_takes_a_whole_connection_or_a_stream() {
        let connect = |version| Request::connect("web:443").version(version).body(()).unwrap();
        assert_eq!(pass_request(&mut connect(Version::HTTP_11), true), Ok(()));
        assert_eq!(pass_request(&mut connect(Version::HTTP_2), false), Ok(()));
        assert_eq!(pass_request(&mut connect(Version::HTTP_10), false), Err(Failure::RequestUnsupported));
    }

    #[test]
    fn an_upgrade_passes() {
        let mut passed = headers(&[("connection", "Upgrade, keep-alive"), ("upgrade", "websocket")]);
        strip_hop_by_hop(&mut passed, true);
        assert_eq!(passed, headers(&[("connection", "upgrade"), ("upgrade", "websocket")]));
    }

    #[test]
    fn an_upgrade_is_wanted_only_where_the_connection_header_says_so() {
        let request = |connection| {
            let request = Request::get("/").header("upgrade", "websocket").header("connection", connection);
            wants_upgrade(&request.body(()).unwrap())
        };
        assert!(request("keep-alive, Upgrade"));
        assert!(!request("keep-alive"));
        for (protocol, expected) in
            [("websocket", true), ("h2c", false), ("H2C", false), ("websocket, h2c", false), ("HTTP/2.0", false)]
        {
            for lines in [&[protocol][..], &["websocket", protocol]] {
                let mut request = Request::get("/").header("connection", "upgrade").body(()).unwrap();
                request.headers_mut().extend(lines.iter().map(|line| (UPGRADE, HeaderValue::from_static(line))));
                assert_eq!(wants_upgrade(&request), expected, "{lines:?}");
            }
        }
        assert!(wants_upgrade(&Request::connect("web:443").body(()).unwrap()));
    }

    #[test]
    fn the_host_is_that_of_the_target_or_else_of_the_header() {
        for (target, header, expected) in [
            ("/", "Web.shop:8080", Some("web.shop")),
            ("/", "[::1]:80", Some("[::1]")),
            ("/", "web", Some("web")),
            ("http://Other/", "web", Some("other")),
        ] {
            let request = Request::get(target).header(HOST, header).body(()).unwrap();
            assert_eq!(host(&request).as_deref(), expected);
        }
        assert_eq!(host(&Request::get("/").body(()).unwrap()), None);
    }

    #[test]
    fn an_http2_request_names_one_host() {
        let passed = |uri: &'static str, host: &[&'static str]| {
            let mut request = Request::get(uri).version(Version::HTTP_2).body(()).unwrap();
            request.headers_mut().extend(host.iter().map(|host| (HOST, HeaderValue::from_static(host))));
            pass_request(&mut request, false).map(|()| (request.uri().to_string(), request.headers().len()))
        };
        for host in [&[][..], &["web"], &["other"], &["other", "more"]] {
            assert_eq!(passed("http://web/", host), Ok(("http://web/".into(), 0)), "{host:?}");
        }
        assert_eq!(passed("/", &["web"]), Ok(("http://web/".into(), 0)));
        for (uri, host) in [("http://user@web/", ""), ("/", "user@web"), ("/", "")] {
            assert_eq!(passed(uri, &[host]), Err(Failure::RequestInvalid), "{uri} {host:?}");
        }
    }

    #[test]
    fn an_http2_request_gets_the_authority_of_its_host_header() {
        let mut request = Request::get("/a?b").header(HOST, "web:80").version(Version::HTTP_2).body(()).unwrap();
        complete_uri(&mut request).unwrap();
        assert_eq!(request.uri(), "http://web:80/a?b");
        let mut neither = Request::get("/").version(Version::HTTP_2).body(()).unwrap();
        assert!(complete_uri(&mut neither).is_err());
    }
}
