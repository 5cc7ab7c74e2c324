//! A persistent memory as its driver and its backing see it. Each file claims one thing; `support`
//! is the language the tests speak.
#![allow(unreachable_pub, reason = "a test program exports nothing")]

mod flushing;
mod framing;
mod negotiating;
mod resetting;
mod support;
mod wire;
