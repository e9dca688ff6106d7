//! Whether a response counts as a success.

use crate::wire::{self, WireError, each, required};
use http::StatusCode;
use std::ops::RangeInclusive;

/// How a response counts in `response_total`'s label `classification`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Classification {
    Success,
    Failure,
}

/// One rule of a route on how its responses count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseClass {
    /// Which responses it is about.
    pub condition: ResponseMatch,
    /// How they count.
    pub classification: Classification,
}

/// A condition on a response's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseMatch {
    /// Every one of these; never empty.
    All(Vec<ResponseMatch>),
    /// At least one of these; never empty.
    Any(Vec<ResponseMatch>),
    /// Not this one.
    Not(Box<ResponseMatch>),
    /// A status code within this range, 100 to 599.
    Status(RangeInclusive<u16>),
}

/// What a response said of its gRPC status, in a header or in a trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcOutcome {
    /// The response was not gRPC.
    NotGrpc,
    /// The stream ended without a `grpc-status`, or with one that is no number.
    Missing,
    /// The status, 0 is OK.
    Status(u32),
}

/// gRPC codes that count as failures where no response class says otherwise: UNKNOWN, DEADLINE_EXCEEDED,
/// PERMISSION_DENIED, INTERNAL, UNAVAILABLE and DATA_LOSS. The others are answers to the caller.
const GRPC_FAILURES: [u32; 6] = [2, 4, 7, 13, 14, 15];

/// Judges a response that came to its end: the first class that matches its status decides; then its gRPC status, of
/// which a missing one is a failure; then whether the HTTP status is 5xx.
pub fn classify(classes: &[ResponseClass], status: StatusCode, grpc: GrpcOutcome) -> Classification {
    if let Some(class) = classes.iter().find(|class| class.condition.matches(status)) {
        return class.classification;
    }
    let failed = status.is_server_error()
        || match grpc {
            GrpcOutcome::NotGrpc => false,
            GrpcOutcome::Missing => true,
            GrpcOutcome::Status(code) => GRPC_FAILURES.contains(&code),
        };
    if failed { Classification::Failure } else { Classification::Success }
}

impl ResponseMatch {
    /// Whether a response with this status meets the condition.
    pub fn matches(&self, status: StatusCode) -> bool {
        match self {
            Self::All(all) => all.iter().all(|m| m.matches(status)),
            Self::Any(any) => any.iter().any(|m| m.matches(status)),
            Self::Not(not) => !not.matches(status),
            Self::Status(range) => range.contains(&status.as_u16()),
        }
    }

    fn to_wire(&self) -> wire::ResponseMatch {
        use wire::response_match::{List, Match, StatusRange};
        let list = |matches: &[Self]| List { matches: matches.iter().map(Self::to_wire).collect() };
        wire::ResponseMatch {
            r#match: Some(match self {
                Self::All(all) => Match::All(list(all)),
                Self::Any(any) => Match::Any(list(any)),
                Self::Not(not) => Match::Not(Box::new(not.to_wire())),
                Self::Status(range) => {
                    Match::Status(StatusRange { min: (*range.start()).into(), max: (*range.end()).into() })
                }
            }),
        }
    }

    fn from_wire(message: wire::ResponseMatch) -> Result<Self, WireError> {
        use wire::response_match::{List, Match};
        let list = |field: &str, list: List| match list.matches.is_empty() {
            true => Err(WireError::new(field, "must not be empty")),
            false => each(field, list.matches, Self::from_wire),
        };
        let code = |field: &str, code: u32| {
            u16::try_from(code)
                .ok()
                .filter(|code| (100..=599).contains(code))
                .ok_or_else(|| WireError::new(field, format!("must be a status from 100 to 599, was {code}")))
        };
        Ok(match required("match", message.r#match)? {
            Match::All(all) => Self::All(list("all", all)?),
            Match::Any(any) => Self::Any(list("any", any)?),
            Match::Not(not) => Self::Not(Box::new(Self::from_wire(*not).map_err(|e| e.within("not"))?)),
            Match::Status(range) => {
                let (min, max) = (code("status.min", range.min)?, code("status.max", range.max)?);
                if min > max {
                    return Err(WireError::new("status.max", format!("must not be below min, {min}, was {max}")));
                }
                Self::Status(min..=max)
            }
        })
    }
}

impl ResponseClass {
    /// Writes the class as a message.
    pub fn to_wire(&self) -> wire::ResponseClass {
        wire::ResponseClass {
            condition: Some(self.condition.to_wire()),
            is_failure: self.classification == Classification::Failure,
        }
    }

    /// Reads a class.
    pub fn from_wire(message: wire::ResponseClass) -> Result<Self, WireError> {
        Ok(Self {
            condition: ResponseMatch::from_wire(required("condition", message.condition)?)
                .map_err(|e| e.within("condition"))?,
            classification: if message.is_failure { Classification::Failure } else { Classification::Success },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(range: RangeInclusive<u16>, classification: Classification) -> ResponseClass {
        ResponseClass { condition: ResponseMatch::Status(range), classification }
    }

    #[test]
    fn without_classes_the_grpc_status_decides_and_then_5xx() {
        use Classification::{Failure, Success};
        use GrpcOutcome::{Missing, NotGrpc, Status};
        for (status, grpc, expected) in [
            (200, NotGrpc, Success),
            (404, NotGrpc, Success),
            (500, NotGrpc, Failure),
            (599, NotGrpc, Failure),
            (200, Status(0), Success),
            (200, Status(5), Success),
            (200, Status(13), Failure),
            (200, Status(14), Failure),
            (200, Missing, Failure),
            (503, Status(0), Failure),
        ] {
            let got = classify(&[], StatusCode::from_u16(status).unwrap(), grpc);
            assert_eq!(got, expected, "{status} with {grpc:?}");
        }
    }

    #[test]
    fn the_first_class_that_matches_decides_even_against_the_grpc_status() {
        let classes = [class(404..=404, Classification::Failure), class(400..=599, Classification::Success)];
        let judge = |status, grpc| classify(&classes, StatusCode::from_u16(status).unwrap(), grpc);
        assert_eq!(judge(404, GrpcOutcome::NotGrpc), Classification::Failure);
        assert_eq!(judge(503, GrpcOutcome::Status(14)), Classification::Success);
        assert_eq!(judge(200, GrpcOutcome::Status(14)), Classification::Failure, "no class is about 200");
    }

    #[test]
    fn a_class_survives_the_wire() {
        let class = ResponseClass {
            condition: ResponseMatch::All(vec![
                ResponseMatch::Status(500..=599),
                ResponseMatch::Not(Box::new(ResponseMatch::Any(vec![ResponseMatch::Status(503..=503)]))),
            ]),
            classification: Classification::Failure,
        };
        assert_eq!(ResponseClass::from_wire(class.to_wire()), Ok(class));
    }

    #[test]
    fn a_range_that_runs_backwards_is_refused() {
        #[allow(clippy::reversed_empty_ranges)]
        let message = class(500..=400, Classification::Failure).to_wire();
        let error = ResponseClass::from_wire(message).unwrap_err();
        assert_eq!(error.to_string(), "condition.status.max: must not be below min, 500, was 400");
    }
}
