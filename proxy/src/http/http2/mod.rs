//! HTTP/2 connections, straight on the `h2` crate: of clients ([`serve`]), and to servers ([`open`]).
//!
//! One task drives a connection, and everything that goes on in it. What a client's connection carries are futures within
//! that task, so that all who were answered in one turn of the worker are written together: `h2` would write after every
//! frame with data, and each of these writes would be a TLS record and a system call ([`wire`]). A request to a server is
//! a part of whoever waits for its answer; only a body that is still on its way when the answer begins goes on in a task of
//! its own, because the answer may wait for it, or it for the answer.
//!
//! Nothing is buffered beyond the windows in [`super::limits`]: a piece of a body gives its room in the window back when
//! whoever takes the body asks for the next one, and that is when the other connection had room for it ([`pump`]). Where many
//! bodies wait, windows shrink ([`windows`]).
//!
//! A stream that one side resets is reset at the other, with the same reason where there is one ([`reset`]). Versions are
//! kept end to end, and so a tunnel (CONNECT, RFC 9113 section 8.5 and RFC 8441) is a request like any other, whose bodies go
//! both ways at once: it has flow control and resets as they have.

mod body;
mod client;
mod inform;
mod pump;
mod reset;
mod server;
mod watch;
mod windows;
mod wire;

pub(crate) use body::Streamed;
pub(crate) use client::{Requests, Server, Unanswered, open};
pub(crate) use inform::Informer;
pub(crate) use server::{Client, serve};
