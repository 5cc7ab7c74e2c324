//! A device of your own under test: write-through, over a `Vec`.
use powerfail::disk::SimDisk;
use powerfail::dut::{DeviceUnderTest, End, Host, Progress};
use powerfail::guest::RingPlan;
use powerfail::plug::{BlockRequest, DeviceRing, fail};
use powerfail::spec::Spec;

const VERSION_1: u64 = 1 << 32;

#[derive(Clone)]
struct Tiny { bytes: Vec<u8>, serial: [u8; 20], rings: Vec<DeviceRing> }

impl DeviceUnderTest for Tiny {
    type Setup = ();
    const ON_SIM_DISK: bool = false;
    const SURVIVES_POWER_LOSS: bool = true;

    fn open(_: &(), spec: &Spec, disk: &SimDisk, device: u8) -> Tiny {
        Tiny { bytes: disk.image(device).to_vec(), serial: spec.serial, rings: Vec::new() }
    }
    fn restart(&mut self, _: &(), _: &Spec, _: &SimDisk, _: u8, _: End) { self.rings.clear(); }
    fn offered(&self) -> u64 { VERSION_1 }
    fn negotiate(&mut self, accept: u64) -> bool { accept == VERSION_1 }
    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        out.fill(0);
        if offset == 0 { out.copy_from_slice(&(self.bytes.len() as u64 / 512).to_le_bytes()); }
    }
    fn start(&mut self, rings: &[RingPlan]) {
        self.rings = rings.iter().map(|plan| DeviceRing::new(*plan)).collect();
    }
    fn kick(&mut self, _: u16) {}
    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        let Some(ring) = self.rings.get_mut(usize::from(queue)) else { return Progress::Idle };
        let Some(chain) = ring.pop(&host.ram) else { return Progress::Idle };
        let head = chain.head;
        let len = match BlockRequest::parse(&host.ram, chain) {
            Err(chain) => fail(&host.ram, &chain),
            Ok(request) => {
                let len = if request.kind == 0 { request.data_in } else { request.data_out } as usize;
                let start = usize::try_from(request.sector.saturating_mul(512)).unwrap_or(usize::MAX);
                let place = self.bytes.get_mut(start..start.saturating_add(len));
                match (request.kind, place) {
                    (0, Some(place)) if len % 512 == 0 => request.answer(&host.ram, 0, place),
                    (1, Some(place)) if len % 512 == 0 => {
                        place.copy_from_slice(&request.data(&host.ram));
                        request.answer(&host.ram, 0, &[])
                    }
                    (8, _) if request.data_in == 20 => request.answer(&host.ram, 0, &self.serial),
                    _ => request.answer(&host.ram, 2, &[]),
                }
            }
        };
        if ring.push(&host.ram, head, len) { Progress::Signal } else { Progress::Busy }
    }
    fn begin_reset(&mut self, _: &mut Host<'_>) { self.rings.clear(); }
    fn reset_done(&mut self) -> bool { true }
    fn needs_reset(&mut self) -> bool { self.rings.iter().any(DeviceRing::is_broken) }
}

fn main() -> std::process::ExitCode { powerfail::main::<Tiny>() }
