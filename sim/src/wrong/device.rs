//! Devices that are wrong on purpose: wrappers around the guest's side of the seam.

use powerfail_model::Rule;

use crate::blk::{Blk, Registers};
use crate::disk::SimDisk;
use crate::dut::{DeviceUnderTest, Host, Progress};
use crate::guest::RingPlan;
use crate::spec::Spec;
use crate::wire::{config, feature};

/// A promise a device breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeviceFault {
    /// A reset shows as done while operations are in the host's hands, and they land later.
    #[default]
    LateAfterReset,
    /// A guest that refuses FLUSH gets a write-back cache all the same.
    FlushRefusalIgnored,
    /// `writeback` reads as it did before the reset; the cache mode does not follow.
    WritebackNotReset,
    /// Now and then a kick is lost.
    LostKick,
    /// Now and then a signal is lost.
    LostSignal,
    /// Now and then a head is returned twice.
    UsedTwice,
    /// A reset forgets that a sync had failed.
    FailureForgottenAtReset,
    /// The used length is one too many.
    LengthOneMore,
    /// Writes to a read-only disk are served.
    ReadOnlyServed,
    /// Features that were not offered are accepted.
    AcceptsAnything,
    /// `writeback` always reads 1.
    WritebackStuck,
    /// FLUSH is offered only if the host can sync, but CONFIG_WCE always.
    OfferUnclosed,
    /// A reset never shows.
    ResetNeverShows,
}

impl DeviceFault {
    /// All of them.
    pub const ALL: [DeviceFault; 13] = [
        DeviceFault::LateAfterReset,
        DeviceFault::FlushRefusalIgnored,
        DeviceFault::WritebackNotReset,
        DeviceFault::LostKick,
        DeviceFault::LostSignal,
        DeviceFault::UsedTwice,
        DeviceFault::FailureForgottenAtReset,
        DeviceFault::LengthOneMore,
        DeviceFault::ReadOnlyServed,
        DeviceFault::AcceptsAnything,
        DeviceFault::WritebackStuck,
        DeviceFault::OfferUnclosed,
        DeviceFault::ResetNeverShows,
    ];

    fn facts(self) -> (&'static str, &'static str, &'static [Rule]) {
        match self {
            DeviceFault::LateAfterReset => (
                "late-after-reset",
                "a reset shows as done while writes are in flight; they land later",
                &[
                    Rule::LateEffect,
                    Rule::StaleRead,
                    Rule::ReadsDisagree,
                    Rule::WroteAfterEnd,
                    Rule::ImageChanged,
                ],
            ),
            DeviceFault::FlushRefusalIgnored => (
                "flush-refusal-ignored",
                "a guest that refuses FLUSH gets a write-back cache all the same",
                &[Rule::FlushlessWriteLost],
            ),
            DeviceFault::WritebackNotReset => (
                "writeback-not-reset",
                "writeback reads as before the reset, and the cache mode does not follow",
                &[Rule::WriteThroughLost],
            ),
            DeviceFault::LostKick => {
                ("lost-kick", "now and then a kick is lost", &[Rule::NeverUsed])
            }
            DeviceFault::LostSignal => {
                ("lost-signal", "now and then a signal is lost", &[Rule::SignalMissing])
            }
            DeviceFault::UsedTwice => {
                ("used-twice", "now and then a head is returned twice", &[
                    Rule::UsedTwice,
                    Rule::UsedRingBroken,
                ])
            }
            DeviceFault::FailureForgottenAtReset => (
                "failure-forgotten-at-reset",
                "a reset forgets that a sync had failed",
                &[Rule::StableWriteLost],
            ),
            DeviceFault::LengthOneMore => {
                ("length-one-more", "the used length is one too many", &[Rule::UsedLength])
            }
            DeviceFault::ReadOnlyServed => (
                "read-only-served",
                "writes to a read-only disk are served",
                &[Rule::ReadOnlyServed, Rule::MediumReadOnlyChanged],
            ),
            DeviceFault::AcceptsAnything => (
                "accepts-anything",
                "features that were not offered are accepted",
                &[Rule::UnofferedAccepted],
            ),
            DeviceFault::WritebackStuck => (
                "writeback-stuck",
                "writeback always reads 1",
                &[Rule::WritebackUntrue, Rule::WritebackStart],
            ),
            DeviceFault::OfferUnclosed => (
                "offer-unclosed",
                "CONFIG_WCE is offered without FLUSH",
                &[Rule::OfferBroken],
            ),
            DeviceFault::ResetNeverShows => {
                ("reset-never-shows", "a reset never shows as done", &[Rule::ResetNotShown])
            }
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// What is wrong, in a line.
    #[must_use]
    pub fn summary(self) -> &'static str {
        self.facts().1
    }

    /// The rules that should notice.
    #[must_use]
    pub fn caught_by(self) -> &'static [Rule] {
        self.facts().2
    }
}

/// Our device, wrong on purpose.
#[derive(Clone, Debug)]
pub struct WrongDevice {
    inner: Blk,
    fault: DeviceFault,
    spec: Spec,
    rings: Vec<RingPlan>,
    count: u32,
    /// `writeback` as it was read before the reset.
    stale_mode: Option<u8>,
    mode: u8,
}

