//! HTTP/1 messages in bytes, as they are written. What the types of a head cannot hold, a line break in a value, cannot be
//! written: a response cannot be split.

use super::{
    framing::{self, Framing},
    head::Written,
    transport,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
    request, response,
};
use http_body::Frame;
use std::io::{IoSlice, Write};

/// Bytes that wait to be written, before no more are asked for.
const ROOM: usize = 16 * 1024;

/// Largest piece of a body that is copied behind what is before it, so that both go in one record.
const COPIED: usize = 8 * 1024;

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Output {
    flat: BytesMut,
    /// Comes after it, uncopied.
    piece: Bytes,
    /// Comes after both.
    after: &'static [u8],
    /// Something was written that TLS may still hold.
    written: bool,
}

impl Output {
    pub(super) fn is_empty(&self) -> bool {
        self.flat.is_empty() && self.piece.is_empty() && self.after.is_empty()
    }

    /// Whether nothing waits, here or in TLS.
    pub(super) fn is_flushed(&self) -> bool {
        self.is_empty() && !self.written
    }

    /// Whether more can be added.
    pub(super) fn has_room(&self) -> bool {
        self.flat.len() < ROOM && self.piece.is_empty() && self.after.is_empty()
    }

    /// Where what is small is added.
    fn flat(&mut self) -> &mut BytesMut {
        if self.flat.capacity() == 0 {
            self.flat = transport::buffer();
        }
        &mut self.flat
    }

    /// Adds a piece of a body.
    fn data(&mut self, data: Bytes, after: &'static [u8]) {
        if data.len() <= COPIED {
            let flat = self.flat();
            flat.extend_from_slice(&data);
            flat.extend_from_slice(after);
        } else {
            (self.piece, self.after) = (data, after);
        }
    }

    /// What is to be written, in order; how many slices.
    pub(super) fn slices<'s>(&'s self, slices: &mut [IoSlice<'s>; 3]) -> usize {
        let mut count = 0;
        for part in [&self.flat[..], &self.piece[..], self.after] {
            if !part.is_empty() {
                slices[count] = IoSlice::new(part);
                count += 1;
            }
        }
        count
    }

    /// So many bytes were written.
    pub(super) fn wrote(&mut self, mut bytes: usize) {
        self.written = true;
        for part in [&mut self.flat as &mut dyn Buf, &mut self.piece, &mut self.after] {
            let part_written = part.remaining().min(bytes);
            part.advance(part_written);
            bytes -= part_written;
        }
        if self.piece.is_empty() {
            // Nothing is kept for it.
            self.piece = Bytes::new();
        }
    }

    /// All has left.
    pub(super) fn flushed(&mut self) {
        self.written = false;
        transport::give_back(&mut self.flat);
    }
}

/// How a body is being written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writing {
    /// There is none; what comes is not written.
    Nothing,
    /// So many bytes are missing.
    Length(u64),
    Chunked,
    UntilEnd,
}

/// A body is not as long as its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a body is not as long as its head says")]
pub(crate) struct WrongLength;

impl Writing {
    /// Adds what comes next.
    ///
    /// # Errors
    /// It is too much.
    pub(super) fn frame(&mut self, output: &mut Output, frame: Frame<Bytes>) -> Result<(), WrongLength> {
        let data = match frame.into_data() {
            Ok(data) if data.is_empty() => return Ok(()),
            Ok(data) => data,
            Err(frame) => {
                if let (Self::Chunked, Ok(trailers)) = (&self, frame.into_trailers()) {
                    let flat = output.flat();
                    flat.extend_from_slice(b"0\r\n");
                    fields(flat, &trailers, None);
                    flat.extend_from_slice(b"\r\n");
                    *self = Self::Nothing;
                }
                return Ok(());
            }
        };
        match self {
            Self::Nothing => {}
            Self::Length(missing) => {
                *missing = missing.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                output.data(data, b"");
            }
            Self::Chunked => {
                // A buffer grows as it must: this cannot fail.
                let _ = write!(output.flat().writer(), "{:x}\r\n", data.len());
                output.data(data, b"\r\n");
            }
            Self::UntilEnd => output.data(data, b""),
        }
        Ok(())
    }

    /// Adds the end.
    ///
    /// # Errors
    /// Something is missing.
    pub(super) fn end(self, output: &mut Output) -> Result<(), WrongLength> {
        match self {
            Self::Length(1..) => return Err(WrongLength),
            // Behind a piece that has not been written yet.
            Self::Chunked if !output.piece.is_empty() => output.after = b"\r\n0\r\n\r\n",
            Self::Chunked => output.flat().extend_from_slice(b"0\r\n\r\n"),
            Self::Nothing | Self::Length(0) | Self::UntilEnd => {}
        }
        Ok(())
    }
}

/// Adds the head of a request, and says how its body is to be written. `empty`: there is none.
pub(super) fn request(output: &mut Output, head: &request::Parts, empty: bool) -> Writing {
    let flat = output.flat();
    flat.extend_from_slice(head.method.as_str().as_bytes());
    flat.extend_from_slice(b" ");
    if head.method == Method::CONNECT {
        flat.extend_from_slice(head.uri.authority().map_or("", |authority| authority.as_str()).as_bytes());
    } else if head.uri.scheme().is_some() {
        // A buffer grows as it must: this cannot fail.
        let _ = write!(flat.writer(), "{}", head.uri);
    } else {
        flat.extend_from_slice(head.uri.path_and_query().map_or("/", |path| path.as_str()).as_bytes());
    }
    flat.extend_from_slice(version(head.version));
    flat.extend_from_slice(b"\r\n");
    fields(flat, &head.headers, head.extensions.get());
    let writing = match length(&head.headers) {
        Some(length) => Writing::Length(length),
        None if head.version == Version::HTTP_10 => Writing::Nothing,
        None if head.headers.contains_key(TRANSFER_ENCODING) => Writing::Chunked,
        None if empty => Writing::Nothing,
        None => {
            flat.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Writing::Chunked
        }
    };
    flat.extend_from_slice(b"\r\n");
    writing
}

