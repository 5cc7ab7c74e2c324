//! A device of your own under test: write-through, over a `Vec`.
use powerfail::dut::toolkit::{DeviceRing, serve};
use powerfail::dut::{DeviceUnderTest, End, Host, Medium, Progress, Spec};
use powerfail::guest::RingPlan;
use powerfail::host::disk::SimDisk;

const VERSION_1: u64 = 1 << 32;

/// Its bytes, its serial number, its rings, and whether it forgets every write to sector 0.
#[derive(Clone)]
pub struct Tiny(Vec<u8>, [u8; 20], Vec<DeviceRing>, bool);

impl DeviceUnderTest for Tiny {
    type Setup = bool;
    const MEDIUM: Medium = Medium::Own;

    fn open(forgets: &bool, spec: &Spec, disk: &SimDisk, device: u8) -> Tiny {
        Tiny(disk.image(device).to_vec(), spec.serial, Vec::new(), *forgets)
    }
    fn restart(&mut self, _: &bool, _: &Spec, _: &mut Host<'_>, _: End) {}
    fn offered(&self) -> u64 {
        VERSION_1
    }
    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        let capacity = self.0.len() as u64 / 512;
        out.copy_from_slice(&(if offset == 0 { capacity } else { 0 }).to_le_bytes()[..out.len()]);
    }
    fn start(&mut self, rings: &[RingPlan]) {
        self.2 = rings.iter().map(|plan| DeviceRing::new(*plan)).collect();
    }
    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        let Tiny(bytes, serial, rings, forgets) = self;
        let Some(ring) = rings.get_mut(usize::from(queue)) else { return Progress::Idle };
        serve(ring, &host.ram, |request| {
            let len = if request.kind == 0 { request.data_in } else { request.data_out } as usize;
            let start = request.sector.saturating_mul(512) as usize;
            match (request.kind, bytes.get_mut(start..start.saturating_add(len))) {
                (0, Some(place)) if len % 512 == 0 => return (0, place.to_vec()),
                (1, Some(_)) if len % 512 == 0 && *forgets && start == 0 => {}
                (1, Some(place)) if len % 512 == 0 => {
                    place.copy_from_slice(&request.data(&host.ram))
                }
                (8, _) if request.data_in == 20 => return (0, serial.to_vec()),
                _ => return (2, Vec::new()),
            }
            (0, Vec::new())
        })
    }
    fn begin_reset(&mut self, _: &mut Host<'_>) {
        self.2.clear();
    }
    fn needs_reset(&mut self) -> bool {
        self.2.iter().any(DeviceRing::is_broken)
    }
}

fn main() -> std::process::ExitCode {
    powerfail::main_with::<Tiny>(&[("own", false), ("forgets", true)])
}
