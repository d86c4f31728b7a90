#![no_main]

#[path = "../tftp.rs"]
mod tftp;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tftp::conversation(bytes));
