//! The record of one request: counted at its start, and at its end with how it ended.
//!
//! A request is counted twice: once for its route, whatever it took to answer it, and once for each endpoint that it
//! was tried at. The end of a response is the end of its body and trailers; a response class, the gRPC status, or the
//! HTTP status says how it counts ([`conduit_model::classify`]).
//!
//! A client that goes away does not make a server fail: what it had seen of the response until then is judged, a gRPC
//! stream as CANCELLED, which is the answer that its client chose. A client that goes away before any answer counts as a
//! failure, because it waited longer than it was willing to. Both carry `error="canceled"`.

use super::{
    access::{Ended, RequestLine},
    labels::Labels,
    metrics::HttpFamilies,
    series::{Counter, Histogram},
};
use crate::outcome::Failure;
use conduit_model::{Classification, GrpcOutcome, ResponseClass, Route, classify};
use http::{HeaderMap, HeaderName, StatusCode};
use std::{cell::RefCell, fmt, net::SocketAddr, rc::Rc, sync::Arc};
use tokio::time::Instant;

/// By its bytes it would be parsed each time.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// gRPC's CANCELLED.
const CANCELED: u32 = 1;

/// The largest gRPC code there is, UNAUTHENTICATED.
const LARGEST_GRPC_CODE: u32 = 16;

/// Stands for every status that HTTP does not have.
const OTHER_STATUS: u16 = 600;

/// Most ends that are at hand for requests that are alike. Far more than a service has; what answers with every status
/// there is finds its series by their labels again, and holds on to none that it does not come back to.
const MOST_ENDS: usize = 32;

/// The series of requests that are alike, with the ends that they have had lately.
pub(crate) struct HttpSeries {
    families: Arc<HttpFamilies>,
    labels: Labels,
    requests: Arc<Counter>,
    ends: RefCell<Vec<EndSeries>>,
}

/// How a request ended, in what series tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    classification: Classification,
    /// None where no response came; [`OTHER_STATUS`] at most.
    status: Option<u16>,
    /// None where the response was not gRPC, or had no status.
    grpc: Option<u32>,
    error: Option<Failure>,
}

/// The series of requests that ended alike.
struct EndSeries {
    end: End,
    responses: Arc<Counter>,
    latency: Arc<Histogram>,
}

/// A route as requests take it: its series, and the classes by which its responses are judged.
#[derive(Debug)]
pub(crate) struct RouteSeries {
    pub(crate) series: HttpSeries,
    pub(crate) classes: Vec<ResponseClass>,
}

/// One request.
#[derive(Debug)]
pub(crate) struct RequestRecord {
    route: Rc<RouteSeries>,
    /// The endpoint that it is tried at now.
    attempt: Option<Rc<HttpSeries>>,
    start: Instant,
    attempt_start: Instant,
    status: Option<StatusCode>,
    grpc: GrpcOutcome,
    ended: bool,
    /// Where somebody wants to know of it.
    line: Option<Box<RequestLine>>,
}

impl HttpSeries {
    pub(crate) fn new(families: &Arc<HttpFamilies>, labels: Labels) -> Self {
        let requests = families.requests.series(&labels);
        Self { families: families.clone(), labels, requests, ends: RefCell::default() }
    }

    fn ended(&self, end: End, start: Instant, now: Instant) {
        let mut ends = self.ends.borrow_mut();
        let index = ends.iter().position(|known| known.end == end).unwrap_or_else(|| {
            if ends.len() == MOST_ENDS {
                ends.remove(0);
            }
            ends.push(self.resolve(end));
            ends.len() - 1
        });
        let series = &ends[index];
        series.responses.increment();
        series.latency.observe(now.saturating_duration_since(start));
    }

