//! An API server in memory: objects with resource versions, lists and watches with selectors, and the patches that the
//! reconcilers send.

use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame};
use kube::{Client, client::Body};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};
use tokio::sync::broadcast;
use tokio_stream::{StreamExt, wrappers::BroadcastStream};

type Event = (Key, &'static str, Value);
type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Resource, namespace (empty where there is none) and name.
type Key = (String, String, String);

/// Runs once, before the next write is looked at.
type Hook = Box<dyn FnOnce(&ApiServer) + Send>;

#[derive(Clone)]
pub(super) struct ApiServer(Arc<Inner>);

struct Inner {
    objects: Mutex<BTreeMap<Key, Value>>,
    /// Every event so far; the one at place n has resource version n + 1.
    history: Mutex<Vec<Event>>,
    events: broadcast::Sender<Event>,
    before_write: Mutex<Option<Hook>>,
    writes: Mutex<Vec<String>>,
}

impl ApiServer {
    pub(super) fn new() -> Self {
        Self(Arc::new(Inner {
            objects: Mutex::default(),
            history: Mutex::default(),
            events: broadcast::Sender::new(1024),
            before_write: Mutex::default(),
            writes: Mutex::default(),
        }))
    }

    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "conduit")
    }

    /// Puts an object there, as another client would.
    pub(super) fn put(&self, resource: &str, object: Value) {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let key = (resource.to_owned(), namespace, name);
        let known = self.0.objects.lock().unwrap().contains_key(&key);
        self.happen(key, if known { "MODIFIED" } else { "ADDED" }, object);
    }

    pub(super) fn delete(&self, resource: &str, namespace: &str, name: &str) {
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        let object = self.0.objects.lock().unwrap()[&key].clone();
        self.happen(key, "DELETED", object);
    }

    fn happen(&self, key: Key, kind: &'static str, mut object: Value) {
        let mut history = self.0.history.lock().unwrap();
        object["metadata"]["resourceVersion"] = json!((history.len() + 1).to_string());
        let mut objects = self.0.objects.lock().unwrap();
        match kind {
            "DELETED" => objects.remove(&key),
            _ => objects.insert(key.clone(), object.clone()),
        };
        let event = (key, kind, object);
        history.push(event.clone());
        let _ = self.0.events.send(event);
    }

    pub(super) fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        self.0.objects.lock().unwrap().get(&key).cloned()
    }

    /// Every object of a resource.
    pub(super) fn list_of(&self, resource: &str) -> Vec<Value> {
        let objects = self.0.objects.lock().unwrap();
        objects.iter().filter(|(key, _)| key.0 == resource).map(|(_, object)| object.clone()).collect()
    }

    /// Lets something happen between what the next writer has read and what it writes.
    pub(super) fn before_next_write(&self, hook: impl FnOnce(&Self) + Send + 'static) {
        *self.0.before_write.lock().unwrap() = Some(Box::new(hook));
    }

    /// Every write so far, as `METHOD path`.
    pub(super) fn writes(&self) -> Vec<String> {
        self.0.writes.lock().unwrap().clone()
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let (resource, namespace, name) = place(parts.uri.path());
        let query: BTreeMap<_, _> =
            parts.uri.query().unwrap_or_default().split('&').filter_map(|p| p.split_once('=')).collect();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        if parts.method == Method::GET {
            return match name {
                Some(name) => found(self.get(&resource, &namespace, &name)),
                None if query.contains_key("watch") => self.watch(resource, namespace, &query),
                None => self.list(&resource, &namespace, &query),
            };
        }
        let hook = self.0.before_write.lock().unwrap().take();
        if let Some(hook) = hook {
            hook(self);
        }
        self.0.writes.lock().unwrap().push(format!("{} {}", parts.method, parts.uri.path()));
        let name = name.unwrap_or_else(|| body["metadata"]["name"].as_str().unwrap().to_owned());
        let held = self.get(&resource, &namespace, &name);
        let strategic =
            parts.headers.get("content-type").is_some_and(|kind| kind == "application/strategic-merge-patch+json");
        let written = match (&parts.method, held) {
            (&Method::POST, Some(_)) => return failure(409),
            (&Method::POST, None) => body,
            (&Method::PUT | &Method::PATCH, None) if parts.method == Method::PUT || strategic => return failure(404),
            (&Method::PUT, Some(held))
                if held["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] =>
            {
                return failure(409);
            }
            (&Method::PUT, _) => body,
            (_, held) => {
                let mut object = held.unwrap_or_else(|| json!({}));
                merge(&mut object, body);
                object
            }
        };
        let mut written = written;
        written["metadata"]["name"] = json!(name);
        if !namespace.is_empty() {
            written["metadata"]["namespace"] = json!(namespace);
        }
        self.put(&resource, written);
        found(self.get(&resource, &namespace, &name))
    }

    fn list(&self, resource: &str, namespace: &str, query: &BTreeMap<&str, &str>) -> Answer {
        let objects = self.0.objects.lock().unwrap().clone();
        let items = objects.iter().filter(|(key, object)| selected(key, object, resource, namespace, query));
        let items: Vec<_> = items.map(|(_, object)| object.clone()).collect();
        let version = self.0.history.lock().unwrap().len().to_string();
        json_response(200, &json!({"metadata": {"resourceVersion": version}, "items": items}))
    }

    /// Events after the resource version that the watcher has listed.
    fn watch(&self, resource: String, namespace: String, query: &BTreeMap<&str, &str>) -> Answer {
        let query: BTreeMap<String, String> = query.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let (missed, events) = {
            let history = self.0.history.lock().unwrap();
            let listed: usize = query["resourceVersion"].parse().unwrap();
            (history[listed..].to_vec(), self.0.events.subscribe())
        };
        let events = BroadcastStream::new(events).map(Result::unwrap);
        let events = tokio_stream::iter(missed).chain(events).filter_map(move |(key, kind, object)| {
            let query = query.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            let line = format!("{}\n", json!({"type": kind, "object": object}));
            selected(&key, &object, &resource, &namespace, &query)
                .then(|| Ok::<_, Infallible>(Frame::data(Bytes::from(line))))
        });
        Response::new(StreamBody::new(events).boxed_unsync())
    }
}

