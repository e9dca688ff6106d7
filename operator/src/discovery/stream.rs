//! One stream from its beginning to its end: requests in, updates out as fast as the proxy takes them.
//!
//! It is driven by the connection that it is on: an update is made when there is room for it and not before, so that
//! nothing queues up for a slow proxy. The stream is no task of its own, and ends with its connection.

use super::session::{RequestError, Session};
use conduit_model::wire;
use futures::stream::{self, Stream};
use std::{pin::Pin, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

pub(super) struct Watch {
    pub session: Session,
    pub requests: Streaming<wire::WatchRequest>,
    /// When the proxy is to connect again, maybe to another replica.
    pub lifetime: Pin<Box<tokio::time::Sleep>>,
    /// When all are.
    pub closing: CancellationToken,
}

impl Watch {
    /// The updates. They end without an error at the end of the lifetime, and when the server closes.
    pub(super) fn updates(self) -> impl Stream<Item = Result<wire::WatchResponse, Status>> + Send {
        stream::unfold(Some(self), |watch| async {
            let mut watch = watch?;
            match watch.next().await? {
                Ok(response) => Some((Ok(response), Some(watch))),
                Err(status) => Some((Err(status), None)),
            }
        })
    }

    async fn next(&mut self) -> Option<Result<wire::WatchResponse, Status>> {
        loop {
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return None,
                () = &mut self.lifetime => return None,
                request = self.requests.message() => match request {
                    Ok(Some(request)) => {
                        if let Err(error) = self.session.request(request) {
                            return Some(Err(error.into()));
                        }
                    }
                    // The proxy has said all that it had to.
                    Ok(None) => return None,
                    // It sent something that is no request, or too long to be one.
                    Err(status) if matches!(status.code(), Code::Internal | Code::OutOfRange) => {
                        return Some(Err(self.session.refuse(RequestError::NoRequest(status.message().to_owned())).into()));
                    }
                    // It is gone.
                    Err(_) => return None,
                },
                () = ready(&self.session) => {
                    if let Some(response) = self.session.next() {
                        return Some(Ok(response));
                    }
                }
            }
        }
    }
}

async fn ready(session: &Session) {
    session.mailbox().ready().await;
}

/// `mean` times 0.9 to 1.1, so that streams that began together do not end together. `chance` is from 0 to 1.
pub(super) fn jittered(mean: Duration, chance: f64) -> Duration {
    mean.mul_f64(0.9 + 0.2 * chance)
}
