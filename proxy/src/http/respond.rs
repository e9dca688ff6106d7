//! The answers that the proxy gives itself, and how it knows those of another.

use super::{body::ResponseBody, headers};
use crate::outcome::Failure;
use conduit_model::settings::ERROR_HEADER;
use h2::Reason;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};

/// [`ERROR_HEADER`] as a name.
pub(crate) const CONDUIT_ERROR: HeaderName = HeaderName::from_static(ERROR_HEADER);

/// What kind of answer a request understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Http,
    Grpc,
}

/// The response that says how a request failed, about `object` (`<kind/namespace/name>`, empty where none is known).
pub(crate) fn failure<F>(failure: Failure, answer: Answer, object: &str) -> Response<ResponseBody<F>> {
    let row = failure.row();
    let mut response = Response::new(ResponseBody::Empty);
    let value = match object {
        "" => Ok(HeaderValue::from_static(row.code)),
        object => HeaderValue::try_from(format!("{}; object={object}", row.code)),
    };
    // Names of Kubernetes are ASCII; one that is not is not worth failing an answer for.
    response.headers_mut().insert(CONDUIT_ERROR, value.unwrap_or(HeaderValue::from_static(row.code)));
    match answer {
        Answer::Http => *response.status_mut() = row.status,
        Answer::Grpc => {
            *response.status_mut() = StatusCode::OK;
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from(row.grpc));
            headers.insert("grpc-message", HeaderValue::from_static(row.code));
        }
    }
    response
}

/// What stands for a response where the server has reset the stream of an HTTP/2 request instead of answering, for this reason:
/// the client sees the same reset, and no head. Versions are kept, so that no other client can meet it.
pub(crate) fn reset<F>(reason: Reason) -> Response<ResponseBody<F>> {
    let mut response = Response::new(ResponseBody::Reset(reason));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

/// The failure that the proxy of a meshed peer answered with, if its answer is one.
pub(crate) fn failure_of_peer(headers: &HeaderMap) -> Option<Failure> {
    let value = headers::seek(headers, &CONDUIT_ERROR)?.to_str().ok()?;
    Failure::from_code(value.split(';').next().unwrap_or_default().trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_in_the_protocol_of_its_request_and_understood_by_the_peer() {
        let http = failure::<()>(Failure::NoEndpoints, Answer::Http, "service/shop/web");
        assert_eq!(http.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(http.headers()[CONDUIT_ERROR], "no-endpoints; object=service/shop/web");
        assert_eq!(failure_of_peer(http.headers()), Some(Failure::NoEndpoints));

        let grpc = failure::<()>(Failure::ResponseBroken, Answer::Grpc, "");
        assert_eq!((grpc.status(), &grpc.headers()["grpc-status"]), (StatusCode::OK, &HeaderValue::from(14)));
        assert_eq!(failure_of_peer(grpc.headers()), Some(Failure::ResponseBroken));
    }
}
