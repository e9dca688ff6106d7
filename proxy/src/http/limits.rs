//! The bounds on what one HTTP connection may take, towards clients and servers the same but where it is said.

use std::time::Duration;

/// Most bytes of a message's head, HTTP/1 and HTTP/2. Beyond it a request gets 431. Also the most that is read ahead of
/// an HTTP/1 body, and of the requests that come before the answer to the one before them.
pub(crate) const HEAD: usize = 64 * 1024;

/// Most headers of an HTTP/1 message. Beyond it a request gets 431.
pub(crate) const HEADERS: usize = 128;

/// How long the head of an HTTP/1 request may take from its first byte to its last. Beyond it the client gets 408. A
/// connection on which nothing has come may stay idle for as long as it likes.
pub(crate) const HEAD_TIME: Duration = Duration::from_secs(10);

/// Most bytes of the extensions of one body's chunks, all together, which nobody reads.
pub(crate) const CHUNK_EXTENSIONS: usize = 4096;

/// Most trailers of an HTTP/1 body, and the most bytes that they take.
pub(crate) const TRAILERS: usize = 64;
pub(crate) const TRAILERS_SIZE: usize = 16 * 1024;

/// Most informational responses (1xx) to one HTTP/1 request.
pub(crate) const INFORMATIONAL: usize = 16;

/// How long what is left of an HTTP/1 request whose answer has ended is sent on to a server that takes none of it, or from a
/// client that sends none. Then both connections are closed.
pub(crate) const STALLED: Duration = Duration::from_secs(10);

/// Bytes of an HTTP/1 request's body that are read and thrown away, where an answer came before it and nobody wants the rest,
/// so that its connection can be used again.
pub(crate) const DISCARDED: usize = 256 * 1024;

/// How long that may take; also how long a client may pause on a connection that is being closed, which is read so that no
/// reset destroys the answer on its way.
pub(crate) const DISCARDING: Duration = Duration::from_secs(2);

/// How long a connection that is being closed is read at most.
pub(crate) const CLOSING: Duration = Duration::from_secs(30);

/// Requests that one HTTP/2 connection may have open at once. More than what clients usually ask for, because one
/// connection to the proxy stands for many to a service.
pub(crate) const STREAMS: u32 = 1000;

/// Streams of one HTTP/2 connection that a client may have reset before the proxy came to look at them. Beyond it the
/// connection is closed (ENHANCE_YOUR_CALM). Many, because a proxy resets at once what its clients gave up at once.
pub(crate) const RESET_UNSEEN: usize = 200;

/// Requests of one HTTP/2 connection that a client may give up before their answer begins, if these are most of its
/// requests. Beyond it the connection is closed (ENHANCE_YOUR_CALM): each of them is work for the application as well.
pub(crate) const GIVEN_UP: usize = 500;

/// Bytes of one HTTP/2 body that may be in the proxy, unread by the other side, while not too many bodies wait for theirs.
/// What bounds the throughput of one stream at a given round-trip time; within a cluster 256 KiB in 1 ms are 256 MB/s.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;

/// The same for all bodies of a client's HTTP/2 connection together.
pub(crate) const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The same for a connection to a server, and for one of a peer. Many clients share it, and one that does not read its
/// response, or whose request the application does not read, must not keep the others from theirs; so it is far larger than
/// the window of one stream. Those bound the memory, and shrink where many bodies wait (`http2/windows.rs`).
pub(crate) const SHARED_CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// What small frames of HTTP/2 bodies that nobody has read yet may take in a connection beside their bytes, which is all
/// that windows count: 256 bytes each, in `h2`'s reckoning. Beyond it the connection ends with ENHANCE_YOUR_CALM. Enough for
/// a stream's window full of the smallest messages that gRPC has, because they are nobody's fault.
pub(crate) const SMALL_FRAMES: usize = 16 * 1024 * 1024;

/// Bytes of one HTTP/2 body that wait to be written.
pub(crate) const SEND_BUFFER: usize = 64 * 1024;

/// Bytes of a request's body that are kept so that it can be sent again.
pub(crate) const REPLAY: usize = 64 * 1024;
