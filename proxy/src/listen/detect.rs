//! What the first bytes of a connection say about its protocol.
//!
//! The bytes are looked at in the kernel's buffer and stay there, so that whatever serves the connection reads it from
//! its first byte and no stream has to be wrapped.

use super::client_hello::{self, Hello};
use conduit_model::Protocol;
use std::{
    cell::Cell,
    future::poll_fn,
    io,
    os::fd::AsFd,
    pin::pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{Interest, ReadBuf},
    net::TcpStream,
    time::timeout,
};

/// Most bytes that are looked at. A request line that is longer is judged by its beginning.
const WINDOW: usize = 2048;

/// The start of an HTTP/2 connection with prior knowledge (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much longer the rest of a ClientHello is waited for: one of a peer of the mesh must be known as such, even where a
/// segment was lost.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest method that is looked for; the longest registered one, `UPDATEREDIRECTREF`, has 17 letters.
const LONGEST_METHOD: usize = 32;

/// What a client showed of its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detected {
    /// The first bytes tell it.
    Protocol(Protocol),
    /// A peer of the mesh wants to prove who it is, and to tell the protocol by that.
    Mesh,
    /// Bytes came, too few to tell.
    Unfinished,
    /// A ClientHello came, and not its end.
    UnfinishedHello,
    /// Nothing came.
    Silence,
}

/// What bytes say of how a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    Done(Detected),
    Unfinished(Seen),
}

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    Word,
    Hello,
}

/// Looks at the first bytes of `stream` for as long as `within`; once they start a ClientHello, [`HELLO_TIMEOUT`] longer.
///
/// # Errors
/// The stream's.
pub(crate) async fn detect(stream: &TcpStream, within: Duration) -> io::Result<Detected> {
    let seen = Cell::new(Seen::Nothing);
    let mut judged = pin!(judge_as_bytes_come(stream, &seen));
    if let Ok(judged) = timeout(within, &mut judged).await {
        return judged;
    }
    match seen.get() {
        Seen::Nothing => Ok(Detected::Silence),
        Seen::Word => Ok(Detected::Unfinished),
        Seen::Hello => timeout(HELLO_TIMEOUT, judged).await.unwrap_or(Ok(Detected::UnfinishedHello)),
    }
}

/// Which version of HTTP `stream` speaks, of a destination that declares to speak HTTP. Clients do not always ask by the
/// version that a port declares, and both say theirs first; what is no HTTP at all is left to be refused as such.
///
/// # Errors
/// The stream's.
pub(crate) async fn http_version(stream: &TcpStream, declared: Protocol) -> io::Result<Protocol> {
    Ok(match judge_as_bytes_come(stream, &Cell::new(Seen::Nothing)).await? {
        Detected::Protocol(http @ (Protocol::Http1 | Protocol::Http2)) => http,
        Detected::Protocol(_) | Detected::Mesh | Detected::Silence => declared,
        Detected::Unfinished | Detected::UnfinishedHello => declared,
    })
}

async fn judge_as_bytes_come(stream: &TcpStream, seen: &Cell<Seen>) -> io::Result<Detected> {
    stream.readable().await?;
    match judge_now(stream).await? {
        Judged::Done(detected) => Ok(detected),
        Judged::Unfinished(so_far) => {
            seen.set(so_far);
            judge_as_more_come(stream, seen).await
        }
    }
}

/// Few clients come here: the first segment says enough.
///
/// The bytes stay unread, so that the stream is readable for ever, and has to stay so for whoever serves it. That more have
/// come is seen by a second descriptor of the same socket, whose readiness can be forgotten.
async fn judge_as_more_come(stream: &TcpStream, seen: &Cell<Seen>) -> io::Result<Detected> {
    let twin = TcpStream::from_std(stream.as_fd().try_clone_to_owned()?.into())?;
    loop {
        let ready = twin.ready(Interest::READABLE).await?;
        match judge_now(&twin).await? {
            Judged::Done(detected) => return Ok(detected),
            // The client has closed its side: what it said stays too little. A closed side also stays readable for ever,
            // whatever is forgotten below.
            Judged::Unfinished(_) if ready.is_read_closed() => return Ok(Detected::Protocol(Protocol::Opaque)),
            Judged::Unfinished(so_far) => seen.set(so_far),
        }
        // Nothing is lost, because no event is taken from the kernel between the look and this line: this runtime has one
        // thread.
        let _ = twin.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
    }
}

/// What there is now says. Waits where the stream was ready for nothing, or the task has to let others run. Kept apart so
/// that the window is on the stack only while it is looked at.
async fn judge_now(stream: &TcpStream) -> io::Result<Judged> {
    poll_fn(|cx| judge_window(stream, cx, &mut [0; WINDOW])).await
}

