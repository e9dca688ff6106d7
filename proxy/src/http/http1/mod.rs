//! HTTP/1.0 and HTTP/1.1, both sides: a codec of our own, because a proxy has to know what libraries hide. RFC 9110 and 9112.
//!
//! | file | what it does |
//! | --- | --- |
//! | `head`, `framing`, `chunked` | pure: what bytes mean, or why they are refused |
//! | `write` | pure: what messages are in bytes |
//! | `transport` | a connection with what was read ahead and what waits to be written |
//! | `sequence` | pure: all requests in given bytes, for the fuzzer |
//! | `body` | a body as it is received, for whoever forwards it |
//! | `server`, `client` | one connection of a client, one to a server |
//!
//! There is no task beside the one that serves the client's connection, and no channel: whoever polls a response's body
//! reads the server's connection, and sends what is left of the request's, which reads the client's. State is shared
//! through `Rc<RefCell<…>>`, borrowed while one poll lasts. Two connections may borrow each other's state, and do so in one
//! order only: a connection to a server may poll a request's body, hence a client's connection, while its own state is
//! borrowed; never the other way round.
//!
//! A connection on which nothing happens holds no buffer: those come from the worker's pool when there is something to be
//! read or written, and go back when that is used up.

mod body;
mod chunked;
mod client;
pub mod framing;
pub mod head;
pub mod sequence;
mod server;
mod transport;
mod write;

pub(crate) use self::{
    body::{Body, Broken},
    client::{Client, SendError},
    server::{Informer, serve},
};
