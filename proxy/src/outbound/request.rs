//! One request of the application, from its head to the head of its response.

use super::{Connection, plan::Plan};
use crate::{
    http::{
        body::{Finish, ResponseBody},
        headers,
        incoming::Incoming,
        outgoing::Outgoing,
        respond::{self, Answer},
        tunnel,
    },
    outcome::Failure,
    record::{
        access::RequestLine,
        request::{RequestRecord, grpc_status, is_grpc},
    },
    upstream::{Candidate, Lease, Pending},
};
use http::{Request, Response, StatusCode};
use http_body::Body;
use std::{net::SocketAddr, rc::Rc};
use tokio::time::Instant;

/// Endpoints that a request is tried at.
const ATTEMPTS: usize = 4;

/// What is held of an endpoint until the response has ended.
#[derive(Debug)]
pub(super) struct Held {
    lease: Lease,
    pending: Pending,
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
    let mut record = {
        let line = RequestLine::of(&request, connection.conversation.as_ref());
        RequestRecord::start(plan.route(&request), line)
    };
    let answer = if is_grpc(request.headers()) { Answer::Grpc } else { Answer::Http };

    // What is sent.
    let client_upgrade = headers::wants_upgrade(&request).then(|| tunnel::of_request(&mut request));
    if let Err(failure) = headers::pass_request(&mut request, client_upgrade.is_some()) {
        return fail(&connection, &plan, record, failure, answer);
    }
    let mut request = Outgoing::new(request);

    // To whom, and once more if it did not arrive.
    let Answered { mut response, held } = match attempts(&connection, &mut record, &mut request).await {
        Ok(answered) => answered,
        Err(failure) => {
            let Some(reason) = request.was_reset() else { return fail(&connection, &plan, record, failure, answer) };
            connection.worker.reports.report(failure, &plan.object, connection.target.address());
            record.fail(failure);
            return respond::reset(reason);
        }
    };

    // What comes back.
    record.responded(response.status(), response.headers());
    let server_upgrade = client_upgrade.filter(|_| headers::is_upgrade(request.method(), &response));
    if let Err(failure) = headers::pass_response(&mut response, server_upgrade.is_some()) {
        return fail(&connection, &plan, record, failure, answer);
    }
    match server_upgrade {
        Some(client) => {
            // Its endpoint carries it for as long as it is open.
            tunnel::take_over(client, tunnel::of_response(&mut response), (connection, held.pending));
            record.finish();
            response.map(|_| ResponseBody::Empty)
        }
        None => response.map(|body| ResponseBody::new(body, record, held)),
    }
}

/// Sends the request to one endpoint, and to another for as long as it is certain that no application has seen it.
async fn attempts(
    connection: &Connection,
    record: &mut RequestRecord,
    request: &mut Outgoing,
) -> Result<Answered, Failure> {
    let Connection { target, worker, .. } = connection;
    let mut tried: Vec<SocketAddr> = Vec::new();
    let mut failure = Failure::NoEndpoints;
    while tried.len() < ATTEMPTS {
        let start = if tried.is_empty() { record.started() } else { Instant::now() };
        let Some(candidate) = target.pick(&tried, start) else { break };
        if !tried.is_empty() {
            worker.metrics.request_resent(failure);
        }
        record.attempt(&candidate.series, candidate.address());
        match attempt(&candidate, request, start).await {
            Ok(answered) => {
                request.settle();
                return Ok(answered);
            }
            Err(failed) => {
                record.attempt_failed(failed);
                failure = failed;
            }
        }
        if !failure.row().unsent || !request.can_be_sent_again() {
            break;
        }
        tried.push(candidate.address());
    }
    Err(failure)
}

/// Sends the request to `candidate`.
async fn attempt(candidate: &Rc<Candidate>, request: &mut Outgoing, start: Instant) -> Result<Answered, Failure> {
    let (pending, waiting) = (candidate.pending(), candidate.waiting(start));
    let sent = candidate.connections.send(request).await;
    let now = Instant::now();
    let (response, lease) = match sent {
        Ok(answered) => answered,
        Err(failure) => {
            waiting.failed(failure, now);
            return Err(failure);
        }
    };
    // Only a peer that has proved who it is speaks for what reached its application.
    let told = if candidate.connections.are_verified() { respond::failure_of_peer(response.headers()) } else { None };
    match told {
        Some(failure) => {
            waiting.failed(failure, now);
            // A proxy's answer has no body, so its connection is free.
            if response.body().is_end_stream() {
                lease.finish();
            }
            Err(failure)
        }
        None => {
            match is_unavailable(&response) {
                true => waiting.unavailable(now),
                false => waiting.answered(now),
            }
            Ok(Answered { response, held: Held { lease, pending } })
        }
    }
}

/// Whether an endpoint says that it cannot serve now. It tends to say so quickly, and must not be taken for fast.
fn is_unavailable<B>(response: &Response<B>) -> bool {
    const GRPC_UNAVAILABLE: u32 = 14;
    matches!(response.status(), StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
        || grpc_status(response.headers()) == Some(GRPC_UNAVAILABLE)
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
