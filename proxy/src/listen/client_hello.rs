//! Whose TLS a connection starts: the mesh's or the application's. A ClientHello (RFC 8446 section 4.1.2) is read whole
//! before it is judged: it may be split over records and, with a post-quantum key share, does not fit a segment.
//!
//! Only what tells the two apart is read, and nothing is verified: the handshake does that. So a mistake here can make a
//! handshake fail, and can never make a peer known.

/// A hello, with its framing, that is longer is not read: none of the mesh's comes near. As long as one record may be.
pub const LIMIT: usize = 16 * 1024 + 512;

/// What every ALPN protocol of the mesh starts with. A peer that offers one that is not known here must hear so from the
/// handshake, not from the application.
const MESH_PREFIX: &[u8] = b"conduit/";

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const ALPN_EXTENSION: [u8; 2] = [0, 16];

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hello {
    /// More could make them a hello.
    Incomplete,
    /// They do not start one.
    NotTls,
    /// A hello that is not for the proxy. So is one that cannot be read: what it is for is the application's to say.
    Application,
    /// A peer of the mesh asks to prove who it is.
    Mesh,
}

/// What reading stopped at.
enum Stop {
    Incomplete,
    Malformed,
}

/// Reads the bytes that a connection starts with.
pub fn read(bytes: &[u8]) -> Hello {
    let bytes = &bytes[..bytes.len().min(LIMIT)];
    match *bytes {
        [HANDSHAKE_RECORD, 3, 0..=4, _, _, CLIENT_HELLO, ..] => {}
        [HANDSHAKE_RECORD, 3, 0..=4, _, _, _, ..] => return Hello::NotTls,
        [HANDSHAKE_RECORD, 3, 0..=4, ..] | [HANDSHAKE_RECORD, 3] | [HANDSHAKE_RECORD] | [] => return Hello::Incomplete,
        _ => return Hello::NotTls,
    }
    match message(bytes) {
        Ok(body) if offers_mesh(&body) == Some(true) => Hello::Mesh,
        Err(Stop::Incomplete) if bytes.len() < LIMIT => Hello::Incomplete,
        Ok(_) | Err(Stop::Incomplete | Stop::Malformed) => Hello::Application,
    }
}

/// The body of the handshake message that starts with `bytes`, put together from its records (RFC 8446 section 5.1).
fn message(mut bytes: &[u8]) -> Result<Vec<u8>, Stop> {
    let mut message = Vec::new();
    loop {
        let Some((&[kind, 3, 0..=4, high, low], rest)) = bytes.split_first_chunk() else {
            return Err(if bytes.len() < 5 { Stop::Incomplete } else { Stop::Malformed });
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if kind != HANDSHAKE_RECORD || length == 0 || length > LIMIT {
            return Err(Stop::Malformed);
        }
        let fragment = &rest[..length.min(rest.len())];
        message.extend_from_slice(fragment);
        if let Some((&[_, high, middle, low], body)) = message.split_first_chunk() {
            let size = u32::from_be_bytes([0, high, middle, low]) as usize;
            if size > LIMIT {
                return Err(Stop::Malformed);
            }
            if let Some(body) = body.get(..size) {
                return Ok(body.to_vec());
            }
        }
        bytes = rest.get(length..).ok_or(Stop::Incomplete)?;
    }
}

/// Whether a hello offers a protocol of the mesh; none where it is malformed before that is known.
fn offers_mesh(mut hello: &[u8]) -> Option<bool> {
    let _version_and_random = take(&mut hello, 2 + 32)?;
    let _session_id = vector8(&mut hello)?;
    let _cipher_suites = vector16(&mut hello)?;
    let _compression_methods = vector8(&mut hello)?;
    let mut extensions = vector16(&mut hello)?;
    while !extensions.is_empty() {
        let kind = take(&mut extensions, 2)?;
        let mut extension = vector16(&mut extensions)?;
        if kind == ALPN_EXTENSION {
            // RFC 7301 section 3.1.
            let mut protocols = vector16(&mut extension)?;
            while !protocols.is_empty() {
                if vector8(&mut protocols)?.starts_with(MESH_PREFIX) {
                    return Some(true);
                }
            }
        }
    }
    Some(false)
}

fn take<'b>(bytes: &mut &'b [u8], length: usize) -> Option<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// A vector whose length is a byte (RFC 8446 section 3.4).
fn vector8<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let length = take(bytes, 1)?[0];
    take(bytes, length.into())
}

