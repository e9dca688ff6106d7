//! One request of the application, from its head to the head of its response.

use super::{Connection, plan::Plan};
use crate::{
    http::{
        body::{Finish, Replay, RequestBody, ResponseBody},
        headers,
        respond::{self, Answer},
        tunnel,
    },
    outcome::Failure,
    record::request::{RequestRecord, is_grpc},
    upstream::{Candidate, Lease, Pending, Unsent},
};
use http::{Request, Response, Version, request::Parts};
use http_body::Body;
use hyper::body::Incoming;
use std::{net::SocketAddr, rc::Rc};
use tokio::time::Instant;

/// Endpoints that a request is tried at.
const ATTEMPTS: usize = 4;

/// What is held of an endpoint until the response has ended.
#[derive(Debug)]
pub(super) struct Held {
    lease: Lease,
    _pending: Pending,
}

impl Finish for Held {
    fn finish(self) {
        self.lease.finish();
    }
}

/// A response, and who gave it.
struct Answered {
    response: Response<Incoming>,
    held: Held,
}

/// Answers `request`.
pub(super) async fn serve(connection: Rc<Connection>, mut request: Request<Incoming>) -> Response<ResponseBody<Held>> {
    // What to do with it.
    let plan = connection.target.plan();
    let mut record = RequestRecord::start(plan.route(&request), || format!("{} {}", request.method(), request.uri()));
    let answer = if is_grpc(request.headers()) { Answer::Grpc } else { Answer::Http };

    // What is sent.
    let method = request.method().clone();
    let client_upgrade = headers::wants_upgrade(&request).then(|| hyper::upgrade::on(&mut request));
    if let Err(failure) = headers::pass_request(&mut request, client_upgrade.is_some()) {
        return fail(&connection, &plan, record, failure, answer);
    }
    let (head, body) = request.into_parts();

    // To whom, and once more if it did not arrive.
    let Answered { mut response, held } = match attempts(&connection, &plan, &mut record, head, body).await {
        Ok(answered) => answered,
        Err(failure) => return fail(&connection, &plan, record, failure, answer),
    };

    // What comes back.
    record.responded(response.status(), response.headers());
    let server_upgrade = client_upgrade.filter(|_| headers::is_upgrade(&method, &response));
    headers::pass_response(&mut response, server_upgrade.is_some());
    match server_upgrade {
        Some(client) => {
            tunnel::take_over(client, hyper::upgrade::on(&mut response), connection);
            record.finish();
            response.map(|_| ResponseBody::Empty)
        }
        None => response.map(|body| ResponseBody::new(body, record, held)),
    }
}

/// Sends the request to one endpoint, and to another for as long as it is certain that no application has seen it.
async fn attempts(
    connection: &Connection,
    plan: &Plan,
    record: &mut RequestRecord,
    head: Parts,
    body: Incoming,
) -> Result<Answered, Failure> {
    let target = &connection.target;
    let (body, replay) = Replay::of(body);
    let mut tried: Vec<SocketAddr> = Vec::new();
    let mut next = Some(Request::from_parts(head, body));
    let mut failure = Failure::NoEndpoints;
    while let Some(request) = next.take() {
        let start = if tried.is_empty() { record.started() } else { Instant::now() };
        let candidate = match target.pick(plan, &tried, start) {
            Some(candidate) if tried.len() < ATTEMPTS => candidate,
            Some(_) | None => break,
        };
        if !tried.is_empty() {
            connection.worker.metrics.request_resent(failure);
        }
        record.attempt(&candidate.series);
        // Of a request that left, the head is gone; it is needed again only where a peer can prove that it got no further.
        let more_to_try = target.endpoints(plan) > tried.len() + 1;
        let spare = (more_to_try && may_come_back(&candidate, &request)).then(|| head_of(&request));
        match attempt(&candidate, request, start).await {
            Ok(answered) => {
                replay.settle();
                return Ok(answered);
            }
            Err(unsent) => {
                failure = unsent.failure;
                record.attempt_failed(failure);
                tried.push(candidate.address());
                next = match (unsent.request, failure.row().unsent) {
                    (Some(request), true) => Some(request),
                    (None, true) => spare.zip(replay.again()).map(|(head, body)| Request::from_parts(head, body)),
                    (_, false) => None,
                };
            }
        }
    }
    Err(failure)
}

/// Sends the request to `candidate`.
async fn attempt(candidate: &Rc<Candidate>, request: Request<RequestBody>, start: Instant) -> Result<Answered, Unsent> {
    let pending = candidate.pending();
    let sent = candidate.connections.send(request).await;
    let now = Instant::now();
    let (response, lease) = match sent {
        Ok(answered) => answered,
        Err(unsent) => {
            if unsent.failure != Failure::RequestBroken {
                candidate.failed(now);
            }
            return Err(unsent);
        }
    };
    let told = if candidate.meshed { respond::failure_of_peer(response.headers()) } else { None };
    match told {
        Some(failure) => {
            candidate.failed(now);
            // A proxy's answer has no body, so its connection is free.
            if response.body().is_end_stream() {
                lease.finish();
            }
            Err(Unsent { failure, request: None })
        }
        None => {
            candidate.answered(now.saturating_duration_since(start), now);
            Ok(Answered { response, held: Held { lease, _pending: pending } })
        }
    }
}

/// Whether a server may prove that it did not pass the request on after it left.
fn may_come_back<B>(candidate: &Candidate, request: &Request<B>) -> bool {
    candidate.meshed || request.version() == Version::HTTP_2
}

fn head_of<B>(request: &Request<B>) -> Parts {
    let mut head = Request::new(()).into_parts().0;
    head.method = request.method().clone();
    head.uri = request.uri().clone();
    head.version = request.version();
    head.headers = request.headers().clone();
    head.extensions = request.extensions().clone();
    head
}

/// Ends the record with a failure, and answers with it.
fn fail(
    connection: &Connection,
    plan: &Plan,
    mut record: RequestRecord,
    failure: Failure,
    answer: Answer,
) -> Response<ResponseBody<Held>> {
    connection.worker.reports.report(failure, &plan.object, connection.target.address());
    let response = respond::failure(failure, answer, &plan.object);
    record.answered_by_proxy(response.status(), response.headers(), failure);
    response
}