    fn resolve(&self, end: End) -> EndSeries {
        let mut labels = self.labels.and("classification", class(end.classification));
        let mut of_latency = self.labels.clone();
        if let Some(status) = end.status {
            let status = if status < OTHER_STATUS { status.to_string() } else { "other".to_owned() };
            labels = labels.and("status_code", status.clone());
            of_latency = of_latency.and("status_code", status);
        }
        if let Some(code) = end.grpc {
            let code = if code <= LARGEST_GRPC_CODE { code.to_string() } else { "other".to_owned() };
            labels = labels.and("grpc_status", code);
        }
        if let Some(failure) = end.error {
            labels = labels.and("error", failure.row().code);
        }
        let (responses, latency) = (&self.families.responses, &self.families.latency);
        EndSeries { end, responses: responses.series(&labels), latency: latency.series(&of_latency) }
    }
}

impl RouteSeries {
    /// The series of each of `routes` in their order, and last of what matches none of them.
    pub(crate) fn all(
        families: &Arc<HttpFamilies>,
        routes: &[Route],
        labels: impl Fn(Option<&str>) -> Labels,
    ) -> Vec<Rc<Self>> {
        let of = |name, classes| Rc::new(Self { series: HttpSeries::new(families, labels(name)), classes });
        let named = routes.iter().map(|route| of(Some(&route.name), route.response_classes.clone()));
        named.chain([of(None, Vec::new())]).collect()
    }
}

impl RequestRecord {
    /// Starts the record of a request that takes `route`, and is written as `line`.
    pub(crate) fn start(route: &Rc<RouteSeries>, line: Option<Box<RequestLine>>) -> Self {
        route.series.requests.increment();
        let start = Instant::now();
        Self {
            line,
            route: route.clone(),
            attempt: None,
            start,
            attempt_start: start,
            status: None,
            grpc: GrpcOutcome::NotGrpc,
            ended: false,
        }
    }

    /// When the request came.
    pub(crate) fn started(&self) -> Instant {
        self.start
    }

    /// The request is tried at an endpoint of these series.
    pub(crate) fn attempt(&mut self, series: &Rc<HttpSeries>, endpoint: SocketAddr) {
        series.requests.increment();
        if let Some(line) = &mut self.line {
            line.tried(endpoint);
        }
        self.attempt = Some(series.clone());
    }

    /// The attempt failed, and another may follow.
    pub(crate) fn attempt_failed(&mut self, failure: Failure) {
        if let Some(attempt) = self.attempt.take() {
            let now = Instant::now();
            let end = End { classification: Classification::Failure, status: None, grpc: None, error: Some(failure) };
            attempt.ended(end, self.attempt_start, now);
            self.attempt_start = now;
        }
    }

    /// The head of the response is here.
    pub(crate) fn responded(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = Some(status);
        self.grpc = match (is_grpc(headers), grpc_status(headers)) {
            (_, Some(code)) => GrpcOutcome::Status(code),
            (true, None) => GrpcOutcome::Missing,
            (false, None) => GrpcOutcome::NotGrpc,
        };
    }

    /// Bytes of the response's body have passed.
    pub(crate) fn passed(&mut self, bytes: usize) {
        if let Some(line) = &mut self.line {
            line.passed(bytes);
        }
    }

