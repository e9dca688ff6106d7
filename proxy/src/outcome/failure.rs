//! The failures and their table.

use http::StatusCode;

/// Why the proxy could not carry a request to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Failure {
    /// The Service has no endpoint that serves.
    #[error("the service has no endpoints")]
    NoEndpoints,
    /// The address answered that nothing listens there.
    #[error("the connection was refused")]
    ConnectRefused,
    /// The address did not answer in time.
    #[error("the connection was not answered in time")]
    ConnectTimeout,
    /// The connection could not be opened for another reason, such as no route.
    #[error("the connection could not be opened")]
    ConnectFailed,
    /// The connection was open, and closed before it could carry the request.
    #[error("the connection closed before the request was sent")]
    ConnectionLost,
    /// Policy requires mutual TLS of a destination, and the endpoint takes none.
    #[error("policy requires mutual TLS, which the endpoint does not take")]
    TlsUnavailable,
    /// The endpoint could not be shown to be the workload that it should be, or did not take this proxy for what it is.
    #[error("the TLS handshake failed")]
    TlsFailed,
    /// This proxy's certificate is over, so that it opens no connection of the mesh.
    #[error("the proxy's own certificate has expired")]
    IdentityExpired,
    /// This proxy has no certificate yet.
    #[error("the proxy has no certificate yet")]
    IdentityMissing,
    /// The client has shown no identity, and policy serves nobody who has not.
    #[error("the client has no verified identity, and policy requires one")]
    TlsRequired,
    /// The connection broke, or the stream was reset, after the request was sent and before its response ended.
    #[error("the connection closed before the response ended")]
    ResponseBroken,
    /// What came back is not HTTP as it has to be.
    #[error("the response is not valid HTTP")]
    ResponseInvalid,
    /// The request is not HTTP as it has to be.
    #[error("the request is not valid HTTP")]
    RequestInvalid,
    /// The head of the request is longer, or has more headers, than is read.
    #[error("the head of the request is too large")]
    RequestTooLarge,
    /// The head of the request did not end in time.
    #[error("the head of the request took too long")]
    RequestTooSlow,
    /// The request needs what the proxy does not carry: a tunnel by HTTP/1.0, a transfer coding that is not `chunked`, or
    /// another protocol in an HTTP/2 stream to a server that does not offer it.
    #[error("the request needs what the proxy does not carry")]
    RequestUnsupported,
    /// The client went away before its request was complete.
    #[error("the client closed before its request ended")]
    RequestBroken,
    /// The client went away before the response ended.
    #[error("the client closed before the response ended")]
    Canceled,
}

/// Who has to look into a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one that sent the request.
    Client,
    /// The one that the request was for.
    Server,
}

/// What a failure becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The code in the `conduit-error` header, in logs, and in the metric label `error`.
    pub code: &'static str,
    /// Who is at fault.
    pub side: Side,
    /// Status of the response, to a request that is not gRPC.
    pub status: StatusCode,
    /// `grpc-status` of the response, to a request that is.
    pub grpc: u32,
    /// Whether the failure proves that no byte of the request reached an application, so that it may be sent to another
    /// endpoint whatever its method.
    pub unsent: bool,
    /// Whether a log line is worth it at `warn`; at `debug` else.
    pub warn: bool,
}

/// Every failure, in the order of the reference.
pub const FAILURES: [Failure; 18] = [
    Failure::NoEndpoints,
    Failure::ConnectRefused,
    Failure::ConnectTimeout,
    Failure::ConnectFailed,
    Failure::ConnectionLost,
    Failure::TlsUnavailable,
    Failure::TlsFailed,
    Failure::IdentityExpired,
    Failure::IdentityMissing,
    Failure::TlsRequired,
    Failure::ResponseBroken,
    Failure::ResponseInvalid,
    Failure::RequestInvalid,
    Failure::RequestTooLarge,
    Failure::RequestTooSlow,
    Failure::RequestUnsupported,
    Failure::RequestBroken,
    Failure::Canceled,
];

