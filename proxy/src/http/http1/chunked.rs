//! Taking a body out of its chunks (RFC 9112 section 7.1), strictly, and within bounds: extensions and trailers are read by
//! nobody, so nobody may fill memory or time with them.

use super::head::Fault;
use crate::http::limits;
use bytes::{Buf, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};
use httparse::Status;

/// Where in its chunks a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunked {
    at: At,
    /// Bytes of extensions so far.
    extensions: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before a chunk.
    Size,
    /// So much of a chunk is missing.
    Data(u64),
    /// After the data of a chunk.
    DataEnd,
    /// After the last chunk.
    Trailers,
}

/// What comes next of a body.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// More has to be read first.
    More,
    Data(Bytes),
    /// The end, with trailers.
    Trailers(HeaderMap),
    /// The end.
    End,
}

/// Most digits of a size; what they can say fits a number.
const DIGITS: usize = 15;

impl Chunked {
    pub(super) const START: Self = Self { at: At::Size, extensions: 0 };

    /// Takes what comes next out of `input`.
    ///
    /// # Errors
    /// It is not a chunk as it has to be.
    pub(super) fn next(&mut self, input: &mut BytesMut) -> Result<Next, Fault> {
        loop {
            match self.at {
                At::Size => {
                    let Some(line) = line(input)? else { return Ok(Next::More) };
                    let (size, extension) = size(&input[..line])?;
                    self.extensions += extension;
                    if self.extensions > limits::CHUNK_EXTENSIONS {
                        return Err(Fault::Invalid("the extensions of the chunks are too long"));
                    }
                    input.advance(line + 2);
                    self.at = if size == 0 { At::Trailers } else { At::Data(size) };
                }
                At::Data(_) if input.is_empty() => return Ok(Next::More),
                At::Data(missing) => {
                    let data = super::body::take(input, missing);
                    let missing = missing - data.len() as u64;
                    self.at = if missing == 0 { At::DataEnd } else { At::Data(missing) };
                    return Ok(Next::Data(data));
                }
                At::DataEnd => {
                    if !b"\r\n".starts_with(&input[..input.len().min(2)]) {
                        return Err(Fault::Invalid("a chunk is longer than it says"));
                    }
                    if input.len() < 2 {
                        return Ok(Next::More);
                    }
                    input.advance(2);
                    self.at = At::Size;
                }
                At::Trailers => return trailers(input),
            }
        }
    }
}

/// The length of the line at the beginning of `input`, which ends with CR and LF; none if it does not end there.
fn line(input: &[u8]) -> Result<Option<usize>, Fault> {
    let control = input.iter().position(|byte| byte.is_ascii_control() && *byte != b'\t');
    match control {
        Some(at) if at > limits::CHUNK_EXTENSIONS => Err(Fault::Invalid("the extension of a chunk is too long")),
        Some(at) if input[at] != b'\r' => Err(Fault::Invalid("the size of a chunk has a control character")),
        Some(at) => match input.get(at + 1) {
            Some(b'\n') => Ok(Some(at)),
            Some(_) => Err(Fault::Invalid("the size of a chunk does not end with CR and LF")),
            None => Ok(None),
        },
        None if input.len() > limits::CHUNK_EXTENSIONS => Err(Fault::Invalid("the extension of a chunk is too long")),
        None => Ok(None),
    }
}

/// The size that a chunk's line says, and the length of its extension.
fn size(line: &[u8]) -> Result<(u64, usize), Fault> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extension) = line.split_at(digits);
    if digits.is_empty() || digits.len() > DIGITS {
        return Err(Fault::Invalid("the size of a chunk is not a hexadecimal number"));
    }
    // White space before an extension is bad, and to be understood (RFC 9110 section 5.6.3).
    if !extension.is_empty() && extension.trim_ascii_start().first() != Some(&b';') {
        return Err(Fault::Invalid("the size of a chunk is followed by what is no extension"));
    }
    let digit = |digit: &u8| u64::from((*digit as char).to_digit(16).unwrap_or_default());
    Ok((digits.iter().fold(0, |size, byte| size << 4 | digit(byte)), extension.len()))
}

