//! Informational responses (1xx) on their way to an HTTP/2 client: whoever waits for the answer hears of them, and what
//! serves the request sends them.

use h2::StreamId;
use http::Response;
use std::{cell::RefCell, mem, rc::Rc};

/// Those of a connection that are to be sent, with the streams that they are for.
#[derive(Clone, Debug, Default)]
pub(super) struct Informations(Rc<RefCell<Vec<Information>>>);

/// One of them, and the stream that it is for.
type Information = (StreamId, Response<()>);

/// Tells the client of one request what comes before its answer.
#[derive(Clone, Debug)]
pub(crate) struct Informer(Informations, StreamId);

impl Informations {
    pub(super) fn informer(&self, stream: StreamId) -> Informer {
        Informer(self.clone(), stream)
    }

    /// Takes those for `stream`, which is asked for seldom. They are there since it was polled, and so are no others.
    pub(super) fn take(&self, stream: impl FnOnce() -> StreamId) -> Vec<Response<()>> {
        let taken = mem::take(&mut *self.0.borrow_mut());
        if taken.is_empty() {
            return Vec::new();
        }
        let stream = stream();
        taken.into_iter().filter(|(of, _)| *of == stream).map(|(_, response)| response).collect()
    }
}

impl Informer {
    /// Sends an informational response, when the request's future has been polled.
    pub(crate) fn inform(&self, response: &Response<()>) {
        let Self(Informations(all), stream) = self;
        all.borrow_mut().push((*stream, response.clone()));
    }
}
