//! See [`powerfail_fuzz::run`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| powerfail_fuzz::run::target(bytes));

#[cfg(not(fuzzing))]
fn main() {
    powerfail_fuzz::explain("run");
}