/// Takes the trailers at the beginning of `input`.
fn trailers(input: &mut BytesMut) -> Result<Next, Fault> {
    if input.starts_with(b"\r\n") {
        input.advance(2);
        return Ok(Next::End);
    }
    let mut parsed = [httparse::EMPTY_HEADER; limits::TRAILERS];
    let (length, parsed) = match httparse::parse_headers(input, &mut parsed) {
        Ok(Status::Complete(complete)) => complete,
        Ok(Status::Partial) if input.len() < limits::TRAILERS_SIZE => return Ok(Next::More),
        Ok(Status::Partial) => return Err(Fault::Invalid("the trailers are too long")),
        Err(_) => return Err(Fault::Invalid("the trailers are not headers, or too many")),
    };
    let lines = &input[..length];
    let bare = |(before, byte): (&u8, &u8)| *byte == b'\n' && *before != b'\r';
    // The parser takes an LF alone for the empty line after the last one.
    let bare = lines.first() == Some(&b'\n') || lines.iter().zip(&lines[1..]).any(bare);
    if bare || length > limits::TRAILERS_SIZE {
        return Err(Fault::Invalid("the trailers are too long, or a line of theirs ends without CR"));
    }
    let mut trailers = HeaderMap::new();
    for field in parsed {
        let (name, value) = (HeaderName::from_bytes(field.name.as_bytes()), HeaderValue::from_bytes(field.value));
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Fault::Invalid("the trailers are not headers"));
        };
        if is_trailer(&name) {
            trailers.append(name, value);
        }
    }
    input.advance(length);
    Ok(if trailers.is_empty() { Next::End } else { Next::Trailers(trailers) })
}

/// Whether a field may be a trailer: not one that says how the message is read or where it goes (RFC 9110 section 6.5.1),
/// which somebody further on could take for a header.
fn is_trailer(name: &HeaderName) -> bool {
    const NOT: [HeaderName; 7] = [CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    !NOT.contains(name) && name != "keep-alive" && name != "proxy-connection"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `pieces`, each there when all before is used up, are taken for.
    fn taken(pieces: &[&[u8]]) -> Result<(String, Option<HeaderMap>, usize), Fault> {
        let (mut chunked, mut input, mut body) = (Chunked::START, BytesMut::new(), String::new());
        for (index, piece) in pieces.iter().enumerate() {
            input.extend_from_slice(piece);
            loop {
                match chunked.next(&mut input)? {
                    Next::More => break,
                    Next::Data(data) => body += std::str::from_utf8(&data).unwrap(),
                    Next::End => return Ok((body, None, input.len())),
                    Next::Trailers(trailers) => return Ok((body, Some(trailers), input.len())),
                }
            }
            assert!(index + 1 < pieces.len(), "unfinished after {body:?}");
        }
        unreachable!("there are pieces")
    }

    #[test]
    fn a_body_is_the_same_however_its_chunks_come() {
        let text = b"3\r\nabc\r\n0A ;x=\"y\"\r\n0123456789\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\n\r\nGET /";
        let whole = taken(&[text]).unwrap();
        assert_eq!((whole.0.as_str(), whole.2), ("abc0123456789", 5));
        let trailers = whole.1.unwrap();
        assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &HeaderValue::from_static("7")));
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(taken(&bytes).unwrap().0, whole.0);
        for at in 1..text.len() {
            assert_eq!(taken(&[&text[..at], &text[at..]]).unwrap().0, whole.0, "{at}");
        }
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for text in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\na\r\n",
            "0x1\r\na\r\n",
            " 1\r\na\r\n",
            "1 \r\na\r\n",
            "1,\r\na\r\n",
            "1\na\r\n",
            "1\ra\r\n",
            "1;a\nb\r\na\r\n",
            "1;a\0b\r\na\r\n",
            "1\r\nab\r\n",
            "1\r\na\n0\r\n\r\n",
            "1\r\na0\r\n\r\n",
            "ffffffffffffffff\r\n",
            "10000000000000001\r\na",
            "0\r\n\n",
            "0\r\nX: 1\n\r\n",
            "0\r\nX : 1\r\n\r\n",
            "0\r\nX: 1\r\n y\r\n\r\n",
            "0\r\nno header\r\n\r\n",
        ] {
            assert!(taken(&[text.as_bytes()]).is_err(), "{text:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let long = format!("1;{}", "a".repeat(limits::CHUNK_EXTENSIONS + 1));
        assert!(taken(&[long.as_bytes()]).is_err(), "before its end");
        let many = format!("1;{}\r\na\r\n", "a".repeat(99)).repeat(limits::CHUNK_EXTENSIONS / 100 + 1);
        assert!(taken(&[many.as_bytes()]).is_err());
        let long = format!("0\r\nX: {}", "a".repeat(limits::TRAILERS_SIZE));
        assert!(taken(&[long.as_bytes()]).is_err(), "before their end");
        let many = format!("0\r\n{}\r\n", "X: 1\r\n".repeat(limits::TRAILERS + 1));
        assert!(taken(&[many.as_bytes()]).is_err());
    }
}
