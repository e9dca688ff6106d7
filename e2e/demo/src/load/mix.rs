//! What is sent, and what must come back. It must not know how a request travels.

use bytes::Bytes;
use clap::ValueEnum;
use http::{Method, StatusCode};

use crate::echo::http::pattern;

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mix {
    /// GET /inspect of the echo server.
    Get,
    /// POST /echo of the echo server, whose answer must be the body that was sent.
    Post,
    /// What customers of the demo shop do.
    Shop,
}

/// One request that can be sent any number of times.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) body: Bytes,
    pub(crate) expect: Expect,
}

/// What counts as success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Any 2xx.
    Success,
    /// This status.
    Status(StatusCode),
    /// A 2xx with the body that was sent.
    Echo,
}

/// The requests of these mixes. Each is as frequent as it is listed.
pub(crate) fn steps(mixes: &[Mix]) -> Vec<Step> {
    mixes.iter().flat_map(|mix| of(*mix)).collect()
}

fn of(mix: Mix) -> Vec<Step> {
    let get = |path, expect| Step { method: Method::GET, path, body: Bytes::new(), expect };
    let post = |path, body: Bytes, expect| Step { method: Method::POST, path, body, expect };
    match mix {
        Mix::Get => vec![get("/inspect", Expect::Success)],
        Mix::Post => vec![post("/echo", Bytes::from_iter((0..1024).map(pattern)), Expect::Echo)],
        Mix::Shop => vec![
            get("/", Expect::Success),
            get("/", Expect::Success),
            get("/", Expect::Success),
            get("/", Expect::Success),
            get("/products/teapot", Expect::Success),
            get("/products/kettle", Expect::Success),
            get("/products/mug", Expect::Success),
            get("/products/strainer", Expect::Success),
            get("/products/lost", Expect::Status(StatusCode::NOT_FOUND)),
            post("/cart/ada", "mug".into(), Expect::Success),
            post("/cart/grace", "teapot".into(), Expect::Success),
            get("/cart/ada", Expect::Success),
            get("/cart/grace", Expect::Success),
            post("/checkout/ada", Bytes::new(), Expect::Success),
            post("/checkout/grace", Bytes::new(), Expect::Success),
        ],
    }
}
