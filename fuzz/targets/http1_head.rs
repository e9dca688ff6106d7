//! Runs the property of the same name against the fuzzer's inputs.
#![no_main]

#[path = "../properties/http1_head.rs"]
mod property;
#[path = "../properties/second_reader.rs"]
mod second_reader;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| property::holds(bytes));
