//! A device that takes its liberties with `Host::choose`: which of its cached writes a power loss
//! leaves. Its twin also drops a write if it chooses so.

use powerfail::dut::toolkit::{DeviceRing, serve};
use powerfail::dut::{DeviceUnderTest, End, Host, Medium, Progress, Spec};
use powerfail::guest::RingPlan;
use powerfail::host::disk::SimDisk;

const VERSION_1: u64 = 1 << 32;
const FLUSH: u64 = 1 << 9;

/// The device. With `SAYS`, it says that it chooses.
#[derive(Clone)]
pub(crate) struct Chooser<const SAYS: bool = true> {
    stable: Vec<u8>,
    cached: Vec<u8>,
    rings: Vec<DeviceRing>,
    drops: bool,
    through: bool,
}

impl<const SAYS: bool> DeviceUnderTest for Chooser<SAYS> {
    /// Whether it is the twin.
    type Setup = bool;
    const MEDIUM: Medium = Medium::Own;
    const CHOOSES: bool = SAYS;

    fn open(drops: &bool, _: &Spec, disk: &SimDisk, device: u8) -> Self {
        let bytes = disk.image(device).to_vec();
        let (stable, cached) = (bytes.clone(), bytes);
        Chooser { stable, cached, rings: Vec::new(), drops: *drops, through: false }
    }

    fn restart(&mut self, _: &bool, _: &Spec, host: &mut Host<'_>, end: End) {
        if end == End::BackendKill {
            return;
        }
        let sectors = self.stable.chunks_mut(512).zip(self.cached.chunks_mut(512));
        for (number, (stable, cached)) in sectors.enumerate().filter(|(_, (a, b))| a != b) {
            match host.choose(2) {
                0 => cached.copy_from_slice(stable),
                _ => {
                    host.note(format_args!("sector {number} survives"));
                    stable.copy_from_slice(cached);
                }
            }
        }
    }

    fn offered(&self) -> u64 {
        VERSION_1 | FLUSH
    }

    fn negotiate(&mut self, accept: u64) -> bool {
        self.through = accept & FLUSH == 0;
        accept & VERSION_1 != 0 && accept & !(VERSION_1 | FLUSH) == 0
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        let capacity = self.stable.len() as u64 / 512;
        out.copy_from_slice(&(if offset == 0 { capacity } else { 0 }).to_le_bytes()[..out.len()]);
    }

    fn start(&mut self, rings: &[RingPlan]) {
        self.rings = rings.iter().map(|plan| DeviceRing::new(*plan)).collect();
    }

    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        let Chooser { stable, cached, rings, drops, through } = self;
        let Some(ring) = rings.get_mut(usize::from(queue)) else { return Progress::Idle };
        let ram = host.ram;
        serve(ring, &ram, |request| {
            let len = if request.kind == 0 { request.data_in } else { request.data_out } as usize;
            let start = request.sector.saturating_mul(512) as usize;
            match (request.kind, cached.get_mut(start..start.saturating_add(len))) {
                (0, Some(place)) if len.is_multiple_of(512) => return (0, place.to_vec()),
                (1, Some(place)) if len.is_multiple_of(512) => {
                    if *drops && host.choose(100) == 42 {
                        host.note("drops the write");
                        return (0, Vec::new());
                    }
                    place.copy_from_slice(&request.data(&ram));
                    if *through {
                        stable.copy_from_slice(cached);
                    }
                }
                (4, _) if len == 0 => stable.copy_from_slice(cached),
                (8, _) if request.data_in == 20 => {
                    return (0, powerfail::world::SERIAL.to_vec());
                }
                _ => return (2, Vec::new()),
            }
            (0, Vec::new())
        })
    }

    fn begin_reset(&mut self, _: &mut Host<'_>) {
        self.rings.clear();
    }

    fn needs_reset(&mut self) -> bool {
        self.rings.iter().any(DeviceRing::is_broken)
    }
}