/// What the head of a response depends on beside it.
#[derive(Debug)]
pub(super) struct Answering<'a> {
    pub(super) method: &'a Method,
    /// The client's version.
    pub(super) version: Version,
    /// Whether the connection goes on after it.
    pub(super) keep_alive: bool,
    /// The length of its body, where that is known.
    pub(super) length: Option<u64>,
}

/// Adds the head of a response, and says how its body is to be written, and whether the connection can go on after it.
pub(super) fn response(output: &mut Output, head: &response::Parts, to: &Answering<'_>) -> (Writing, bool) {
    let Answering { method, version, .. } = *to;
    let flat = output.flat();
    let written = head.extensions.get();
    status_line(flat, head.status, written, version);
    let has_body = framing::has_body(method, head.status);
    let (writing, framing) = match (has_body, length(&head.headers), to.length) {
        (false, ..) => (Writing::Nothing, None),
        (true, Some(length), _) => (Writing::Length(length), None),
        (true, None, Some(length)) => (Writing::Length(length), Some(Framing::Length(length))),
        (true, None, None) if version == Version::HTTP_10 => (Writing::UntilEnd, None),
        (true, None, None) => (Writing::Chunked, Some(Framing::Chunked)),
    };
    let lengthy = has_body || *method == Method::HEAD || head.status == StatusCode::NOT_MODIFIED;
    for (name, value) in &head.headers {
        // What never has a body has no length (RFC 9110 section 8.6); the framing is this connection's own.
        if *name != TRANSFER_ENCODING && (lengthy || *name != CONTENT_LENGTH) {
            field(flat, name, value, written);
        }
    }
    // A buffer grows as it must: this cannot fail.
    let _ = match framing {
        Some(Framing::Length(length)) => write!(flat.writer(), "content-length: {length}\r\n"),
        Some(Framing::Chunked) => flat.writer().write_all(b"transfer-encoding: chunked\r\n"),
        Some(Framing::None | Framing::UntilEnd) | None => Ok(()),
    };
    let switches = head.headers.contains_key(CONNECTION);
    let keep_alive =
        to.keep_alive && writing != Writing::UntilEnd && framing::keeps_alive(Version::HTTP_11, &head.headers);
    match (keep_alive, version) {
        _ if switches => {}
        (true, Version::HTTP_10) => flat.extend_from_slice(b"connection: keep-alive\r\n"),
        (false, Version::HTTP_11) => flat.extend_from_slice(b"connection: close\r\n"),
        _ => {}
    }
    flat.extend_from_slice(b"\r\n");
    (writing, keep_alive)
}

/// Adds an informational response.
pub(super) fn information(output: &mut Output, response: &Response<()>) {
    let flat = output.flat();
    let written = response.extensions().get();
    status_line(flat, response.status(), written, Version::HTTP_11);
    fields(flat, response.headers(), written);
    flat.extend_from_slice(b"\r\n");
}

fn status_line(flat: &mut BytesMut, status: StatusCode, written: Option<&Written>, version: Version) {
    let reason = match written {
        Some(written) => written.reason(),
        None => status.canonical_reason().unwrap_or_default().as_bytes(),
    };
    flat.extend_from_slice(&self::version(version)[1..]);
    flat.extend_from_slice(b" ");
    flat.extend_from_slice(status.as_str().as_bytes());
    flat.extend_from_slice(b" ");
    flat.extend_from_slice(reason);
    flat.extend_from_slice(b"\r\n");
}

fn version(version: Version) -> &'static [u8] {
    if version == Version::HTTP_10 { b" HTTP/1.0" } else { b" HTTP/1.1" }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    // It was judged when it was read.
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn fields(flat: &mut BytesMut, headers: &HeaderMap, written: Option<&Written>) {
    for (name, value) in headers {
        field(flat, name, value, written);
    }
}

fn field(flat: &mut BytesMut, name: &HeaderName, value: &HeaderValue, written: Option<&Written>) {
    let as_written = written.and_then(|written| written.name(name, value));
    let name = as_written.unwrap_or(name.as_str().as_bytes());
    flat.reserve(name.len() + value.len() + 4);
    flat.extend_from_slice(name);
    flat.extend_from_slice(b": ");
    flat.extend_from_slice(value.as_bytes());
    flat.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_chunk_comes_after_the_one_before_it_however_large_that_is() {
        for size in [1, COPIED, COPIED + 1, ROOM] {
            let (mut output, mut writing) = (Output::default(), Writing::Chunked);
            writing.frame(&mut output, Frame::data(Bytes::from(vec![b'a'; size]))).unwrap();
            writing.end(&mut output).unwrap();
            let mut slices = [IoSlice::new(&[]); 3];
            let count = output.slices(&mut slices);
            let written: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
            let expected = format!("{size:x}\r\n{}\r\n0\r\n\r\n", "a".repeat(size));
            assert!(written == expected.as_bytes(), "{size}");
        }
    }
}