fn judge_window(stream: &TcpStream, cx: &mut Context<'_>, window: &mut [u8]) -> Poll<io::Result<Judged>> {
    let mut bytes = ReadBuf::new(window);
    ready!(stream.poll_peek(cx, &mut bytes))?;
    match (bytes.filled(), judge(bytes.filled())) {
        // The peer has closed its side before it said a word.
        ([], _) => Poll::Ready(Ok(Judged::Done(Detected::Protocol(Protocol::Opaque)))),
        // Few hellos are longer than the window.
        (filled, Judged::Unfinished(Seen::Hello)) if filled.len() == bytes.capacity() && filled.len() == WINDOW => {
            judge_window(stream, cx, &mut vec![0; client_hello::LIMIT])
        }
        (_, judged) => Poll::Ready(Ok(judged)),
    }
}

/// What starts with `bytes`.
fn judge(bytes: &[u8]) -> Judged {
    let done = |protocol| Judged::Done(Detected::Protocol(protocol));
    if bytes.starts_with(HTTP2_PREFACE) {
        return done(Protocol::Http2);
    }
    if HTTP2_PREFACE.starts_with(bytes) {
        return Judged::Unfinished(Seen::Word);
    }
    match client_hello::read(bytes) {
        Hello::Mesh => Judged::Done(Detected::Mesh),
        Hello::Application => done(Protocol::Tls),
        Hello::Incomplete => Judged::Unfinished(Seen::Hello),
        Hello::NotTls => match request_line(bytes) {
            Some(true) => done(Protocol::Http1),
            Some(false) => done(Protocol::Opaque),
            None => Judged::Unfinished(Seen::Word),
        },
    }
}

/// Whether an HTTP/1 request line (RFC 9112 section 3) starts here; none where more could tell. Other protocols of
/// lines start with a word too (`EHLO there`, `CONNECT {"verbose":true}`), so the version at the line's end decides.
fn request_line(bytes: &[u8]) -> Option<bool> {
    let method = bytes.iter().take(LONGEST_METHOD + 1).take_while(|byte| is_token(**byte)).count();
    match bytes.get(method) {
        None if method <= LONGEST_METHOD => return None,
        Some(b' ') if method > 0 && method <= LONGEST_METHOD => {}
        _ => return Some(false),
    }
    let rest = &bytes[method + 1..];
    match rest.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            let version = line.iter().rposition(|byte| *byte == b' ').map(|space| &line[space + 1..]);
            Some(matches!(version, Some(b"HTTP/1.1" | b"HTTP/1.0")))
        }
        None if bytes.len() < WINDOW => None,
        // Too long for the window: only a target goes on for so long without a space.
        None => Some(rest.iter().all(u8::is_ascii_graphic)),
    }
}

