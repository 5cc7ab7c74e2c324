//! Panics of a device under test, apart from our own.
//!
//! A panic of the device is a result and is reported like any other, so nothing is printed when it
//! happens. Any other panic is a mistake of this program: it says so, and it ends the program. A
//! panic is the device's iff it happens inside [`of_device`], on this thread; that includes
//! assertions of the simulated disk about operations that the device submits.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

thread_local! {
    /// Whether this thread is in a call of [`of_device`]. A panic leaves it as it was at the panic,
    /// until [`caught`] looks.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread is in a call of [`caught`].
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Calls a device.
#[inline]
pub(crate) fn of_device<T>(call: impl FnOnce() -> T) -> T {
    let before = INSIDE.replace(true);
    let done = call();
    INSIDE.set(before);
    done
}

/// Calls something that steps a device, and returns what the device panicked with if it did.
///
/// # Panics
/// If something else panics, with the same payload.
pub(crate) fn caught<T>(steps: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    let before = INSIDE.replace(false);
    let catching = CATCHING.replace(true);
    let done = catch_unwind(AssertUnwindSafe(steps));
    CATCHING.set(catching);
    match (done, INSIDE.replace(before)) {
        (Err(panic), false) => resume_unwind(panic),
        (done, _) => done,
    }
}

/// Whether a panic on this thread would be a device's, and caught as such.
pub(crate) fn is_of_a_device() -> bool {
    CATCHING.get() && INSIDE.get()
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
    fn a_panic_is_a_devices_within_a_call_of_it_and_ours_without() {
        assert!(!is_of_a_device());
        let theirs = caught(|| {
            assert!(!is_of_a_device(), "the step of a world is not the device's");
            of_device(|| {
                assert!(is_of_a_device());
                panic!("a device of {}", "its own")
            })
        });
        assert_eq!(said(&*theirs.unwrap_err()), "a device of its own");
        assert!(!is_of_a_device());

        of_device(|| assert!(!is_of_a_device(), "nothing would report it"));
        let done = caught(|| of_device(|| 1) + 1);
        assert_eq!(done.unwrap(), 2);
    }

    #[test]
    fn a_panic_of_ours_is_not_caught() {
        let ours = catch_unwind(AssertUnwindSafe(|| {
            caught(|| {
                of_device(|| ());
                panic!("the oracle is wrong")
            })
        }));
        assert_eq!(said(&*ours.map(|_| ()).unwrap_err()), "the oracle is wrong");
        assert!(!is_of_a_device());
    }
}
