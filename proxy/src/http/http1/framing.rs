//! Where the body of an HTTP/1 message ends (RFC 9112 section 6), decided once, by its head. A message whose end could be
//! seen in two places is refused.

use super::head::Fault;
use http::{
    HeaderMap, Method, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
};

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// In chunks, of which the last says so.
    Chunked,
    /// It ends with the connection.
    UntilEnd,
}

/// The framing of a request's body.
///
/// # Errors
/// Its end could be seen in two places, or not at all.
pub(super) fn of_request(version: Version, headers: &HeaderMap) -> Result<Framing, Fault> {
    Ok(stated(version, headers)?.unwrap_or(Framing::None))
}

/// The framing of the body of a response to a request of `method`.
///
/// # Errors
/// Its end could be seen in two places.
pub(super) fn of_response<B>(method: &Method, response: &Response<B>) -> Result<Framing, Fault> {
    let stated = stated(response.version(), response.headers())?;
    Ok(match (has_body(method, response.status()), stated) {
        (false, _) => Framing::None,
        (true, Some(framing)) => framing,
        (true, None) => Framing::UntilEnd,
    })
}

/// Whether a response of `status` to a request of `method` has a body, if only an empty one.
pub(super) fn has_body(method: &Method, status: StatusCode) -> bool {
    let tunnel = *method == Method::CONNECT && status.is_success();
    let never = status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    *method != Method::HEAD && !tunnel && !never
}

/// Whether a response speaks of a body that its status does not have (RFC 9110 section 15.3.5). Who sends that may send the
/// body too, which would be taken for the next response.
pub(super) fn is_doubtful<B>(response: &Response<B>) -> bool {
    response.status() == StatusCode::NO_CONTENT
        && !matches!(stated(response.version(), response.headers()), Ok(None | Some(Framing::Length(0))))
}

/// What the headers say.
fn stated(version: Version, headers: &HeaderMap) -> Result<Option<Framing>, Fault> {
    let length = length(headers)?;
    if !headers.contains_key(TRANSFER_ENCODING) {
        return Ok(length.map(Framing::Length));
    }
    if length.is_some() {
        return Err(Fault::Invalid("there are a content-length and a transfer-encoding"));
    }
    if version == Version::HTTP_10 {
        return Err(Fault::Invalid("HTTP/1.0 has no transfer-encoding"));
    }
    let mut codings = Vec::new();
    for value in headers.get_all(TRANSFER_ENCODING) {
        codings.extend(value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii));
    }
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    match codings.as_slice() {
        [coding] if is_chunked(coding) => Ok(Some(Framing::Chunked)),
        [before @ .., last]
            if is_chunked(last) && !before.iter().any(|coding| is_chunked(coding) || coding.is_empty()) =>
        {
            Err(Fault::Coding)
        }
        _ => Err(Fault::Invalid("the last transfer coding is not chunked, once")),
    }
}

/// The length, which is there once and is a number.
fn length(headers: &HeaderMap) -> Result<Option<u64>, Fault> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(None),
        (Some(length), None) => {
            number(length.as_bytes()).map(Some).ok_or(Fault::Invalid("the content-length is not a number"))
        }
        (Some(_), Some(_)) => Err(Fault::Invalid("there is more than one content-length")),
    }
}

/// A number of digits alone: no sign, no list.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Whether a connection goes on after a message (RFC 9112 section 9.3).
pub(super) fn keeps_alive(version: Version, headers: &HeaderMap) -> bool {
    let (mut close, mut keep_alive) = (false, false);
    for value in headers.get_all(CONNECTION) {
        for option in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            close |= option.eq_ignore_ascii_case(b"close");
            keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    !close && (version == Version::HTTP_11 || keep_alive)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_body_ends_where_its_head_says_in_one_way() {
        const INVALID: Result<Framing, bool> = Err(false);
        const CODING: Result<Framing, bool> = Err(true);
        for (lines, expected) in [
            (&[][..], Ok(Framing::None)),
            (&[("content-length", "0")], Ok(Framing::Length(0))),
            (&[("content-length", "007")], Ok(Framing::Length(7))),
            (&[("content-length", "18446744073709551615")], Ok(Framing::Length(u64::MAX))),
            (&[("content-length", "18446744073709551616")], INVALID),
            (&[("content-length", "")], INVALID),
            (&[("content-length", "+5")], INVALID),
            (&[("content-length", "-5")], INVALID),
            (&[("content-length", "0x5")], INVALID),
            (&[("content-length", "5, 5")], INVALID),
            (&[("content-length", "5 5")], INVALID),
            (&[("content-length", "5"), ("content-length", "5")], INVALID),
            (&[("content-length", "5"), ("content-length", "6")], INVALID),
            (&[("content-length", "5"), ("transfer-encoding", "chunked")], INVALID),
            (&[("transfer-encoding", "chunked")], Ok(Framing::Chunked)),
            (&[("transfer-encoding", "Chunked")], Ok(Framing::Chunked)),
            (&[("transfer-encoding", "gzip, chunked")], CODING),
            (&[("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")], CODING),
            (&[("transfer-encoding", "chunked, chunked")], INVALID),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], INVALID),
            (&[("transfer-encoding", "chunked, identity")], INVALID),
            (&[("transfer-encoding", "identity")], INVALID),
            (&[("transfer-encoding", "gzip")], INVALID),
            (&[("transfer-encoding", ", chunked")], INVALID),
            (&[("transfer-encoding", "")], INVALID),
            (&[("transfer-encoding", "xchunked")], INVALID),
            (&[("transfer-encoding", "chunked;a=b")], INVALID),
        ] {
            let framing = of_request(Version::HTTP_11, &headers(lines)).map_err(|fault| fault == Fault::Coding);
            assert_eq!(framing, expected, "{lines:?}");
        }
        let chunked = headers(&[("transfer-encoding", "chunked")]);
        assert!(of_request(Version::HTTP_10, &chunked).is_err());
    }

    #[test]
    fn what_has_no_body_has_none_whatever_it_says_and_what_says_nothing_ends_with_its_connection() {
        let lengthy = headers(&[("content-length", "5")]);
        for (method, status, lines, expected) in [
            (Method::GET, 200, &lengthy, Framing::Length(5)),
            (Method::GET, 200, &HeaderMap::new(), Framing::UntilEnd),
            (Method::HEAD, 200, &lengthy, Framing::None),
            (Method::GET, 304, &lengthy, Framing::None),
            (Method::GET, 204, &lengthy, Framing::None),
            (Method::GET, 103, &HeaderMap::new(), Framing::None),
            (Method::CONNECT, 200, &HeaderMap::new(), Framing::None),
            (Method::CONNECT, 403, &lengthy, Framing::Length(5)),
        ] {
            let mut response = Response::builder().status(status).body(()).unwrap();
            *response.headers_mut() = lines.clone();
            assert_eq!(of_response(&method, &response), Ok(expected), "{method} {status}");
        }
    }

    #[test]
    fn a_connection_goes_on_as_its_version_and_its_options_say() {
        for (version, option, expected) in [
            (Version::HTTP_11, "", true),
            (Version::HTTP_11, "Close", false),
            (Version::HTTP_11, "upgrade, close", false),
            (Version::HTTP_10, "", false),
            (Version::HTTP_10, "Keep-Alive", true),
            (Version::HTTP_10, "keep-alive, close", false),
        ] {
            assert_eq!(keeps_alive(version, &headers(&[("connection", option)])), expected, "{version:?} {option:?}");
        }
    }
}
