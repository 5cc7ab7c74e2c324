//! See [`powerfail_fuzz::vhost_user`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| powerfail_fuzz::vhost_user::target(bytes));

#[cfg(not(fuzzing))]
fn main() {
    powerfail_fuzz::explain("vhost_user");
}
