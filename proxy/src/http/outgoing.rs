//! A request on its way to a server, which can be sent more than once while it is certain that none has seen it.

use super::{
    body::{Replay, RequestBody},
    headers,
    incoming::{Incoming, Informer},
};
use h2::Reason;
use http::{Method, Request, Response, Version, request::Parts};

/// The request, and what it takes to send it again.
#[derive(Debug)]
pub(crate) struct Outgoing {
    head: Parts,
    /// The body of the first sending.
    first: Option<RequestBody>,
    replay: Replay,
    informer: Option<Informer>,
    /// Why the server reset its stream, where it did that instead of answering.
    reset: Option<Reason>,
}

impl Outgoing {
    pub(crate) fn new(request: Request<Incoming>) -> Self {
        let (head, body) = request.into_parts();
        let informer = body.informer();
        let (first, replay) = Replay::of(body);
        Self { head, first: Some(first), replay, informer, reset: None }
    }

    pub(crate) fn version(&self) -> Version {
        self.head.version
    }

    pub(crate) fn method(&self) -> &Method {
        &self.head.method
    }

    /// Whether it asks for another protocol in its stream (RFC 8441 section 4).
    pub(crate) fn wants_protocol(&self) -> bool {
        self.head.method == Method::CONNECT && self.head.extensions.get::<h2::ext::Protocol>().is_some()
    }

    /// Whether all of it is here for another sending.
    pub(crate) fn can_be_sent_again(&self) -> bool {
        self.first.is_some() || self.replay.is_whole()
    }

    /// What stands before the body.
    pub(crate) fn head(&self) -> &Parts {
        &self.head
    }

    /// The body for the next sending; none where part of it has passed and was too large to keep. What was sent before gets
    /// no more of it.
    pub(crate) fn body(&mut self) -> Option<RequestBody> {
        self.first.take().or_else(|| self.replay.again())
    }

    /// Passes an informational response on to the client. One that cannot be passed is not: it has to be understood by nobody.
    pub(crate) fn inform(&self, mut response: Response<()>) {
        if let Some(informer) = &self.informer
            && headers::pass_response(&mut response, false).is_ok()
        {
            informer.inform(&response);
        }
    }

    /// The server has reset the request's stream instead of answering. It may have seen the request, which is not sent again.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.reset = Some(reason);
    }

    /// Why the server reset the request's stream, if that is how the last sending of it ended.
    pub(crate) fn was_reset(&self) -> Option<Reason> {
        self.reset
    }

    /// The request has been answered, and will not be sent again.
    pub(crate) fn settle(&self) {
        self.replay.settle();
    }
}
