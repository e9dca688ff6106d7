//! As much of HTTP/1 as it takes to see where a message ends, read line by line as RFC 9112 has it, and giving up at whatever is
//! not sure: what the proxy's own reader is compared with, of which it knows nothing.

/// A line that ends with CR and LF, and has no other control character but tabs.
pub fn line<'b>(rest: &mut &'b [u8]) -> Option<&'b [u8]> {
    let end = rest.windows(2).position(|end| end == b"\r\n")?;
    let line = &rest[..end];
    *rest = &rest[end + 2..];
    (!line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t')).then_some(line)
}

/// Headers until an empty line.
pub fn fields<'b>(rest: &mut &'b [u8]) -> Option<Vec<(&'b [u8], &'b [u8])>> {
    let mut fields = Vec::new();
    loop {
        let line = line(rest)?;
        if line.is_empty() {
            return Some(fields);
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        if name.is_empty() || !name.iter().all(token) {
            return None;
        }
        fields.push((name, value));
    }
}

/// The data of a body in chunks, trailers taken with it.
pub fn chunks(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = line(rest)?;
        let size = line.split(|byte| *byte == b';').next()?.trim_ascii_end();
        if size.is_empty() || !size.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        if size == 0 {
            fields(rest)?;
            return Some(body);
        }
        let (chunk, left) = rest.split_at_checked(size)?;
        body.extend_from_slice(chunk);
        *rest = left.strip_prefix(b"\r\n")?;
    }
}
