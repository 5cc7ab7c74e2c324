//! See [`powerfail_fuzz::config`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| powerfail_fuzz::config::target(bytes));

#[cfg(not(fuzzing))]
fn main() {
    powerfail_fuzz::explain("config");
}