    /// The trailers of the response are here.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(code) = grpc_status(trailers) {
            self.grpc = GrpcOutcome::Status(code);
        }
    }

    /// The response came to its end.
    pub(crate) fn finish(&mut self) {
        self.end(None);
    }

    /// The proxy answered itself: for its route the request has this answer, no endpoint has one.
    pub(crate) fn answered_by_proxy(&mut self, status: StatusCode, headers: &HeaderMap, failure: Failure) {
        self.attempt_failed(failure);
        self.responded(status, headers);
        self.end(Some(failure));
    }

    /// The response broke off.
    pub(crate) fn fail(&mut self, failure: Failure) {
        self.end(Some(failure));
    }

    fn end(&mut self, error: Option<Failure>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let judge = |status, grpc| classify(&self.route.classes, status, grpc);
        let (classification, grpc) = match (self.status, error, self.grpc) {
            (Some(status), None, grpc) => (judge(status, grpc), grpc),
            (Some(status), Some(Failure::Canceled), GrpcOutcome::Missing) => {
                let canceled = GrpcOutcome::Status(CANCELED);
                (judge(status, canceled), canceled)
            }
            (Some(status), Some(Failure::Canceled), grpc) => (judge(status, grpc), grpc),
            (None, _, grpc) | (_, Some(_), grpc) => (Classification::Failure, grpc),
        };
        let grpc = match grpc {
            GrpcOutcome::Status(code) => Some(code),
            GrpcOutcome::NotGrpc | GrpcOutcome::Missing => None,
        };
        let end = End {
            classification,
            // What is no status comes from traffic, and must not make series without bound.
            status: self.status.map(|status| status.as_u16().min(OTHER_STATUS)),
            grpc: grpc.map(|code| code.min(LARGEST_GRPC_CODE + 1)),
            error,
        };
        let now = Instant::now();
        if let Some(line) = &self.line {
            let ended = Ended {
                status: self.status.map(|status| status.as_u16()),
                grpc,
                classification: class(classification),
                error,
                latency: now.saturating_duration_since(self.start),
            };
            let route = &self.route.series.labels;
            match &self.attempt {
                Some(attempt) => line.ended(ended, &[route, &attempt.labels]),
                None => line.ended(ended, &[route]),
            }
        }
        self.route.series.ended(end, self.start, now);
        if let Some(attempt) = &self.attempt {
            attempt.ended(end, self.attempt_start, now);
        }
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        self.end(Some(Failure::Canceled));
    }
}

impl fmt::Debug for HttpSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSeries").field("labels", &self.labels).finish_non_exhaustive()
    }
}

/// Value of the label `classification`.
fn class(classification: Classification) -> &'static str {
    match classification {
        Classification::Success => "success",
        Classification::Failure => "failure",
    }
}

/// Whether the message says that it is gRPC. gRPC-Web (`application/grpc-web`) is not: it has its status in the body.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers.get(http::header::CONTENT_TYPE).map(|value| value.as_bytes());
    let subtype = value.and_then(|value| value.strip_prefix(b"application/grpc"));
    matches!(subtype, Some([] | [b'+' | b';', ..]))
}

/// The gRPC status in a header or trailer block. One that is no number counts as none.
pub(crate) fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    // Looked for among the few that there are, which costs less than a hash.
    let (_, status) = headers.iter().find(|(name, _)| *name == GRPC_STATUS)?;
    status.to_str().ok()?.parse().ok()
}

