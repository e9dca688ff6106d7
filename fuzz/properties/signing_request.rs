//! What a proxy asks the operator to certify.

use conduit_operator::issuer::{MAX_REQUEST_BYTES, SigningRequest};

/// What is taken is no longer than it may be, and is read the same from the same bytes; what is not is refused in words.
pub fn holds(bytes: &[u8]) {
    match SigningRequest::parse(bytes) {
        Ok(request) => {
            assert!(bytes.len() <= MAX_REQUEST_BYTES);
            assert_eq!(SigningRequest::parse(bytes), Ok(request));
            let with_more = [bytes, b"\0"].concat();
            assert!(SigningRequest::parse(&with_more).is_err(), "something after it is not ignored");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
