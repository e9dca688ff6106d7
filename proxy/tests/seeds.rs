//! What `make fuzz` starts from, and what it has found, without the fuzzer.
#![allow(missing_docs, unreachable_pub)]

#[path = "../../fuzz/properties/client_hello.rs"]
mod client_hello;
#[path = "../../fuzz/properties/http1_head.rs"]
mod http1_head;
#[path = "../../fuzz/properties/http1_response.rs"]
mod http1_response;
#[path = "../../fuzz/properties/second_reader.rs"]
mod second_reader;
#[path = "../../fuzz/properties/seeds.rs"]
mod seeds;
#[path = "../../fuzz/properties/tls_records.rs"]
mod tls_records;

#[test]
fn the_seeds_of_client_hello_hold() {
    seeds::replay("client_hello", client_hello::holds);
}

#[test]
fn the_seeds_of_http1_head_hold() {
    seeds::replay("http1_head", http1_head::holds);
}

#[test]
fn the_seeds_of_http1_response_hold() {
    seeds::replay("http1_response", http1_response::holds);
}

#[test]
fn the_seeds_of_tls_records_hold() {
    seeds::replay("tls_records", tls_records::holds);
}
