//! Which pod a certificate was issued to: a private extension, beside the SPIFFE ID that names its service account.
//!
//! `SEQUENCE { pod UTF8String, uid UTF8String OPTIONAL }`, not critical, so that a verifier that does not know it passes over
//! it. Must not judge whether the pod is there.

use rcgen::CustomExtension;
use x509_parser::{
    asn1_rs::{FromDer, Oid, Sequence, ToDer, Utf8String, oid},
    certificate::X509Certificate,
};

/// Below the arc that is kept for numbers made from a UUID in seven parts, here c7bcff59-8149-48fc-9f61-3d32f2163a52. (The
/// other such arc, 2.25, takes the UUID as one number of 128 bits, which few libraries can write.)
const NUMBER: [u64; 14] = [1, 2, 840, 113556, 1, 8000, 2554, 51132, 65369, 33097, 18684, 40801, 4010738, 1456722];
const OID: Oid<'static> = oid!(1.2.840.113556.1.8000.2554.51132.65369.33097.18684.40801.4010738.1456722);

/// The pod that a certificate was issued to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodBinding {
    /// Its name, in the namespace of its service account.
    pub pod: String,
    /// Its uid; none where tokens come from a file.
    pub uid: Option<String>,
}

/// Why a certificate does not say which pod it was issued to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PodBindingError {
    /// There is no such extension, or two.
    #[error("the certificate names no pod (extension {OID})")]
    Missing,
    /// The extension holds something else.
    #[error("the certificate's extension {OID} must hold the name of a pod, and its uid or nothing after it")]
    Malformed,
}

impl PodBinding {
    /// Reads it from a certificate, whose signature the caller has verified.
    ///
    /// # Errors
    ///
    /// The extension is missing, there twice, or holds something else.
    pub fn from_certificate(certificate: &X509Certificate<'_>) -> Result<Self, PodBindingError> {
        match certificate.get_extension_unique(&OID) {
            Ok(Some(extension)) => Self::from_der(extension.value).ok_or(PodBindingError::Malformed),
            Ok(None) | Err(_) => Err(PodBindingError::Missing),
        }
    }

    fn from_der(der: &[u8]) -> Option<Self> {
        let (rest, sequence) = Sequence::from_der(der).ok()?;
        let (after_pod, pod) = Utf8String::from_der(sequence.content.as_ref()).ok()?;
        let (end, uid) = match after_pod {
            [] => (after_pod, None),
            _ => Utf8String::from_der(after_pod).map(|(end, uid)| (end, Some(uid.string()))).ok()?,
        };
        let pod = pod.string();
        (rest.is_empty() && end.is_empty() && !pod.is_empty()).then_some(Self { pod, uid })
    }

    /// The extension, to be signed.
    pub(super) fn to_extension(&self) -> CustomExtension {
        let texts = std::iter::once(&self.pod).chain(&self.uid).map(|text| Utf8String::new(text));
        let sequence = Sequence::from_iter_to_der(texts).expect("text can be written as DER");
        let content = sequence.to_der_vec().expect("a sequence can be written as DER");
        CustomExtension::from_oid_content(&NUMBER, content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back_and_nothing_else_is() {
        let table = [
            PodBinding { pod: "web-0".into(), uid: Some("6e2f7c8e-0000-4000-8000-000000000000".into()) },
            PodBinding { pod: "x".repeat(253), uid: None },
        ];
        for binding in table {
            let der = binding.to_extension().content().to_vec();
            assert_eq!(PodBinding::from_der(&der), Some(binding));
            for end in 0..der.len() {
                assert_eq!(PodBinding::from_der(&der[..end]), None);
            }
            assert_eq!(PodBinding::from_der(&[&der[..], &[0]].concat()), None);
        }
        for wrong in [[].as_slice(), b"web-0", &[0x30, 0], &[0x30, 2, 0x0c, 0], &[0x30, 3, 0x02, 1, 1]] {
            assert_eq!(PodBinding::from_der(wrong), None, "{wrong:x?}");
        }
    }

    #[test]
    fn the_number_is_the_same_written_and_read() {
        let read: Vec<u64> = OID.iter().unwrap().collect();
        assert_eq!(read, NUMBER);
    }
}
