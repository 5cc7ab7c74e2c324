//! A wakeup on which threads of a model can sleep, in place of an event descriptor.

use crate::explore::sync::{Condvar, Mutex};
use powerfail_device::worker_lock::Wakeup;

pub(crate) struct Bedside {
    rings: Mutex<bool>,
    heard: Condvar,
}

impl Bedside {
    pub(crate) fn new() -> Bedside {
        Bedside { rings: Mutex::new(false), heard: Condvar::new() }
    }

    /// Sleeps until the wakeup is signaled, and leaves it signaled. If it never is, the model
    /// reports a deadlock.
    pub(crate) fn sleep(&self) {
        let mut rings = self.rings.lock().unwrap();
        while !*rings {
            rings = self.heard.wait(rings).unwrap();
        }
    }
}

impl Wakeup for Bedside {
    fn signal(&self) {
        *self.rings.lock().unwrap() = true;
        self.heard.notify_all();
    }

    fn clear(&self) {
        *self.rings.lock().unwrap() = false;
    }
}
