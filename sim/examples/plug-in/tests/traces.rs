//! Fixed bugs of the device stay fixed.

#[allow(dead_code, reason = "a test has no use for `main`")]
#[path = "../src/main.rs"]
mod device;

#[test]
fn no_saved_trace_fails() {
    powerfail::replay_dir::<device::Tiny>("traces").unwrap().assert_none_fails();
}
