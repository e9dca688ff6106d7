//! What `make fuzz` starts from, and what it has found, without the fuzzer.
#![allow(missing_docs, unreachable_pub)]

#[path = "../../fuzz/properties/discovery_message.rs"]
mod discovery_message;
#[path = "../../fuzz/properties/seeds.rs"]
mod seeds;

#[test]
fn the_seeds_of_discovery_message_hold() {
    seeds::replay("discovery_message", discovery_message::holds);
}
