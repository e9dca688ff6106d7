//! What `make fuzz` starts from, and what it has found, without the fuzzer.
#![allow(missing_docs, unreachable_pub)]

#[path = "../../fuzz/properties/seeds.rs"]
mod seeds;
#[path = "../../fuzz/properties/signing_request.rs"]
mod signing_request;
#[path = "../../fuzz/properties/token.rs"]
mod token;

#[test]
fn the_seeds_of_signing_request_hold() {
    seeds::replay("signing_request", signing_request::holds);
}

#[test]
fn the_seeds_of_token_hold() {
    seeds::replay("token", token::holds);
}
