//! How a simulated host may fail: as the run allows it, and without putting things off for ever.

use powerfail::host::disk::Outcome;

/// Errors by which a host puts an operation off: EINTR and EAGAIN.
const TRANSIENT: [i32; 2] = [4, 11];
/// A host that puts off more operations than this in a row is one that fails.
const MOST: u32 = 8;

/// How many operations were put off in a row.
#[derive(Debug, Default)]
pub(crate) struct Patience(u32);

impl Patience {
    /// Whether an operation may end like this now; if so, it counts.
    pub(crate) fn allows(&mut self, outcome: Outcome, host_may_fail: bool) -> bool {
        let Outcome::Failed { errno, .. } = outcome else {
            self.0 = 0;
            return true;
        };
        let transient = TRANSIENT.contains(&errno);
        let allowed = if transient { self.0 <= MOST } else { host_may_fail };
        self.0 += u32::from(transient && allowed);
        allowed
    }
}
