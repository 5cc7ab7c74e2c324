//! See [`powerfail_fuzz::inflight`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| powerfail_fuzz::inflight::target(bytes));

#[cfg(not(fuzzing))]
fn main() {
    powerfail_fuzz::explain("inflight");
}
