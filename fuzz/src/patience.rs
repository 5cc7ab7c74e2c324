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
        let put_off = matches!(outcome, Outcome::Failed { errno, .. } if errno.is_put_off());
        let allowed = match outcome {
            _ if put_off => self.0 <= MOST,
            _ if outcome.is_failure() => host_may_fail,
            _ => {
                self.0 = 0;
                true
            }
        };
        self.0 += u32::from(put_off && allowed);
        allowed
    }
}
