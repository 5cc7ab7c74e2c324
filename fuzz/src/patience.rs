//! Allowed failures of a simulated host: those of the run's options, and a limited number of
//! transient ones.

use powerfail::host::disk::Outcome;

/// The most transient errors in a row that do not count as a failure of the host.
const MOST: u32 = 8;

/// The number of transient errors in a row.
#[derive(Debug, Default)]
pub(crate) struct Patience(u32);

impl Patience {
    /// Whether an operation may end like this now. Counts it, if it is a transient error.
    pub(crate) fn allows(&mut self, outcome: Outcome, host_may_fail: bool) -> bool {
        let Outcome::Failed { errno, .. } = outcome else {
            self.0 = 0;
            return true;
        };
        let transient = errno.is_put_off();
        let allowed = if transient { self.0 <= MOST } else { host_may_fail };
        self.0 += u32::from(transient && allowed);
        allowed
    }
}
