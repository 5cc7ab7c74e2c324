//! A device whose calls are marked, so that its panics can be told from ours.

use super::caught::of_device;
use super::{DeviceUnderTest, End, Host, Managed, Mapping, Medium, OwnMedium, Profile, Progress};
use super::{RingPlan, Spec};
use crate::guest::Kind;
use crate::host::disk::SimDisk;

/// A device in the world: every call of the core methods, and every copy, is marked as [the
/// device's](of_device). The parts are not; their callers mark them.
#[derive(Debug)]
pub(crate) struct Marked<D>(D);

impl<D: Clone> Clone for Marked<D> {
    fn clone(&self) -> Marked<D> {
        Marked(of_device(|| self.0.clone()))
    }
}

impl<D: DeviceUnderTest> DeviceUnderTest for Marked<D> {
    type Setup = D::Setup;

    const MEDIUM: Medium = D::MEDIUM;
    const KINDS: [Kind; 2] = D::KINDS;
    const PROFILE: Profile = D::PROFILE;
    const RING_BASE: bool = D::RING_BASE;
    const CHOOSES: bool = D::CHOOSES;
    const BACKGROUND: bool = D::BACKGROUND;
    const PLAIN_MEDIUM: bool = D::PLAIN_MEDIUM;
    const SPARSE: bool = D::SPARSE;
    const REPEATABLE: bool = D::REPEATABLE;
    const COPIES: bool = D::COPIES;

    fn open(setup: &D::Setup, spec: &Spec, disk: &SimDisk, device: u8) -> Marked<D> {
        Marked(of_device(|| D::open(setup, spec, disk, device)))
    }

    fn restart(&mut self, setup: &D::Setup, spec: &Spec, host: &mut Host<'_>, end: End) {
        of_device(|| self.0.restart(setup, spec, host, end));
    }

    fn offered(&self) -> u64 {
        of_device(|| self.0.offered())
    }

    fn negotiate(&mut self, accept: u64) -> bool {
        of_device(|| self.0.negotiate(accept))
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        of_device(|| self.0.config_read(offset, out));
    }

    fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        of_device(|| self.0.config_write(offset, bytes));
    }

    fn start(&mut self, rings: &[RingPlan]) {
        of_device(|| self.0.start(rings));
    }

    fn kick(&mut self, queue: u16) {
        of_device(|| self.0.kick(queue));
    }

    #[inline]
    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        of_device(|| self.0.step(queue, host))
    }

    fn background(&mut self, host: &mut Host<'_>) -> Progress {
        of_device(|| self.0.background(host))
    }

    fn begin_reset(&mut self, host: &mut Host<'_>) {
        of_device(|| self.0.begin_reset(host));
    }

    fn reset_done(&mut self) -> bool {
        of_device(|| self.0.reset_done())
    }

    fn needs_reset(&mut self) -> bool {
        of_device(|| self.0.needs_reset())
    }

    fn take_config_signal(&mut self) -> bool {
        of_device(|| self.0.take_config_signal())
    }

    fn carries(&self) -> Option<u64> {
        of_device(|| self.0.carries())
    }

    fn lifecycle(&mut self) -> Option<&mut impl Managed> {
        self.0.lifecycle()
    }

    fn own_medium(&self) -> Option<&impl OwnMedium> {
        self.0.own_medium()
    }

    fn mapping(&mut self) -> Option<&mut impl Mapping> {
        self.0.mapping()
    }
}
