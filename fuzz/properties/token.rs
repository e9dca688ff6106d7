//! What the API server answers about the token that a proxy shows, in the status of a TokenReview.

use conduit_model::settings::TOKEN_AUDIENCE;
use conduit_operator::credential::{CheckToken, TokenReviews};
use http::{Request, Response};
use kube::client::{Body, Client};
use serde_json::Value;
use std::{cell::RefCell, convert::Infallible};
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static STATUS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static API_SERVER: (Runtime, TokenReviews) = api_server();
    static TOKEN: RefCell<u64> = const { RefCell::new(0) };
}

/// An API server that answers with whatever is in `STATUS`.
fn api_server() -> (Runtime, TokenReviews) {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let inside = runtime.enter();
    let answers = tower::service_fn(|_: Request<Body>| async {
        let status = STATUS.with_borrow(Clone::clone);
        let head = b"{\"apiVersion\":\"authentication.k8s.io/v1\",\"kind\":\"TokenReview\",\"metadata\":{},\"spec\":{},\"status\":";
        let body = [&head[..], &status, b"}"].concat();
        Ok::<_, Infallible>(Response::builder().status(201).body(Body::from(body)).expect("a response"))
    });
    let reviews = TokenReviews::new(Client::new(answers, "default"));
    drop(inside);
    (runtime, reviews)
}

/// A token proves a workload only if the answer says so in every point, and then the one that it names.
pub fn holds(bytes: &[u8]) {
    STATUS.set(bytes.to_vec());
    // Answers are remembered by token.
    let token = TOKEN.with_borrow_mut(|token| {
        *token += 1;
        token.to_string()
    });
    let checked = API_SERVER.with(|(runtime, reviews)| runtime.block_on(reviews.check(&token)));
    let Ok(workload) = checked else { return };
    let status: Value = serde_json::from_slice(bytes).expect("what proves something is JSON");
    assert_eq!(status["authenticated"], true);
    let audiences = status["audiences"].as_array().expect("audiences");
    assert!(audiences.iter().any(|audience| audience == TOKEN_AUDIENCE));
    let username = format!("system:serviceaccount:{}:{}", workload.namespace(), workload.service_account());
    assert_eq!(status["user"]["username"], username);
    let extra = |key: &str| status["user"]["extra"][format!("authentication.kubernetes.io/{key}")][0].clone();
    assert_eq!(extra("pod-name"), workload.pod());
    assert_eq!(workload.pod_uid().map(Value::from), Some(extra("pod-uid")));
}
