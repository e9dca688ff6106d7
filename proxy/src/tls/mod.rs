//! TLS 1.3 between proxies: the handshake, driven by rustls, and after it the records, which this room moves itself.
//!
//! rustls' own connections read 4 KiB at a time, hold that buffer while nothing is read, and copy what they open twice. So
//! rustls is asked for what is hard, and keeps it: the handshake, the keys, each record's protection (RFC 8446 section
//! 5.2), the next keys and the tickets. What is done here is the moving of bytes: large reads into a pooled buffer, records
//! opened where they lie, many sealed records in one write, and no buffer at all while a connection waits.
//!
//! This room does not know who a peer is, nor what is above or below the bytes.

pub(crate) mod buffer;
#[cfg(test)]
pub(crate) mod fake;
pub(crate) mod handshake;
mod messages;
mod received;
mod record;
mod sealed;
pub mod sequence;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use received::MOST_SLICES;
pub use stream::TlsStream;
