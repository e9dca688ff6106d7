//! What goes over the discovery stream: to proxies, what the operator says; to the operator, what proxies say.

use conduit_model::{
    EndpointUpdate, Inbound, Outbound, Target, WireError,
    wire::{WatchRequest, WatchResponse, invalid::Meanwhile, watch_request, watch_response::Update},
};
use prost::Message;
use std::fmt::Debug;

/// What is understood means the same when it is written and read again; what is not is refused with a field.
pub fn holds(bytes: &[u8]) {
    if let Ok(WatchResponse { target, update, .. }) = WatchResponse::decode(bytes) {
        if let Some(target) = target {
            survives(target, Target::from_wire, |target| target.to_wire());
        }
        match update {
            Some(Update::Inbound(inbound)) => survives(inbound, Inbound::from_wire, Inbound::to_wire),
            Some(Update::Outbound(outbound)) => survives(outbound, Outbound::from_wire, Outbound::to_wire),
            Some(Update::Endpoints(endpoints)) => {
                survives(endpoints, EndpointUpdate::from_wire, EndpointUpdate::to_wire)
            }
            Some(Update::Invalid(invalid)) => match invalid.meanwhile {
                Some(Meanwhile::Inbound(inbound)) => survives(inbound, Inbound::from_wire, Inbound::to_wire),
                Some(Meanwhile::Outbound(outbound)) => survives(outbound, Outbound::from_wire, Outbound::to_wire),
                None => {}
            },
            None => {}
        }
    }
    if let Ok(WatchRequest { message: Some(message) }) = WatchRequest::decode(bytes) {
        let target = match message {
            watch_request::Message::Subscribe(subscribe) => subscribe.target,
            watch_request::Message::Unsubscribe(unsubscribe) => unsubscribe.target,
            watch_request::Message::Acknowledge(acknowledge) => acknowledge.target,
        };
        if let Some(target) = target {
            survives(target, Target::from_wire, |target| target.to_wire());
        }
    }
}

fn survives<W, T: PartialEq + Debug>(
    message: W,
    from_wire: impl Fn(W) -> Result<T, WireError>,
    to_wire: impl Fn(&T) -> W,
) {
    match from_wire(message) {
        Ok(read) => assert_eq!(from_wire(to_wire(&read)).as_ref(), Ok(&read)),
        Err(error) => assert!(!error.field.is_empty(), "{error}"),
    }
}