/// A character of a token (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        let long = [b"GET /".to_vec(), vec![b'a'; WINDOW]].concat();
        let cases: [(&[u8], Option<Protocol>); 21] = [
            (b"GET / HTTP/1.1\r\nHost: a\r\n", Some(Protocol::Http1)),
            (b"GET / HTTP/1.0\n", Some(Protocol::Http1)),
            (b"POST http://web/x?a=b HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"CONNECT web:443 HTTP/1.1\r\n", Some(Protocol::Http1)),
            (b"M-SEARCH * HTTP/1.1\r\n", Some(Protocol::Http1)),
            (&long, Some(Protocol::Http1)),
            (b"GET / HTTP/1.1", None),
            (b"GE", None),
            (b"", None),
            (b"PRI", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Protocol::Http2)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04", Some(Protocol::Http2)),
            (b"\x16\x03\x01\x02\x00\x01\x00", None),
            (b"\x16\x03\x01\x02\x00\x02", Some(Protocol::Opaque)),
            (b"\x16\x09", Some(Protocol::Opaque)),
            (b"EHLO there\r\n", Some(Protocol::Opaque)),
            (b"CONNECT {\"verbose\":true}\r\n", Some(Protocol::Opaque)),
            (b"PING\r\n", Some(Protocol::Opaque)),
            (b"*1\r\n$4\r\nPING\r\n", Some(Protocol::Opaque)),
            (b" GET / HTTP/1.1\r\n", Some(Protocol::Opaque)),
            (&[b'A'; LONGEST_METHOD + 1], Some(Protocol::Opaque)),
        ];
        for (bytes, expected) in cases {
            let judged = match judge(bytes) {
                Judged::Done(Detected::Protocol(protocol)) => Some(protocol),
                Judged::Unfinished(_) => None,
                other => panic!("{other:?}"),
            };
            assert_eq!(judged, expected, "{}", String::from_utf8_lossy(bytes));
        }
    }

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn a_request_line_that_comes_in_pieces_is_waited_for_and_stays_unread() {
        let (mut client, server) = pair().await;
        let send = async {
            for piece in ["GET ", "/books", " HTTP/1.1\r\n", "\r\n"] {
                client.write_all(piece.as_bytes()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let (detected, ()) = tokio::join!(detect(&server, Duration::from_secs(5)), send);
        assert_eq!(detected.unwrap(), Detected::Protocol(Protocol::Http1));
        let mut all = [0; 64];
        assert_eq!(server.try_read(&mut all).unwrap(), "GET /books HTTP/1.1\r\n\r\n".len());
    }

    /// A hello of `length` bytes that offers `alpn` and is padded (RFC 7685).
    fn hello(alpn: &[u8], length: usize) -> Vec<u8> {
        let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
        let protocols = sized(&[&[alpn.len() as u8], alpn].concat());
        let padding = vec![0; length - 56 - protocols.len() - 4];
        let extensions = [&[0, 21][..], &sized(&padding), &[0, 16], &sized(&protocols)].concat();
        let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0], &sized(&extensions)].concat();
        let message = [&[1, 0][..], &sized(&body)].concat();
        [&[22, 3, 1][..], &sized(&message)].concat()
    }

    #[tokio::test]
    async fn a_hello_that_comes_slowly_and_in_many_segments_is_waited_for_and_judged_as_a_whole() {
        for (alpn, length, expected) in [
            (&b"conduit/h2"[..], 300, Detected::Mesh),
            (b"conduit/tcp", WINDOW, Detected::Mesh),
            (b"conduit/http1", 9000, Detected::Mesh),
            (b"h2", 9000, Detected::Protocol(Protocol::Tls)),
        ] {
            let (mut client, server) = pair().await;
            let hello = hello(alpn, length);
            assert_eq!(hello.len(), length);
            let send = async {
                for piece in hello.chunks(length / 4) {
                    client.write_all(piece).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let (detected, ()) = tokio::join!(detect(&server, Duration::from_millis(30)), send);
            assert_eq!(detected.unwrap(), expected, "{length}");
        }
    }

    #[tokio::test]
    async fn a_hello_whose_beginning_just_fills_the_window_is_looked_at_once_and_then_waited_for() {
        let (mut client, server) = pair().await;
        client.write_all(&hello(b"conduit/h2", 9000)[..WINDOW]).await.unwrap();
        server.readable().await.unwrap();
        let judged =
            judge_now(&server).now_or_never().expect("what is there is judged without looking again and again");
        assert_eq!(judged.unwrap(), Judged::Unfinished(Seen::Hello));
    }

    #[tokio::test]
    async fn a_hello_that_does_not_go_on_is_given_up() {
        let (mut client, server) = pair().await;
        client.write_all(&hello(b"conduit/h2", 300)[..200]).await.unwrap();
        server.readable().await.unwrap();
        tokio::time::pause();
        let start = tokio::time::Instant::now();
        assert_eq!(detect(&server, Duration::from_millis(200)).await.unwrap(), Detected::UnfinishedHello);
        assert_eq!(start.elapsed().as_secs(), HELLO_TIMEOUT.as_secs());
    }

    #[tokio::test]
    async fn silence_and_a_word_that_does_not_end_are_told_apart() {
        let (mut client, server) = pair().await;
        assert_eq!(detect(&server, Duration::from_millis(10)).await.unwrap(), Detected::Silence);
        client.write_all(b"GE").await.unwrap();
        assert_eq!(detect(&server, Duration::from_millis(50)).await.unwrap(), Detected::Unfinished);
        let mut word = [0; 2];
        let read = async { server.readable().await.map(|()| server.try_read(&mut word).unwrap()) };
        let read =
            timeout(Duration::from_secs(5), read).await.expect("whoever serves the stream sees that it is readable");
        assert_eq!((read.unwrap(), &word), (2, b"GE"));
        drop(client);
    }

    /// What `look` says of a client that sends `first` and closes; none where it hangs, even with its whole thread.
    fn decided(
        first: &'static [u8],
        look: impl AsyncFnOnce(&TcpStream) -> Protocol + Send + 'static,
    ) -> Option<Protocol> {
        let (tx, rx) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (mut client, server) = pair().await;
                client.write_all(first).await.unwrap();
                client.shutdown().await.unwrap();
                tx.send(look(&server).await)
            })
        });
        rx.recv_timeout(Duration::from_secs(5)).ok()
    }

    #[test]
    fn a_client_that_closes_within_its_first_word_is_decided_at_once() {
        for first in [&b"GE"[..], b"PING", b"\x16\x03", b"PRI * HTTP"] {
            let detected = decided(first, async |server| match detect(server, Duration::MAX).await.unwrap() {
                Detected::Protocol(protocol) => protocol,
                undecided => panic!("{undecided:?}"),
            });
            assert_eq!(detected, Some(Protocol::Opaque), "{first:?}");
            let declared = decided(first, async |server| http_version(server, Protocol::Http1).await.unwrap());
            assert_eq!(declared, Some(Protocol::Http1), "{first:?}");
        }
    }

    #[tokio::test]
    async fn a_client_that_closes_without_a_word_is_opaque() {
        let (client, server) = pair().await;
        drop(client);
        let detected = detect(&server, Duration::from_secs(5)).await.unwrap();
        assert_eq!(detected, Detected::Protocol(Protocol::Opaque));
    }
}