/// A vector whose length is two bytes.
fn vector16<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let &[high, low] = bytes.first_chunk()?;
    take(bytes, 2)?;
    take(bytes, u16::from_be_bytes([high, low]).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use conduit_model::mtls::{ALPN_HTTP1, ALPN_HTTP2, ALPN_TCP};
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore,
        crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs},
        version::TLS13,
    };
    use std::sync::Arc;

    const POST_QUANTUM: &[&dyn SupportedKxGroup] = &[aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519];
    const CLASSICAL: &[&dyn SupportedKxGroup] = &[aws_lc_rs::kx_group::X25519];

    /// The hello of a real client.
    fn hello(alpn: &[&[u8]], groups: &[&'static dyn SupportedKxGroup]) -> Vec<u8> {
        let provider = CryptoProvider { kx_groups: groups.to_vec(), ..aws_lc_rs::default_provider() };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let mut client = ClientConnection::new(Arc::new(config), "web.shop".try_into().unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same message in records of `size` bytes.
    fn split(hello: &[u8], size: usize) -> Vec<u8> {
        let fragments = hello[5..].chunks(size);
        let record = |fragment: &[u8]| [&[22, 3, 1][..], &(fragment.len() as u16).to_be_bytes(), fragment].concat();
        fragments.flat_map(record).collect()
    }

    #[test]
    fn a_hello_is_the_meshs_where_it_offers_one_of_its_protocols() {
        let cases: [(&[&[u8]], Hello); 8] = [
            (&[ALPN_HTTP2], Hello::Mesh),
            (&[ALPN_HTTP1], Hello::Mesh),
            (&[ALPN_TCP], Hello::Mesh),
            (&[b"h2", ALPN_TCP], Hello::Mesh),
            (&[b"conduit/h3"], Hello::Mesh),
            (&[b"h2", b"http/1.1"], Hello::Application),
            (&[b"xconduit/h2", b"conduit"], Hello::Application),
            (&[], Hello::Application),
        ];
        for (alpn, expected) in cases {
            for groups in [POST_QUANTUM, CLASSICAL] {
                assert_eq!(read(&hello(alpn, groups)), expected, "{alpn:?}");
            }
        }
        assert!(hello(&[ALPN_HTTP2], POST_QUANTUM).len() > 1200, "the post-quantum share is in it");
    }

    #[test]
    fn a_hello_is_judged_once_it_is_whole_however_it_is_cut() {
        let whole = hello(&[ALPN_HTTP2], POST_QUANTUM);
        for size in [1, 3, 100, 1200] {
            assert_eq!(read(&split(&whole, size)), Hello::Mesh, "records of {size}");
        }
        for hello in [whole.clone(), split(&whole, 7)] {
            for length in 0..hello.len() {
                assert_eq!(read(&hello[..length]), Hello::Incomplete, "the first {length} bytes");
            }
            assert_eq!(read(&[&hello[..], b"and more"].concat()), Hello::Mesh);
        }
    }

    #[test]
    fn other_first_bytes_are_no_hello() {
        for bytes in
            [&b"GET / HTTP/1.1\r\n"[..], b"\x15\x03\x01", b"\x16\x02\x01", b"\x16\x03\x05", b"\x16\x03\x01\x00\x05\x02"]
        {
            assert_eq!(read(bytes), Hello::NotTls, "{bytes:?}");
        }
    }

    #[test]
    fn a_hello_that_cannot_be_read_is_left_to_the_application() {
        let whole = hello(&[ALPN_HTTP2], CLASSICAL);
        let with = |index: usize, byte: u8| {
            let mut hello = whole.clone();
            hello[index] = byte;
            hello
        };
        let larger_than_any = with(6, 1);
        let session_longer_than_all = with(5 + 4 + 34, 255);
        let followed_by_an_alert = [&split(&whole, 100)[..105], b"\x15\x03\x01\x00\x02\x02\x28"].concat();
        let empty_record = [&split(&whole, 100)[..105], b"\x16\x03\x01\x00\x00"].concat();
        for hello in [larger_than_any, session_longer_than_all, followed_by_an_alert, empty_record] {
            assert_eq!(read(&hello), Hello::Application);
        }
    }

    #[test]
    fn a_hello_that_does_not_end_within_the_limit_is_left_to_the_application() {
        let message = [&[0, 0, 0, 0, 0, 1, 0, 0x40, 0][..], &[0; 0x4000]].concat();
        let endless = split(&message, 30);
        assert_eq!(read(&endless[..LIMIT - 1]), Hello::Incomplete);
        assert_eq!(read(&endless[..LIMIT]), Hello::Application);
    }

    /// `make fuzz` looks further.
    #[test]
    fn a_hello_that_is_broken_anywhere_is_read_without_a_panic() {
        let whole = hello(&[ALPN_HTTP2], POST_QUANTUM);
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..20_000 {
            let mut bytes = whole[..random.usize(..=whole.len())].to_vec();
            for _ in 0..random.usize(..8) {
                if let Some(index) = bytes.len().checked_sub(1).map(|last| random.usize(..=last)) {
                    bytes[index] = random.u8(..);
                }
            }
            read(&bytes);
        }
    }
}
