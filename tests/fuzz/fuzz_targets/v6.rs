#![no_main]

#[path = "../v6.rs"]
mod v6;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| v6::packets(bytes));
