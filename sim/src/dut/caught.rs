//! Panics of a device under test, apart from our own.
//!
//! A panic of the device is a result and is reported like any other, so nothing is printed when it
//! happens. Any other panic is a mistake of this program and says so. A panic is the device's iff
//! it happens inside [`caught`], on this thread.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// How many calls of [`caught`] this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Calls something that steps a device, and returns what it panicked with if it did.
pub(crate) fn caught<T>(steps: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    DEPTH.set(DEPTH.get() + 1);
    let done = catch_unwind(AssertUnwindSafe(steps));
    DEPTH.set(DEPTH.get() - 1);
    done
}

/// Whether a panic on this thread would be caught as a device's.
pub(crate) fn is_of_a_device() -> bool {
    DEPTH.get() > 0
}

/// What a panic said.
pub(crate) fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("It did not say why.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_devices_within_and_ours_without() {
        assert!(!is_of_a_device());
        let inner = caught(|| {
            assert!(is_of_a_device());
            let nested = caught(|| panic!("a device of {}", "its own"));
            assert!(is_of_a_device());
            said(&*nested.unwrap_err()).to_owned()
        });
        assert_eq!(inner.ok().as_deref(), Some("a device of its own"));
        assert!(!is_of_a_device());
    }
}
