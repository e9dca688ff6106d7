//! One request to the application, from its head to the head of its response.

use super::{Connection, admit};
use crate::{
    http::{
        body::ResponseBody,
        headers,
        incoming::Incoming,
        outgoing::Outgoing,
        respond::{self, Answer},
        tunnel,
    },
    outcome::Failure,
    record::{
        access::RequestLine,
        request::{RequestRecord, is_grpc},
    },
    upstream::Lease,
};
use http::{HeaderValue, Request, Response, Version, header};
use std::rc::Rc;

/// Answers `request`.
pub(super) async fn serve(connection: Rc<Connection>, mut request: Request<Incoming>) -> Response<ResponseBody<Lease>> {
    // What is counted.
    let (port, series) = connection.port();
    let mut record = {
        let (route, series) = port.route(&series, &request);
        let line = RequestLine::of(&request, connection.conversation.as_ref());
        let mut record = RequestRecord::start(route, line);
        record.attempt(series, connection.application.address());
        record
    };
    let answer = if is_grpc(request.headers()) { Answer::Grpc } else { Answer::Http };
    let version = request.version();

    // Whether it may be.
    let permit =
        match admit::request(&connection.client, |from| port.admission(from, &connection.worker.gateways), &request) {
            Ok(permit) => permit,
            Err(failure) => {
                let object = connection.worker.refuser(&port);
                return closing(&connection, version, fail(&connection, record, failure, answer, &object));
            }
        };

    // What is sent.
    let client_upgrade = headers::wants_upgrade(&request).then(|| tunnel::of_request(&mut request));
    let passed = headers::pass_request(&mut request, client_upgrade.is_some());
    let mut request = Outgoing::new(request);
    let sent = match passed {
        Ok(()) => connection.application.send(permit, &mut request).await,
        Err(failure) => Err(failure),
    };

    // What comes back.
    let (mut response, lease) = match sent {
        Ok(answered) => answered,
        Err(failure) => {
            let Some(reason) = request.was_reset() else {
                return closing(&connection, version, failed(&connection, record, failure, answer));
            };
            connection.worker.reports.report(failure, &connection.worker.object(), connection.application.address());
            record.fail(failure);
            return respond::reset(reason);
        }
    };
    request.settle();
    record.responded(response.status(), response.headers());
    let server_upgrade = client_upgrade.filter(|_| headers::is_upgrade(request.method(), &response));
    if let Err(failure) = headers::pass_response(&mut response, server_upgrade.is_some()) {
        return closing(&connection, version, failed(&connection, record, failure, answer));
    }
    match server_upgrade {
        Some(client) => {
            tunnel::take_over(client, tunnel::of_response(&mut response), connection);
            record.finish();
            response.map(|_| ResponseBody::Empty)
        }
        None => closing(&connection, version, response.map(|body| ResponseBody::new(body, record, lease))),
    }
}

/// Asks an HTTP/1 client to connect anew, elsewhere, once the pod has been told to stop. HTTP/2 has GOAWAY for it.
fn closing<B>(connection: &Connection, version: Version, mut response: Response<B>) -> Response<B> {
    if version != Version::HTTP_2 && connection.worker.is_terminating() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Ends the record of a request that failed at the pod, and answers with it.
fn failed(
    connection: &Connection,
    record: RequestRecord,
    failure: Failure,
    answer: Answer,
) -> Response<ResponseBody<Lease>> {
    fail(connection, record, failure, answer, &connection.worker.object())
}

/// Ends the record with a failure, and answers with it, and with what it is about.
fn fail(
    connection: &Connection,
    mut record: RequestRecord,
    failure: Failure,
    answer: Answer,
    object: &str,
) -> Response<ResponseBody<Lease>> {
    connection.worker.reports.report(failure, object, connection.application.address());
    let response = respond::failure(failure, answer, object);
    record.answered_by_proxy(response.status(), response.headers(), failure);
    response
}
