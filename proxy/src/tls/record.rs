//! The protection of records (RFC 8446 section 5): their framing, and their numbers. The cryptography is rustls'.

use rustls::{
    ConnectionTrafficSecrets, ContentType, Error, PeerMisbehaved, ProtocolVersion, Tls13CipherSuite,
    crypto::cipher::{InboundOpaqueMessage, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundPlainMessage},
};

/// Bytes before what a record carries: its kind, its version, its length.
pub(super) const HEADER: usize = 5;
/// Most bytes that a record carries in plain.
pub(super) const MOST_PLAIN: usize = 1 << 14;
/// Most bytes that a protected record carries: as many in plain, with its real kind, padding, and the proof.
pub(super) const MOST_SEALED: usize = MOST_PLAIN + 256;
/// Records that a handshake may have sent under the keys that it ends with: the tickets.
const MOST_BEFORE: u64 = 16;

/// What was sent to this side is opened by it.
pub(super) struct Opener {
    decrypter: Box<dyn MessageDecrypter>,
    number: u64,
}

/// What this side sends is sealed by it.
pub(super) struct Sealer {
    encrypter: Box<dyn MessageEncrypter>,
    number: u64,
    /// Records after which the key has to be another.
    limit: u64,
}

/// What is at the beginning of `bytes`, after a handshake.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Framed {
    /// A whole record, of so many bytes with its header.
    Whole(usize),
    /// More is to come.
    Part,
}

/// Looks at the record that `bytes` start with: nothing but protected records follows a handshake.
///
/// # Errors
/// It is none, or longer than one may be.
pub(super) fn framed(bytes: &[u8]) -> Result<Framed, Error> {
    let Some(&[kind, major, _, high, low]) = bytes.first_chunk() else { return Ok(Framed::Part) };
    if ContentType::from(kind) != ContentType::ApplicationData || major != 3 {
        return Err(inappropriate(ContentType::from(kind)));
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MOST_SEALED {
        return Err(Error::PeerSentOversizedRecord);
    }
    Ok(if bytes.len() < HEADER + length { Framed::Part } else { Framed::Whole(HEADER + length) })
}

/// A record of a kind that does not follow a handshake.
pub(super) fn inappropriate(got_type: ContentType) -> Error {
    Error::InappropriateMessage { expect_types: vec![ContentType::ApplicationData], got_type }
}

impl Opener {
    pub(super) fn new(
        suite: &Tls13CipherSuite,
        (number, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, Error> {
        let (key, iv) = parts(secrets)?;
        Ok(Self { decrypter: suite.aead_alg.decrypter(key, iv), number })
    }

    /// One whose records are numbered from 0.
    pub(super) fn with(decrypter: Box<dyn MessageDecrypter>) -> Self {
        Self { decrypter, number: 0 }
    }

    /// Opens a whole record where it lies: its kind, and how many bytes it carries, which follow its header.
    ///
    /// # Errors
    /// It is not what the peer sealed under this number, or carries what no record may.
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<(ContentType, usize), Error> {
        let sealed =
            InboundOpaqueMessage::new(ContentType::ApplicationData, ProtocolVersion::TLSv1_2, &mut record[HEADER..]);
        let opened = self.decrypter.decrypt(sealed, self.number)?;
        self.number = self.number.checked_add(1).ok_or(PeerMisbehaved::TooManyKeyUpdateRequests)?;
        Ok((opened.typ, opened.payload.len()))
    }
}

impl Sealer {
    pub(super) fn new(
        suite: &Tls13CipherSuite,
        (number, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, Error> {
        let (key, iv) = parts(secrets)?;
        let mut encrypter = suite.aead_alg.encrypter(key, iv);
        if number > MOST_BEFORE {
            return Err(Error::General(format!("{number} records were sent in a handshake")));
        }
        // The library's key takes numbers that grow from the first one it sees, which it takes for 0. What is sealed here
        // never leaves.
        for sent in 0..number {
            encrypter.encrypt(plain(ContentType::ApplicationData, OutboundChunks::new_empty()), sent)?;
        }
        // One less, for the message that announces the next key.
        Ok(Self { encrypter, number, limit: suite.common.confidentiality_limit.saturating_sub(1) })
    }

    #[cfg(test)]
    pub(super) fn wear(&mut self) {
        self.limit = self.number;
    }

    /// Whether the key has sealed as much as it should.
    pub(super) fn is_worn(&self) -> bool {
        self.number >= self.limit
    }

    /// A record, as it goes out.
    ///
    /// # Errors
    /// The cryptographic library fails.
    pub(super) fn seal(&mut self, kind: ContentType, bytes: OutboundChunks<'_>) -> Result<Vec<u8>, Error> {
        let sealed = self.encrypter.encrypt(plain(kind, bytes), self.number)?;
        self.number = self.number.checked_add(1).ok_or(Error::EncryptError)?;
        Ok(sealed.encode())
    }
}

fn plain(typ: ContentType, payload: OutboundChunks<'_>) -> OutboundPlainMessage<'_> {
    OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_3, payload }
}

fn parts(
    secrets: ConnectionTrafficSecrets,
) -> Result<(rustls::crypto::cipher::AeadKey, rustls::crypto::cipher::Iv), Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(Error::General("a cipher suite that is not known here".into())),
    }
}
