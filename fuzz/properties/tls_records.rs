//! What a peer sends after its handshake: records, of which only the cryptography is left out.

use conduit_proxy::tls::sequence::{Next, data};

/// Bytes of what a record carries and is data at most, and with its kind, its padding and its proof.
const MOST: (usize, usize) = (1 << 14, (1 << 14) + 256);

/// However the bytes come in pieces, what is read is what a reader of the whole sees. The first byte chooses the pieces.
pub fn holds(bytes: &[u8]) {
    let Some((&piece, bytes)) = bytes.split_first() else { return };
    let expected = naive(bytes);
    assert_eq!(data(bytes, usize::from(piece) + 1), expected);
    assert_eq!(data(bytes, bytes.len()), expected);
}

fn naive(bytes: &[u8]) -> (Vec<u8>, Next) {
    let (mut all, mut rest) = (Vec::new(), bytes);
    loop {
        let Some((&[kind, major, _, high, low], after)) = rest.split_first_chunk() else { return (all, Next::More) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != 23 || major != 3 || length > MOST.1 {
            return (all, Next::Fault);
        }
        let Some((record, after)) = after.split_at_checked(length) else { return (all, Next::More) };
        let Some(end) = record.iter().rposition(|byte| *byte != 0) else { return (all, Next::Fault) };
        // With its kind and its padding it is no longer than a full one with its kind (RFC 8446 section 5.4).
        match record[end] {
            _ if record.len() > MOST.0 + 1 => return (all, Next::Fault),
            21 => return (all, Next::Alert),
            22 => return (all, Next::Messages),
            23 => all.extend_from_slice(&record[..end]),
            _ => return (all, Next::Fault),
        }
        rest = after;
    }
}
