//! The headers that a proxy must change, and those that it reads.

use super::respond::CONDUIT_ERROR;
use crate::outcome::Failure;
use http::{
    HeaderMap, HeaderName, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme},
};
use std::borrow::Cow;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Whether a request asks for its connection to become something else, a WebSocket or a tunnel (RFC 9110 sections 7.8
/// and 9.3.6). Only HTTP/1.1 can.
pub(crate) fn wants_upgrade<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11
        && (request.method() == Method::CONNECT
            || request.headers().contains_key(UPGRADE) && names(request.headers(), &UPGRADE))
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
    match request.version() {
        Version::HTTP_2 => complete_uri(request).map_err(|_| Failure::RequestInvalid),
        _ => {
            strip_hop_by_hop(request.headers_mut(), upgrade);
            Ok(())
        }
    }
}

/// Makes a response that came on one connection fit for the next. `upgrade`: its connection has become something else.
/// What it says in the name of a proxy does not pass.
pub(crate) fn pass_response<B>(response: &mut Response<B>, upgrade: bool) {
    if response.version() != Version::HTTP_2 {
        strip_hop_by_hop(response.headers_mut(), upgrade);
    }
    response.headers_mut().remove(CONDUIT_ERROR);
}

/// Removes what concerns only the connection that a message came on (RFC 9110 section 7.6.1). An upgrade is between
/// client and server, with the proxy in between, so what asks for it or grants it stays.
fn strip_hop_by_hop(headers: &mut HeaderMap, upgrade: bool) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = connection_options(headers).filter_map(|name| name.parse().ok()).collect();
        for name in named {
            // `TE: trailers` is an offer that holds end to end here: trailers pass.
            if name != TE && !(upgrade && name == UPGRADE) {
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
        headers.insert(CONNECTION, http::HeaderValue::from_static("upgrade"));
    } else {
        headers.remove(UPGRADE);
    }
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
    connection_options(headers).any(|name| name.eq_ignore_ascii_case(option.as_str()))
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(CONNECTION)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
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
    fn an_http2_request_gets_the_authority_of_its_host_header() {
        let mut request = Request::get("/a?b").header(HOST, "web:80").version(Version::HTTP_2).body(()).unwrap();
        complete_uri(&mut request).unwrap();
        assert_eq!(request.uri(), "http://web:80/a?b");
        let mut neither = Request::get("/").version(Version::HTTP_2).body(()).unwrap();
        assert!(complete_uri(&mut neither).is_err());
    }
}
