//! Runs the property of the same name against the fuzzer's inputs.
#![no_main]

#[path = "../properties/tls_records.rs"]
mod property;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| property::holds(bytes));
