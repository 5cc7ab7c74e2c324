//! The device breaks no promise, and its twin with a mistake does.

#[allow(dead_code, reason = "a test has no use for `main`")]
#[path = "../src/main.rs"]
mod device;

use device::Tiny;
use powerfail::check;
use powerfail::dut::Rule;

#[test]
fn the_device_is_silent() {
    check::<Tiny>(false, 20_000).assert_silent();
}

#[test]
fn a_twin_that_forgets_a_write_is_caught() {
    check::<Tiny>(true, 20_000).assert_finds(Rule::StaleRead);
}
