//! A persistent memory from the view of its driver and its backing. Each file tests one claim;
//! `support` is the language of the tests.
#![allow(unreachable_pub, reason = "a test program exports nothing")]

mod flushing;
mod framing;
mod negotiating;
mod resetting;
mod support;
mod wire;
