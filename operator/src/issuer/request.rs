//! What a proxy asks to have certified: a certificate signing request (PKCS #10, RFC 2986).
//!
//! It comes from whoever reaches the identity port, so it is hostile until it is read. It may hold a key, a proof that the
//! peer has that key, and at most the name that its credential proves anyway. Whatever else it asks for is refused by name
//! instead of being left out: who asks for an authority's certificate is not to believe that it got one.

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SubjectPublicKeyInfo};
use x509_parser::{
    certification_request::X509CertificationRequest,
    cri_attributes::{ParsedCriAttribute, X509CriAttribute},
    extensions::{GeneralName, ParsedExtension, X509Extension},
    oid_registry::{OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, Oid, OidRegistry},
    prelude::FromDer,
    public_key::PublicKey,
};

/// A request is no longer than this. One with a P-384 key and the longest name that Kubernetes allows has under a KiB.
pub const MAX_REQUEST_BYTES: usize = 8 * 1024;
/// What is repeated of a request is no longer than this.
const MAX_REPEATED: usize = 200;

/// A request whose signature proves that the peer holds the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningRequest {
    key: SubjectPublicKeyInfo,
    name: Option<String>,
}

/// Why a request is refused: what it should have been, and what it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Longer than [`MAX_REQUEST_BYTES`].
    #[error("the signing request must have at most {MAX_REQUEST_BYTES} bytes, has {0}")]
    TooLong(usize),
    /// No such structure, or something after it.
    #[error("the signing request must be PKCS #10 in DER: {0}")]
    Malformed(String),
    /// A key that is too weak, or that peers cannot verify.
    #[error("the key must be ECDSA P-256, ECDSA P-384 or Ed25519, is {0}")]
    Key(String),
    /// Whoever sent it does not hold the key.
    #[error("the signing request must be signed with its own key")]
    Signature,
    /// A subject, which certificates here do not have.
    #[error("the subject must be empty, is {0:?}")]
    Subject(String),
    /// Names that are not one URI.
    #[error("the subject alternative name must be one URI or absent, has {0}")]
    Names(String),
    /// An attribute, or an extension, that is not granted.
    #[error("the signing request must ask for nothing but a subject alternative name, asks for {0}")]
    Unknown(String),
}

impl SigningRequest {
    /// Reads a request from DER.
    ///
    /// # Errors
    ///
    /// See [`RequestError`].
    pub fn parse(der: &[u8]) -> Result<Self, RequestError> {
        if der.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLong(der.len()));
        }
        let malformed = |why: &str| RequestError::Malformed(why.to_owned());
        let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| malformed("it cannot be parsed"))?;
        if !rest.is_empty() {
            return Err(malformed("there is something after it"));
        }
        let info = &request.certification_request_info;
        let key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw).ok().filter(is_strong);
        let key = key.ok_or_else(|| RequestError::Key(kind_of_key(&info.subject_pki)))?;
        request.verify_signature().map_err(|_| RequestError::Signature)?;
        if info.subject.iter_rdn().next().is_some() {
            return Err(RequestError::Subject(repeated(&info.subject.to_string())));
        }
        let name = name(info.attributes())?;
        Ok(Self { key, name })
    }

    /// The name that is asked for, a URI; none where it is left to the credential.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The key to certify.
    pub(super) fn key(&self) -> &SubjectPublicKeyInfo {
        &self.key
    }
}

/// The one URI that the attributes ask for, if any.
fn name(attributes: &[X509CriAttribute<'_>]) -> Result<Option<String>, RequestError> {
    let mut name = None;
    for extension in attributes.iter().map(requested_extensions).collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
            return Err(RequestError::Unknown(format!("extension {}", called(&extension.oid))));
        };
        for asked in &names.general_names {
            match asked {
                GeneralName::URI(uri) if name.is_none() => name = Some((*uri).to_owned()),
                GeneralName::URI(_) => return Err(RequestError::Names("more than one".to_owned())),
                other => return Err(RequestError::Names(repeated(&format!("{other:?}")))),
            }
        }
        if name.is_none() {
            return Err(RequestError::Names("none".to_owned()));
        }
    }
    Ok(name)
}

fn requested_extensions<'a, 'b>(attribute: &'b X509CriAttribute<'a>) -> Result<&'b [X509Extension<'a>], RequestError> {
    match attribute.parsed_attribute() {
        ParsedCriAttribute::ExtensionRequest(request) => Ok(&request.extensions),
        _ => Err(RequestError::Unknown(format!("attribute {}", called(&attribute.oid)))),
    }
}

fn is_strong(key: &SubjectPublicKeyInfo) -> bool {
    use rcgen::PublicKeyData;
    [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519].contains(&key.algorithm())
}

/// What a refused key is, for people.
fn kind_of_key(key: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> String {
    let algorithm = &key.algorithm;
    if algorithm.algorithm == OID_PKCS1_RSAENCRYPTION {
        return match key.parsed() {
            Ok(PublicKey::RSA(rsa)) => format!("RSA with {} bits", rsa.key_size()),
            _ => "RSA".to_owned(),
        };
    }
    let curve = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    match curve {
        Some(curve) if algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY => format!("ECDSA {}", called(&curve)),
        _ => called(&algorithm.algorithm),
    }
}

/// An object identifier's name where it has one that is known, and its number.
fn called(oid: &Oid<'_>) -> String {
    let number = repeated(&oid.to_string());
    match OidRegistry::default().with_all_crypto().with_x509().get(oid) {
        Some(entry) => format!("{} ({number})", entry.sn()),
        None => number,
    }
}

fn repeated(text: &str) -> String {
    match text.char_indices().nth(MAX_REPEATED) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
