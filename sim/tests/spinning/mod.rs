//! A device whose threads are always runnable and never make progress.

use powerfail::dut::Spec;
use powerfail::dut::{DeviceUnderTest, Host, Medium, Progress};
use powerfail::guest::RingPlan;
use powerfail::guest::wire::feature;
use powerfail::host::disk::SimDisk;

#[derive(Clone, Debug)]
pub(crate) struct Spinning;

impl DeviceUnderTest for Spinning {
    type Setup = ();

    const MEDIUM: Medium = Medium::Simulated;

    fn open((): &(), _spec: &Spec, _disk: &SimDisk, _device: u8) -> Spinning {
        Spinning
    }

    fn offered(&self) -> u64 {
        feature::VERSION_1 | feature::FLUSH
    }

    fn config_read(&mut self, _offset: u64, out: &mut [u8]) {
        out.fill(0);
    }

    fn start(&mut self, _rings: &[RingPlan]) {}

    fn step(&mut self, _queue: u16, _host: &mut Host<'_>) -> Progress {
        Progress::Busy
    }

    fn begin_reset(&mut self, _host: &mut Host<'_>) {}

    fn reset_done(&mut self) -> bool {
        false
    }
}
