//! Whose TLS a connection starts: the mesh's or the application's. A ClientHello (RFC 8446 section 4.1.2) is read whole
//! before it is judged: it may be split over records and, with a post-quantum key share, does not fit a segment.
//!
//! Only what tells the two apart is read, and nothing is verified: the handshake does that. So a mistake here can make a
//! handshake fail, and can never make a peer known. For the access log alone the names are read that the application's hello
//! asks for.

use crate::record::access::{Heard, TlsNames};
use std::net::IpAddr;

/// A hello, with its framing, that is longer is not read: none of the mesh's comes near. As long as one record may be.
pub const LIMIT: usize = 16 * 1024 + 512;

/// What every ALPN protocol of the mesh starts with. A peer that offers one that is not known here must hear so from the
/// handshake, not from the application.
const MESH_PREFIX: &[u8] = b"conduit/";

const HANDSHAKE_RECORD: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME_EXTENSION: [u8; 2] = [0, 0];
const ALPN_EXTENSION: [u8; 2] = [0, 16];

/// Protocols of a hello that are told of; browsers offer two or three.
const MOST_PROTOCOLS: usize = 8;

/// Longest name of a protocol that is told of; the longest registered one has 15 letters.
const LONGEST_PROTOCOL: usize = 32;

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

/// The names that the hello asks for that a connection starts with.
pub(crate) fn names(bytes: &[u8]) -> Heard {
    match read(bytes) {
        Hello::Incomplete => Heard::Incomplete,
        Hello::NotTls => Heard::NotTls,
        Hello::Application | Hello::Mesh => {
            let mut names = TlsNames::default();
            if let Ok(body) = message(&bytes[..bytes.len().min(LIMIT)]) {
                // What can be read before it is malformed is told of.
                let _ = each_extension(&body, |kind, extension| {
                    match kind {
                        SERVER_NAME_EXTENSION => names.sni = server_name(extension),
                        ALPN_EXTENSION => names.alpn = protocols(extension)?,
                        _ => {}
                    }
                    Some(())
                });
            }
            Heard::Tls(names)
        }
    }
}

/// The first name of the only kind that there is, where it is a DNS name (RFC 6066 section 3: no address, no final dot).
fn server_name(mut extension: &[u8]) -> Option<Box<str>> {
    let mut list = vector16(&mut extension)?;
    if take(&mut list, 1)? != [0] {
        return None;
    }
    let name = std::str::from_utf8(vector16(&mut list)?).ok()?;
    let is_label = |label: &str| {
        matches!(label.len(), 1..=63) && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let is_dns = name.len() <= 253 && name.split('.').all(is_label) && name.parse::<IpAddr>().is_err();
    is_dns.then(|| name.to_ascii_lowercase().into())
}

/// The names of protocols that are fit for a log.
fn protocols(mut extension: &[u8]) -> Option<Vec<Box<str>>> {
    let mut list = vector16(&mut extension)?;
    let mut names = Vec::new();
    while !list.is_empty() && names.len() < MOST_PROTOCOLS {
        let name = vector8(&mut list)?;
        if name.len() <= LONGEST_PROTOCOL
            && name.iter().all(u8::is_ascii_graphic)
            && let Ok(name) = std::str::from_utf8(name)
        {
            names.push(name.into());
        }
    }
    Some(names)
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
fn offers_mesh(hello: &[u8]) -> Option<bool> {
    let mut offers = false;
    let read = each_extension(hello, |kind, mut extension| {
        if kind == ALPN_EXTENSION && !offers {
            // RFC 7301 section 3.1.
            let mut protocols = vector16(&mut extension)?;
            while !protocols.is_empty() && !offers {
                offers = vector8(&mut protocols)?.starts_with(MESH_PREFIX);
            }
        }
        Some(())
    });
    if offers { Some(true) } else { read.map(|()| false) }
}

/// Shows each extension of a hello to `see`, by its kind; none where the hello is malformed, or `see` says so.
fn each_extension<'b>(mut hello: &'b [u8], mut see: impl FnMut([u8; 2], &'b [u8]) -> Option<()>) -> Option<()> {
    let _version_and_random = take(&mut hello, 2 + 32)?;
    let _session_id = vector8(&mut hello)?;
    let _cipher_suites = vector16(&mut hello)?;
    let _compression_methods = vector8(&mut hello)?;
    let mut extensions = vector16(&mut hello)?;
    while !extensions.is_empty() {
        let kind = *extensions.first_chunk()?;
        take(&mut extensions, 2)?;
        see(kind, vector16(&mut extensions)?)?;
    }
    Some(())
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
    fn a_hello_of_the_application_says_for_whom_it_is_and_by_which_protocols() {
        let of = |name: &str, alpn: &[&str]| {
            Heard::Tls(TlsNames { sni: Some(name.into()), alpn: alpn.iter().map(|name| (*name).into()).collect() })
        };
        for groups in [POST_QUANTUM, CLASSICAL] {
            let whole = hello(&[b"h2", b"http/1.1", b"with space", &[b'a'; 40]], groups);
            assert_eq!(names(&whole), of("web.shop", &["h2", "http/1.1"]));
            assert_eq!(names(&split(&whole, 7)), of("web.shop", &["h2", "http/1.1"]));
            assert_eq!(names(&whole[..whole.len() - 1]), Heard::Incomplete);
        }
        assert_eq!(names(&hello(&[&b"x"[..]; 20], CLASSICAL)), of("web.shop", &["x"; MOST_PROTOCOLS]));
        assert_eq!(names(b"GET / HTTP/1.1\r\n"), Heard::NotTls);
    }

    #[test]
    fn what_is_no_dns_name_is_told_to_nobody() {
        let named = |name: &[u8]| {
            let sized = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
            server_name(&sized(&[&[0][..], &sized(name)].concat()))
        };
        for (name, expected) in [
            (&b"Web.Shop"[..], Some("web.shop")),
            (b"_grpc.a-1.example", Some("_grpc.a-1.example")),
            (b"", None),
            (b"web.shop.", None),
            (b".web", None),
            (b"10.1.2.3", None),
            (b"::1", None),
            (b"web\n\"error\":", None),
            (b"caf\xc3\xa9.example", None),
            (&[b'a'; 64], None),
            (&b"a.".repeat(130), None),
        ] {
            assert_eq!(named(name).as_deref(), expected, "{name:?}");
        }
        assert_eq!(server_name(b"\0\x05\x01\0\x02ab"), None, "of another kind");
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
            names(&bytes);
        }
    }
}
