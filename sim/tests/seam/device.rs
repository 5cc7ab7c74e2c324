//! A small device on a medium of its own, for tests of the seam: write-through, over a `Vec`.

use powerfail::dut::toolkit::{DeviceRing, serve};
use powerfail::dut::{DeviceUnderTest, End, Host, Medium, Progress, Spec};
use powerfail::guest::RingPlan;
use powerfail::host::disk::SimDisk;

/// What a [`Tiny`] does besides serving requests correctly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Quirk {
    #[default]
    None,
    /// It fails one write in eight where the host may fail.
    Fails,
    /// It does so and reports it.
    FailsAndReports,
    /// It reports a failed sync at its first write, and then fails writes.
    SyncFails,
    /// It reports a failure, and then fails the next request that arrives.
    FailsLater,
    /// It panics at the third step.
    Panics,
    /// It ignores the start index of its rings.
    StartsAtZero,
}

/// The device. With `WRAPS`, it says that rings may start anywhere.
#[derive(Clone)]
pub(crate) struct Tiny<const WRAPS: bool = true> {
    bytes: Vec<u8>,
    serial: [u8; 20],
    rings: Vec<DeviceRing>,
    quirk: Quirk,
    writes: u32,
    steps: u32,
    reported: bool,
}

impl<const WRAPS: bool> DeviceUnderTest for Tiny<WRAPS> {
    type Setup = Quirk;
    const MEDIUM: Medium = Medium::Own;
    const RING_BASE: bool = WRAPS;

    fn open(quirk: &Quirk, spec: &Spec, disk: &SimDisk, device: u8) -> Self {
        Tiny {
            bytes: disk.image(device).to_vec(),
            serial: spec.serial,
            rings: Vec::new(),
            quirk: *quirk,
            writes: 0,
            steps: 0,
            reported: false,
        }
    }

    fn restart(&mut self, _: &Quirk, _: &Spec, _: &mut Host<'_>, _: End) {
        self.reported = false;
    }

    fn offered(&self) -> u64 {
        1 << 32
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        let capacity = self.bytes.len() as u64 / 512;
        out.copy_from_slice(&(if offset == 0 { capacity } else { 0 }).to_le_bytes()[..out.len()]);
    }

    fn start(&mut self, rings: &[RingPlan]) {
        let mut rings = rings.to_vec();
        if self.quirk == Quirk::StartsAtZero {
            rings.iter_mut().for_each(|ring| ring.base = 0);
        }
        self.rings = rings.into_iter().map(DeviceRing::new).collect();
    }

    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        self.steps += 1;
        assert!(self.quirk != Quirk::Panics || self.steps < 3, "the third step");
        let quirk = self.quirk;
        let Some(ring) = self.rings.get_mut(usize::from(queue)) else { return Progress::Idle };
        let fails_later = quirk == Quirk::FailsLater && host.may_fail;
        if fails_later && !self.reported && ring.waiting(&host.ram) == 0 {
            host.failed();
            self.reported = true;
        }
        let (bytes, serial, writes) = (&mut self.bytes, self.serial, &mut self.writes);
        let (may_fail, reported) = (host.may_fail, &mut self.reported);
        let (mut failed, mut failed_sync) = (false, false);
        let progress = serve(ring, &host.ram, |request| {
            let len = if request.kind == 0 { request.data_in } else { request.data_out } as usize;
            let start = request.sector.saturating_mul(512) as usize;
            match (request.kind, bytes.get_mut(start..start.saturating_add(len))) {
                (0, Some(place)) if len.is_multiple_of(512) => return (0, place.to_vec()),
                (1, Some(place)) if len.is_multiple_of(512) => {
                    *writes += 1;
                    match quirk {
                        Quirk::Fails | Quirk::FailsAndReports
                            if may_fail && writes.is_multiple_of(8) =>
                        {
                            failed = quirk == Quirk::FailsAndReports;
                            return (1, Vec::new());
                        }
                        Quirk::FailsLater if *reported => {
                            *reported = false;
                            return (1, Vec::new());
                        }
                        Quirk::SyncFails if may_fail => {
                            failed_sync = !*reported;
                            if std::mem::replace(reported, true) {
                                return (1, Vec::new());
                            }
                        }
                        _ => {}
                    }
                    place.copy_from_slice(&request.data(&host.ram));
                }
                (8, _) if request.data_in == 20 => return (0, serial.to_vec()),
                _ => return (2, Vec::new()),
            }
            (0, Vec::new())
        });
        if failed {
            host.failed();
        }
        if failed_sync {
            host.failed_sync();
        }
        progress
    }

    fn begin_reset(&mut self, _: &mut Host<'_>) {
        self.rings.clear();
    }

    fn needs_reset(&mut self) -> bool {
        self.rings.iter().any(DeviceRing::is_broken)
    }
}
