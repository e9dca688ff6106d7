//! What a request says of itself, until its line is written.

use super::{
    Conversation,
    line::{Fields, What},
};
use crate::{outcome::Failure, record::labels::Labels};
use http::{HeaderName, Request, Version, header, uri::Authority};
use http_body::Body;
use serde::{Serialize, Serializer};
use std::{net::SocketAddr, rc::Rc, time::Duration};

/// Most bytes of a text that a client chose.
const MOST_TEXT: usize = 2048;

/// What a request says of itself, for its line.
#[derive(Debug)]
pub(crate) struct RequestLine {
    /// None where the log is switched off, and only whoever debugs wants to know.
    conversation: Option<Rc<Conversation>>,
    asked: Asked,
    response_bytes: u64,
    /// The endpoint that it was tried at last.
    endpoint: Option<SocketAddr>,
}

/// The head of a request.
#[derive(Debug, Serialize)]
pub(super) struct Asked {
    pub(super) method: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host: Option<Box<str>>,
    /// Empty where the host is all that a request is about, as of a tunnel.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) uri: Box<str>,
    #[serde(serialize_with = "debug_text")]
    pub(super) version: Version,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<Box<str>>,
    /// None where its head does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_bytes: Option<u64>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(in crate::record) struct Ended {
    pub(in crate::record) status: Option<u16>,
    pub(in crate::record) grpc: Option<u32>,
    pub(in crate::record) classification: &'static str,
    pub(in crate::record) error: Option<Failure>,
    pub(in crate::record) latency: Duration,
}

impl RequestLine {
    /// Of `request`; none where nobody wants to know.
    pub(crate) fn of<B: Body>(request: &Request<B>, conversation: Option<&Rc<Conversation>>) -> Option<Box<Self>> {
        if conversation.is_none() && !tracing::enabled!(tracing::Level::DEBUG) {
            return None;
        }
        let header = |name: HeaderName| Some(bounded(request.headers().get(name)?.to_str().ok()?));
        let uri = request.uri();
        let asked = Asked {
            method: bounded(request.method().as_str()),
            host: uri.authority().map(|named| bounded(host(named))).or_else(|| header(header::HOST)),
            uri: target(uri.path_and_query().map_or("", |path| path.as_str())),
            version: request.version(),
            user_agent: header(header::USER_AGENT),
            request_bytes: request.body().size_hint().exact(),
        };
        Some(Box::new(Self { conversation: conversation.cloned(), asked, response_bytes: 0, endpoint: None }))
    }

    /// It is tried at `endpoint`.
    pub(in crate::record) fn tried(&mut self, endpoint: SocketAddr) {
        self.endpoint = Some(endpoint);
    }

    /// Bytes of the response's body have passed.
    pub(in crate::record) fn passed(&mut self, bytes: usize) {
        self.response_bytes += bytes as u64;
    }

    /// Writes the line.
    pub(in crate::record) fn ended(&self, ended: Ended, labels: &[&Labels]) {
        let Ended { status, grpc, classification, error, latency } = ended;
        let request = &self.asked;
        tracing::debug!(method = %request.method, uri = %request.uri, ?ended, labels = %labels[0], "request ended");
        let Some(conversation) = &self.conversation else { return };
        conversation.write(Fields {
            endpoint: self.endpoint,
            what: What::Request {
                request: Some(request),
                status,
                grpc_status: grpc,
                classification: Some(classification),
                response_bytes: self.response_bytes,
                latency,
            },
            error: error.map(|failure| failure.row().code),
            labels,
        });
    }
}

/// Who is asked, without who asks: before the `@` there can be a password (RFC 9110 section 4.2.4).
fn host(authority: &Authority) -> &str {
    authority.as_str().rsplit('@').next().unwrap_or_default()
}

/// As it was asked for. Control characters beyond those of ASCII, which none has and a terminal may obey, are written as they
/// should have been sent (RFC 3986 section 2.1).
fn target(path: &str) -> Box<str> {
    if path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return bounded(path);
    }
    let mut written = String::new();
    for character in path.chars() {
        if character.is_control() {
            character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| written += &format!("%{byte:02X}"));
        } else {
            written.push(character);
        }
    }
    bounded(&written)
}

fn bounded(text: &str) -> Box<str> {
    let mut end = text.len().min(MOST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

fn debug_text<S: Serializer>(version: &Version, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{version:?}"))
}
