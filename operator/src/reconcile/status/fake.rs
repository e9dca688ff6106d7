//! An API server in memory, as far as reconcilers here need one: objects by path, resource versions, merge patches.

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

/// The server. Clones are handles of the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeApi(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    failing: bool,
    patches: Vec<(String, Value)>,
}

impl FakeApi {
    pub(crate) fn client(&self) -> kube::Client {
        kube::Client::new(self.clone(), "default")
    }

    /// From now on every request fails, or none.
    pub(crate) fn fail(&self, failing: bool) {
        self.0.lock().unwrap().failing = failing;
    }

    /// Puts an object at its path.
    pub(crate) fn put(&self, path: &str, object: Value) {
        self.0.lock().unwrap().objects.insert(path.into(), object);
    }

    /// The patches that came, with their paths, since this was last asked.
    pub(crate) fn patches(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.0.lock().unwrap().patches)
    }

    /// The objects that were created, of this resource.
    pub(crate) fn created(&self, resource: &str) -> Vec<Value> {
        let state = self.0.lock().unwrap();
        let of_resource = |path: &str| path.rsplit('/').nth(1) == Some(resource);
        state.objects.iter().filter(|(path, _)| of_resource(path)).map(|(_, object)| object.clone()).collect()
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> (StatusCode, Value) {
        let mut state = self.0.lock().unwrap();
        if state.failing {
            return failure(StatusCode::INTERNAL_SERVER_ERROR);
        }
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        match *method {
            Method::GET => match state.objects.get(path) {
                Some(object) => (StatusCode::OK, object.clone()),
                None => failure(StatusCode::NOT_FOUND),
            },
            Method::POST => {
                let path = format!("{path}/{}", sent["metadata"]["name"].as_str().unwrap());
                state.store(&path, sent)
            }
            Method::PUT => match state.objects.get(path) {
                Some(there) if there["metadata"]["resourceVersion"] == sent["metadata"]["resourceVersion"] => {
                    state.store(path, sent)
                }
                Some(_) => failure(StatusCode::CONFLICT),
                None => failure(StatusCode::NOT_FOUND),
            },
            Method::PATCH => {
                state.patches.push((path.into(), sent));
                let of = path.strip_suffix("/status").unwrap_or(path);
                match state.objects.get(of) {
                    Some(object) => (StatusCode::OK, object.clone()),
                    None => failure(StatusCode::NOT_FOUND),
                }
            }
            _ => failure(StatusCode::METHOD_NOT_ALLOWED),
        }
    }
}

impl State {
    fn store(&mut self, path: &str, mut object: Value) -> (StatusCode, Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(path.into(), object.clone());
        (StatusCode::OK, object)
    }
}

fn failure(code: StatusCode) -> (StatusCode, Value) {
    let reason = code.canonical_reason().unwrap().replace(' ', "");
    (code, json!({"kind": "Status", "status": "Failure", "code": code.as_u16(), "message": reason, "reason": reason}))
}

impl tower::Service<Request<Body>> for FakeApi {
    type Response = Response<Full<Bytes>>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let (code, answer) = api.answer(&parts.method, parts.uri.path(), &body);
            Ok(Response::builder().status(code).body(Full::from(answer.to_string())).unwrap())
        })
    }
}
