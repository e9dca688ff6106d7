//! The bounds on what one HTTP connection may take, towards clients and servers the same but where it is said.

/// Most bytes of a message's head, HTTP/1 and HTTP/2. Beyond it a request gets 431. Also the most that is read ahead of
/// an HTTP/1 body.
pub(crate) const HEAD: usize = 64 * 1024;

/// Requests that one HTTP/2 connection may have open at once. More than what clients usually ask for, because one
/// connection to the proxy stands for many to a service.
pub(crate) const STREAMS: u32 = 1000;

/// Bytes of one HTTP/2 body that may be in the proxy, unread by the other side. What bounds the throughput of one stream
/// at a given round-trip time; within a cluster 256 KiB in 1 ms are 256 MB/s.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;

/// The same for all bodies of a client's HTTP/2 connection together.
pub(crate) const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The same for a connection to a server. Many clients share it, and one that does not read its response must not keep
/// the others from theirs; so it is far larger than the window of one stream, and those bound the memory.
pub(crate) const SHARED_CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// What small frames of HTTP/2 bodies that nobody has read yet may take in a connection beside their bytes, which is all
/// that windows count: 256 bytes each, in `h2`'s reckoning. Beyond it the connection ends with ENHANCE_YOUR_CALM. Enough for
/// a stream's window full of the smallest messages that gRPC has, because they are nobody's fault.
pub(crate) const SMALL_FRAMES: usize = 16 * 1024 * 1024;

/// Bytes of one HTTP/2 body that wait to be written.
pub(crate) const SEND_BUFFER: usize = 64 * 1024;

/// Bytes of a request's body that are kept so that it can be sent again.
pub(crate) const REPLAY: usize = 64 * 1024;
