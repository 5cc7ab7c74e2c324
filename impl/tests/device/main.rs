//! The device from the view of its driver and its disk. Each file tests one claim; `support` is the
//! language of the tests.
#![allow(unreachable_pub, reason = "a test program exports nothing")]

#[path = "../conformance/body.rs"]
mod conformance;
mod disks;
mod flushing;
mod framing;
mod granules;
mod judging;
mod lifecycle;
mod negotiating;
mod notifying;
#[cfg(target_os = "linux")]
mod over_a_ring;
mod reconnecting;
mod resetting;
mod support;
mod transfers;
mod wire;
