//! What signs certificates of the mesh: an immutable snapshot, swapped whole when a part of it rotates.
//!
//! It signs for whom its caller has proven: nothing on a certificate comes from a request but the public key.
//! Must not know where the authority is kept.

use super::{PodBinding, SigningRequest, Stored, TrustBundle};
use bytes::Bytes;
use conduit_model::SpiffeId;
use conduit_webhook_certs::{Authority, CertificateError, Leaf, TrustedAuthority};
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber,
};
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::CertificateDer;
use std::collections::BTreeSet;
use time::{Duration, OffsetDateTime};

/// Validity of a workload's certificate begins this long before it is issued, for peers whose clock is behind; less where
/// the certificate itself is short-lived.
const BACKDATING: Duration = Duration::minutes(5);

/// What signs, and whom that makes trusted.
#[derive(Clone, Debug)]
pub struct Issuer {
    authority: Authority,
    /// What follows a certificate, so that it leads to a root: the authority's own certificate first. Empty where that is a
    /// root.
    chain: Vec<CertificateDer<'static>>,
    bundle: TrustBundle,
    roots: Validity,
    /// When the first of what leads to a root ends, the authority included.
    until: OffsetDateTime,
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// X.509 in DER: the certificate, then those that lead to a root, without the root.
    pub chain: Vec<Bytes>,
    /// Until when it is valid.
    pub not_after: OffsetDateTime,
}

/// From when until when something is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its beginning.
    pub not_before: OffsetDateTime,
    /// Its end.
    pub not_after: OffsetDateTime,
}

/// Why nothing was issued.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    /// The request names somebody else than its credential.
    #[error("the request asks for {requested:?}: must be {expected} or nothing")]
    OtherIdentity {
        /// The name on the request.
        requested: String,
        /// Whom the credential proves.
        expected: SpiffeId,
    },
    /// The issuer cannot sign anything that is valid.
    #[error("the issuer is valid from {} to {} only", .0.not_before, .0.not_after)]
    IssuerNotValid(Validity),
    /// The cryptographic library refused.
    #[error("the certificate could not be signed: {0}")]
    Sign(#[from] rcgen::Error),
    /// There is no randomness.
    #[error("there is no randomness for a serial number")]
    Randomness,
}

impl Issuer {
    /// What signs of `stored`, which has an issuer once it is settled.
    pub fn from_stored(stored: &Stored) -> Option<Self> {
        let authority = stored.issuer.clone()?;
        let root = TrustedAuthority::from_authority(&stored.root);
        let next = stored.next_root.as_ref().map(TrustedAuthority::from_authority);
        let roots: Vec<_> = std::iter::once(root).chain(next).chain(stored.previous_roots.iter().cloned()).collect();
        let chain = vec![authority.der().clone()];
        Some(Self::new(authority, chain, &roots))
    }

    /// `chain` follows what is signed; the first of `roots` is the one that it ends at.
    pub(super) fn new(authority: Authority, chain: Vec<CertificateDer<'static>>, roots: &[TrustedAuthority]) -> Self {
        let signing = &roots[0];
        Self {
            until: authority.not_after(),
            authority,
            chain,
            bundle: TrustBundle::new(roots.iter().map(TrustedAuthority::der)),
            roots: Validity { not_before: signing.not_before(), not_after: signing.not_after() },
        }
    }

    /// The same, where something that leads to a root ends at `until`: what is signed is of no use after that.
    pub(super) fn until(self, until: OffsetDateTime) -> Self {
        Self { until: self.until.min(until), ..self }
    }

    /// Issues a certificate for the key of `request` to the workload `id` in `pod`, both of which the caller has proven. It
    /// is valid for `lifetime`, but never beyond the issuer's end.
    ///
    /// # Errors
    ///
    /// The request asks for another name, or the issuer is not valid at `now`.
    pub fn certify(
        &self,
        request: &SigningRequest,
        id: &SpiffeId,
        pod: &PodBinding,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<Certified, CertifyError> {
        if let Some(requested) = request.name().filter(|requested| *requested != id.as_str()) {
            return Err(CertifyError::OtherIdentity { requested: requested.to_owned(), expected: id.clone() });
        }
        self.sign(request.key(), id, pod, lifetime, now)
    }

    /// Signs a workload's certificate.
    pub(super) fn sign(
        &self,
        key: &impl PublicKeyData,
        id: &SpiffeId,
        pod: &PodBinding,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<Certified, CertifyError> {
        let validity = self.validity();
        let not_after = (now + lifetime).min(validity.not_after);
        let not_before = (now - BACKDATING.min(lifetime / 10)).max(validity.not_before);
        if not_after <= now || not_before >= not_after {
            return Err(CertifyError::IssuerNotValid(validity));
        }
        let mut params = CertificateParams::default();
        // No subject: the name is the URI, which makes its extension critical (RFC 5280 section 4.2.1.6).
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.custom_extensions = vec![pod.to_extension()];
        params.not_before = not_before;
        params.not_after = not_after;
        params.serial_number = Some(serial_number()?);
        let certificate = params.signed_by(key, &self.authority.issuer()?)?;
        let chain = std::iter::once(certificate.der()).chain(&self.chain);
        Ok(Certified { chain: chain.map(|der| Bytes::copy_from_slice(der)).collect(), not_after })
    }

    /// Issues a certificate that the operator serves with, together with what leads from it to a root.
    ///
    /// # Errors
    ///
    /// As [`Leaf::issue`].
    pub fn serving(
        &self,
        names: &BTreeSet<String>,
        lifetime: Duration,
        now: OffsetDateTime,
    ) -> Result<Leaf, CertificateError> {
        let lifetime = lifetime.min(self.until - now);
        Ok(Leaf::issue(&self.authority, names, lifetime, now)?.with_intermediates(self.chain.iter().cloned()))
    }

    /// Whom everything that is signed here makes it lead to, and the other roots that are trusted.
    pub fn trust_bundle(&self) -> &TrustBundle {
        &self.bundle
    }

    /// From when until when the issuer is valid, and what leads from it to a root.
    pub fn validity(&self) -> Validity {
        Validity { not_before: self.authority.not_before(), not_after: self.until }
    }

    /// From when until when the root is valid that the issuer leads to.
    pub fn root_validity(&self) -> Validity {
        self.roots
    }

    /// The issuer's certificate, in DER, by which one is told from another.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        self.authority.der()
    }
}

/// Two issuers are the same if they sign with the same certificate, send the same chain and trust the same roots.
impl PartialEq for Issuer {
    fn eq(&self, other: &Self) -> bool {
        self.certificate() == other.certificate() && self.chain == other.chain && self.bundle == other.bundle
    }
}

impl Eq for Issuer {}

/// 127 random bits: unique among all certificates of an issuer, and unpredictable (RFC 5280 section 4.1.2.2 allows 20
/// octets and no negative number).
fn serial_number() -> Result<SerialNumber, CertifyError> {
    let mut bytes = [0; 16];
    aws_lc_rs::default_provider().secure_random.fill(&mut bytes).map_err(|_| CertifyError::Randomness)?;
    // The first octet is neither negative nor zero, so that every number has the same length.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}