/// Where a path points: resource, namespace, name.
fn place(path: &str) -> (String, String, Option<String>) {
    let segments: Vec<_> = path.split('/').skip(1).collect();
    let rest = if segments[0] == "api" { &segments[2..] } else { &segments[3..] };
    match rest {
        ["namespaces", namespace, resource, name @ ..] => {
            ((*resource).to_owned(), (*namespace).to_owned(), name.first().map(ToString::to_string))
        }
        [resource, name @ ..] => ((*resource).to_owned(), String::new(), name.first().map(ToString::to_string)),
        [] => panic!("{path} points nowhere"),
    }
}

fn selected(key: &Key, object: &Value, resource: &str, namespace: &str, query: &BTreeMap<&str, &str>) -> bool {
    let decoded = |name| query.get(name).map(|selector: &&str| selector.replace("%3D", "=").replace("%2F", "/"));
    let field = decoded("fieldSelector").is_none_or(|selector| selector == format!("metadata.name={}", key.2));
    let label = decoded("labelSelector").is_none_or(|selector| {
        let (label, value) = selector.split_once('=').unwrap();
        object["metadata"]["labels"][label] == value
    });
    key.0 == resource && (namespace.is_empty() || key.1 == namespace) && field && label
}

/// Merges as a strategic merge patch does: objects by member, lists of named things by name.
fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (member, value) in patch {
                merge(into.entry(member).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(patch)) => {
            for value in patch {
                match into.iter_mut().find(|known| known["name"] == value["name"]) {
                    Some(known) => merge(known, value),
                    None => into.push(value),
                }
            }
        }
        (into @ Value::Null, Value::Object(patch)) => {
            *into = Value::Object(Map::new());
            merge(into, Value::Object(patch));
        }
        (into, patch) => *into = patch,
    }
}

fn found(object: Option<Value>) -> Answer {
    match object {
        Some(object) => json_response(200, &object),
        None => failure(404),
    }
}

fn failure(code: u16) -> Answer {
    let reason = if code == 404 { "NotFound" } else { "Conflict" };
    let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason});
    json_response(code, &status)
}

fn json_response(code: u16, body: &Value) -> Answer {
    Response::builder().status(code).body(Full::from(body.to_string()).boxed_unsync()).unwrap()
}