impl Failure {
    /// What the failure becomes.
    pub const fn row(self) -> Row {
        const UNKNOWN: u32 = 2;
        const DEADLINE_EXCEEDED: u32 = 4;
        const PERMISSION_DENIED: u32 = 7;
        const RESOURCE_EXHAUSTED: u32 = 8;
        const UNIMPLEMENTED: u32 = 12;
        const INTERNAL: u32 = 13;
        const UNAVAILABLE: u32 = 14;
        const CANCELED: u32 = 1;
        const UNREACHED: Row = Row {
            code: "",
            side: Side::Server,
            status: StatusCode::SERVICE_UNAVAILABLE,
            grpc: UNAVAILABLE,
            unsent: true,
            warn: true,
        };
        const BROKEN: Row = Row { status: StatusCode::BAD_GATEWAY, unsent: false, ..UNREACHED };
        const CLIENT: Row =
            Row { side: Side::Client, status: StatusCode::BAD_REQUEST, grpc: CANCELED, warn: false, ..BROKEN };
        match self {
            Self::NoEndpoints => Row { code: "no-endpoints", ..UNREACHED },
            Self::ConnectRefused => Row { code: "connect-refused", ..UNREACHED },
            Self::ConnectTimeout => Row { code: "connect-timeout", ..UNREACHED },
            Self::ConnectFailed => Row { code: "connect-failed", ..UNREACHED },
            Self::ConnectionLost => Row { code: "connection-lost", ..UNREACHED },
            Self::TlsUnavailable => Row { code: "tls-required", ..UNREACHED },
            Self::TlsFailed => Row { code: "tls-failed", ..UNREACHED },
            Self::IdentityExpired => Row { code: "identity-expired", ..UNREACHED },
            Self::IdentityMissing => Row { code: "identity-missing", ..UNREACHED },
            Self::TlsRequired => Row {
                code: "tls-required",
                side: Side::Client,
                status: StatusCode::FORBIDDEN,
                grpc: PERMISSION_DENIED,
                ..UNREACHED
            },
            Self::ResponseBroken => Row { code: "response-broken", ..BROKEN },
            Self::ResponseInvalid => Row { code: "response-invalid", grpc: UNKNOWN, ..BROKEN },
            Self::RequestInvalid => Row { code: "request-invalid", grpc: INTERNAL, ..CLIENT },
            Self::RequestTooLarge => Row {
                code: "request-head-too-large",
                status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                grpc: RESOURCE_EXHAUSTED,
                ..CLIENT
            },
            Self::RequestTooSlow => {
                Row { code: "request-timeout", status: StatusCode::REQUEST_TIMEOUT, grpc: DEADLINE_EXCEEDED, ..CLIENT }
            }
            Self::RequestUnsupported => {
                Row { code: "request-unsupported", status: StatusCode::NOT_IMPLEMENTED, grpc: UNIMPLEMENTED, ..CLIENT }
            }
            Self::RequestBroken => Row { code: "request-broken", ..CLIENT },
            Self::Canceled => Row { code: "canceled", ..CLIENT },
        }
    }

    /// The failure with this `conduit-error` code; the first, where the two sides of a connection share one.
    pub fn from_code(code: &str) -> Option<Self> {
        FAILURES.into_iter().find(|failure| failure.row().code == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_is_in_the_list_with_a_code_of_its_own_but_what_both_sides_require() {
        for failure in FAILURES {
            let expected = if failure == Failure::TlsRequired { Failure::TlsUnavailable } else { failure };
            assert_eq!(Failure::from_code(failure.row().code), Some(expected));
        }
        assert_eq!(Failure::from_code("by-moonlight"), None);
    }

    #[test]
    fn what_may_have_reached_an_application_is_never_called_unsent() {
        let unsent: Vec<_> = FAILURES.into_iter().filter(|failure| failure.row().unsent).collect();
        let proven = [
            Failure::NoEndpoints,
            Failure::ConnectRefused,
            Failure::ConnectTimeout,
            Failure::ConnectFailed,
            Failure::ConnectionLost,
            Failure::TlsUnavailable,
            Failure::TlsFailed,
            Failure::IdentityExpired,
            Failure::IdentityMissing,
            Failure::TlsRequired,
        ];
        assert_eq!(unsent, proven);
    }

    #[test]
    fn the_reference_lists_every_code_as_the_table_has_it() {
        let reference = include_str!("../../../docs/reference/errors.md");
        for failure in FAILURES {
            let Row { code, side, status, grpc, unsent, .. } = failure.row();
            let side = match side {
                Side::Client => "client",
                Side::Server => "server",
            };
            let sent = if unsent { "no" } else { "maybe" };
            let line = format!("| `{code}` | {failure} | {side} | {} | {grpc} | {sent} |", status.as_u16());
            assert!(reference.contains(&line), "docs/reference/errors.md needs the line\n{line}");
        }
    }
}