impl WrongDevice {
    fn now_and_then(&mut self) -> bool {
        self.count += 1;
        self.count.is_multiple_of(8)
    }

    fn used_idx(&self, queue: u16, host: &Host<'_>) -> u16 {
        self.rings.get(usize::from(queue)).map_or(0, |ring| {
            let bytes = host.ram.read::<2>(ring.used + 2);
            u16::from_le_bytes(bytes)
        })
    }

    /// Spoils what the last used element says, if a step has just added one.
    fn spoil_used(&mut self, queue: u16, before: u16, host: &mut Host<'_>) {
        let index = self.used_idx(queue, host);
        if index == before {
            return;
        }
        let ring = self.rings[usize::from(queue)];
        let last = index.wrapping_sub(1);
        let at = |index: u16| ring.used + 4 + 8 * u32::from(index % ring.size);
        let element = host.ram.read::<8>(at(last));
        match self.fault {
            DeviceFault::LengthOneMore => {
                let [.., a, b, c, d] = element;
                let len = u32::from_le_bytes([a, b, c, d]) + 1;
                host.ram.write(at(last) + 4, &len.to_le_bytes());
            }
            DeviceFault::UsedTwice => {
                if self.now_and_then() {
                    host.ram.write(at(index), &element);
                    host.ram.write(ring.used + 2, &index.wrapping_add(1).to_le_bytes());
                }
            }
            _ => {}
        }
    }
}

impl DeviceUnderTest for WrongDevice {
    type Setup = DeviceFault;

    const ON_SIM_DISK: bool = true;
    const RING_BASE: bool = true;

    fn open(setup: &DeviceFault, spec: &Spec, disk: &SimDisk, device: u8) -> WrongDevice {
        let mut believed = *spec;
        if *setup == DeviceFault::ReadOnlyServed {
            believed.disk.read_only = false;
        }
        WrongDevice {
            inner: Blk::open(&None, &believed, disk, device),
            fault: *setup,
            spec: *spec,
            rings: Vec::new(),
            count: 0,
            stale_mode: None,
            mode: 0,
        }
    }

    fn restart(&mut self, setup: &DeviceFault, spec: &Spec, disk: &SimDisk, device: u8) {
        let count = self.count;
        *self = WrongDevice::open(setup, spec, disk, device);
        self.count = count;
    }

    fn offered(&self) -> u64 {
        let offered = self.inner.offered();
        match self.fault {
            DeviceFault::ReadOnlyServed if self.spec.disk.read_only => offered | feature::RO,
            DeviceFault::OfferUnclosed => offered | feature::CONFIG_WCE,
            _ => offered,
        }
    }

    fn negotiate(&mut self, accept: u64) -> bool {
        let offered = self.inner.offered();
        let accept = match self.fault {
            DeviceFault::FlushRefusalIgnored if accept & feature::CONFIG_WCE == 0 => {
                accept | offered & feature::FLUSH
            }
            DeviceFault::AcceptsAnything | DeviceFault::OfferUnclosed => accept & offered,
            DeviceFault::ReadOnlyServed => accept & !feature::RO,
            _ => accept,
        };
        self.inner.negotiate(accept)
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        self.inner.config_read(offset, out);
        if offset == config::WRITEBACK {
            match self.fault {
                DeviceFault::WritebackStuck => out[0] = 1,
                DeviceFault::WritebackNotReset => {
                    if let Some(stale) = self.stale_mode {
                        out[0] = stale;
                    }
                    self.mode = out[0];
                }
                _ => {}
            }
        }
    }

    fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        self.stale_mode = None;
        self.inner.config_write(offset, bytes);
    }

    fn start(&mut self, rings: &[RingPlan]) {
        self.rings = rings.to_vec();
        self.inner.start(rings);
    }

    fn kick(&mut self, queue: u16) {
        if self.fault == DeviceFault::LostKick && self.now_and_then() {
            return;
        }
        self.inner.kick(queue);
    }

    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        let spoils = matches!(self.fault, DeviceFault::LengthOneMore | DeviceFault::UsedTwice);
        let before = if spoils { self.used_idx(queue, host) } else { 0 };
        let progress = self.inner.step(queue, host);
        if spoils {
            self.spoil_used(queue, before, host);
        }
        if progress == Progress::Signal
            && self.fault == DeviceFault::LostSignal
            && self.now_and_then()
        {
            return Progress::Busy;
        }
        progress
    }

    fn begin_reset(&mut self, host: &mut Host<'_>) {
        match self.fault {
            DeviceFault::LateAfterReset => {
                self.inner.registers = Registers::open(&self.spec);
                host.disk.orphan(host.device);
            }
            DeviceFault::WritebackNotReset => {
                let mut byte = [0];
                self.inner.config_read(config::WRITEBACK, &mut byte);
                self.stale_mode = Some(byte[0]);
                self.inner.begin_reset(host);
            }
            _ => self.inner.begin_reset(host),
        }
    }

    fn reset_done(&mut self) -> bool {
        let done = self.inner.reset_done();
        match self.fault {
            DeviceFault::ResetNeverShows => false,
            DeviceFault::FailureForgottenAtReset => {
                if done {
                    self.inner.registers = Registers::open(&self.spec);
                }
                done
            }
            _ => done,
        }
    }

    fn needs_reset(&mut self) -> bool {
        self.inner.needs_reset()
    }
}