/// Index of the route that a request takes in what [`RouteSeries::all`] made of the same routes.
pub(crate) fn route_index(routes: &[Route], method: &http::Method, path: &str) -> usize {
    routes.iter().position(|route| route.condition.matches(method, path)).unwrap_or(routes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Metrics, labels::Direction};

    const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 80);

    fn fixture() -> (Arc<Metrics>, Rc<RouteSeries>, Rc<HttpSeries>) {
        let metrics = Metrics::new();
        let route = RouteSeries::all(&metrics.route, &[], |name| Labels::route(Direction::Outbound, None, name));
        let endpoint = HttpSeries::new(&metrics.http, Labels::direction(Direction::Outbound));
        (metrics, route[0].clone(), Rc::new(endpoint))
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    /// What `response_total` says, as `labels value`, without the labels that every series here has.
    fn responses(families: &HttpFamilies) -> Vec<String> {
        let scraped = families.responses.scrape(std::time::Instant::now());
        let own = |name: &str| !["direction", "rt_route"].contains(&name);
        let text = |labels: &Labels| {
            let labels = labels.in_order().into_iter().filter(|(name, _)| own(name));
            labels.map(|(name, value)| format!("{name}={value} ")).collect::<String>()
        };
        scraped.iter().map(|(labels, counter)| format!("{}{}", text(labels), counter.value())).collect()
    }

    #[test]
    fn a_request_that_took_two_attempts_is_one_for_its_route_and_two_for_endpoints() {
        let (metrics, route, endpoint) = fixture();
        let mut record = RequestRecord::start(&route, None);
        record.attempt(&endpoint, ADDRESS);
        record.attempt_failed(Failure::ConnectRefused);
        record.attempt(&endpoint, ADDRESS);
        record.responded(StatusCode::OK, &headers(&[]));
        record.finish();
        drop(record);
        assert_eq!((route.series.requests.value(), endpoint.requests.value()), (1, 2));
        assert_eq!(responses(&metrics.route), ["classification=success status_code=200 1"]);
        let attempts = ["classification=failure error=connect-refused 1", "classification=success status_code=200 1"];
        assert_eq!(responses(&metrics.http), attempts);
    }

    #[test]
    fn a_response_counts_by_its_grpc_status_wherever_it_stands() {
        let grpc = ("content-type", "application/grpc");
        for (head, trailers, expected) in [
            (vec![grpc], vec![("grpc-status", "0")], "classification=success status_code=200 grpc_status=0 1"),
            (vec![grpc], vec![("grpc-status", "14")], "classification=failure status_code=200 grpc_status=14 1"),
            (vec![grpc, ("grpc-status", "5")], vec![], "classification=success status_code=200 grpc_status=5 1"),
            (vec![grpc], vec![], "classification=failure status_code=200 1"),
            (vec![grpc], vec![("grpc-status", "99")], "classification=success status_code=200 grpc_status=other 1"),
        ] {
            let (metrics, route, _) = fixture();
            let mut record = RequestRecord::start(&route, None);
            record.responded(StatusCode::OK, &headers(&head));
            record.trailers(&headers(&trailers));
            record.finish();
            assert_eq!(responses(&metrics.route), [expected]);
        }
    }

    #[test]
    fn grpc_is_told_from_grpc_web_which_has_no_status_that_is_missed() {
        for (content_type, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web-text+proto", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&headers(&[("content-type", content_type)])), expected, "{content_type}");
        }
        let (metrics, route, _) = fixture();
        let mut record = RequestRecord::start(&route, None);
        record.responded(StatusCode::OK, &headers(&[("content-type", "application/grpc-web+proto")]));
        record.finish();
        assert_eq!(responses(&metrics.route), ["classification=success status_code=200 1"]);
    }

    #[test]
    fn a_client_that_goes_away_is_a_failure_only_if_it_had_no_answer() {
        let (metrics, route, _) = fixture();
        drop(RequestRecord::start(&route, None));
        let mut grpc = RequestRecord::start(&route, None);
        grpc.responded(StatusCode::OK, &headers(&[("content-type", "application/grpc+proto")]));
        drop(grpc);
        let mut http = RequestRecord::start(&route, None);
        http.responded(StatusCode::OK, &headers(&[]));
        drop(http);
        let expected = [
            "classification=failure error=canceled 1",
            "classification=success status_code=200 error=canceled 1",
            "classification=success status_code=200 grpc_status=1 error=canceled 1",
        ];
        assert_eq!(responses(&metrics.route), expected);
    }

    #[test]
    fn a_status_that_http_does_not_have_makes_no_series_of_its_own() {
        let (metrics, route, _) = fixture();
        for status in [200, 777, 778] {
            let mut record = RequestRecord::start(&route, None);
            record.responded(StatusCode::from_u16(status).unwrap(), &headers(&[]));
            record.finish();
        }
        let expected = ["classification=success status_code=200 1", "classification=success status_code=other 2"];
        assert_eq!(responses(&metrics.route), expected);
        assert_eq!(route.series.ends.borrow().len(), 2);
    }

    #[test]
    fn a_server_that_answers_with_every_status_is_counted_and_not_remembered() {
        let (metrics, route, _) = fixture();
        for _ in 0..2 {
            for status in 100..1000 {
                let mut record = RequestRecord::start(&route, None);
                record.responded(StatusCode::from_u16(status).unwrap(), &headers(&[]));
                record.finish();
            }
        }
        let shown = responses(&metrics.route);
        assert_eq!(shown.len(), 501);
        assert!(shown.contains(&"classification=success status_code=404 2".to_owned()), "{shown:?}");
        assert_eq!(route.series.ends.borrow().len(), MOST_ENDS);
    }
}
