//! The demo shop: a web front, a gRPC catalog, an HTTP/2 recommender, and carts in Redis.
//!
//! Each is an ordinary application that knows the others by their Services' names. None of them may know of a mesh.

mod cart;
pub(crate) mod catalog;
pub(crate) mod front;
mod goods;
pub(crate) mod recommend;
mod redis;

/// The messages and the service of `proto/catalog.proto`.
pub(crate) mod proto {
    #![allow(missing_docs, unreachable_pub, clippy::all)]
    tonic::include_proto!("conduit.demo.catalog.v1");
}

#[cfg(test)]
mod tests;
