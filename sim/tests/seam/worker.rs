//! A device whose background work does everything: its queues only take requests.

use powerfail::dut::toolkit::{BlockRequest, DeviceRing, fail};
use powerfail::dut::{DeviceUnderTest, End, Host, Medium, Progress, Spec};
use powerfail::guest::RingPlan;
use powerfail::host::disk::SimDisk;

/// A mistake in the background.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Slip {
    #[default]
    None,
    /// It finishes one write in eight without doing it.
    Skips,
    /// It signals although it belongs to no queue.
    Signals,
    /// It goes to sleep with a request in hand.
    Sleeps,
    /// Its resets take this many polls.
    SlowReset(u32),
}

#[derive(Clone)]
pub(crate) struct Worker {
    bytes: Vec<u8>,
    rings: Vec<DeviceRing>,
    taken: Vec<(u16, BlockRequest)>,
    signals: Vec<bool>,
    slip: Slip,
    writes: u32,
    lingers: u32,
}

impl DeviceUnderTest for Worker {
    type Setup = Slip;
    const MEDIUM: Medium = Medium::Own;
    const BACKGROUND: bool = true;

    fn open(slip: &Slip, _: &Spec, disk: &SimDisk, device: u8) -> Worker {
        Worker {
            bytes: disk.image(device).to_vec(),
            rings: Vec::new(),
            taken: Vec::new(),
            signals: Vec::new(),
            slip: *slip,
            writes: 0,
            lingers: 0,
        }
    }

    fn restart(&mut self, _: &Slip, _: &Spec, _: &mut Host<'_>, _: End) {
        self.rings.clear();
        self.taken.clear();
        self.lingers = 0;
    }

    fn offered(&self) -> u64 {
        1 << 32
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        let capacity = self.bytes.len() as u64 / 512;
        out.copy_from_slice(&(if offset == 0 { capacity } else { 0 }).to_le_bytes()[..out.len()]);
    }

    fn start(&mut self, rings: &[RingPlan]) {
        self.rings = rings.iter().map(|plan| DeviceRing::new(*plan)).collect();
        self.signals = vec![false; rings.len()];
    }

    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        let index = usize::from(queue);
        let Some(ring) = self.rings.get_mut(index) else { return Progress::Idle };
        if std::mem::take(&mut self.signals[index]) {
            return Progress::Signal;
        }
        let Some(chain) = ring.pop(&host.ram) else { return Progress::Idle };
        let head = chain.head;
        match BlockRequest::parse(&host.ram, chain) {
            Ok(request) => self.taken.push((queue, request)),
            Err(chain) => {
                let len = fail(&host.ram, &chain);
                self.signals[index] |= ring.push(&host.ram, head, len);
            }
        }
        Progress::Busy
    }

    fn background(&mut self, host: &mut Host<'_>) -> Progress {
        if self.taken.is_empty() || self.slip == Slip::Sleeps {
            return Progress::Idle;
        }
        let (queue, request) = self.taken.remove(0);
        let len = if request.kind == 0 { request.data_in } else { request.data_out } as usize;
        let start = request.sector.saturating_mul(512) as usize;
        let place = self.bytes.get_mut(start..start.saturating_add(len));
        let (status, data) = match (request.kind, place) {
            (0, Some(place)) if len.is_multiple_of(512) => (0, place.to_vec()),
            (1, Some(place)) if len.is_multiple_of(512) => {
                self.writes += 1;
                if self.slip != Slip::Skips || !self.writes.is_multiple_of(8) {
                    place.copy_from_slice(&request.data(&host.ram));
                }
                (0, Vec::new())
            }
            (8, _) if request.data_in == 20 => (0, powerfail::world::SERIAL.to_vec()),
            _ => (2, Vec::new()),
        };
        let len = request.answer(&host.ram, status, &data);
        let index = usize::from(queue);
        self.signals[index] |= self.rings[index].push(&host.ram, request.chain.head, len);
        if self.slip == Slip::Signals { Progress::Signal } else { Progress::Woke(queue) }
    }

    fn begin_reset(&mut self, _: &mut Host<'_>) {
        self.rings.clear();
        self.taken.clear();
        if let Slip::SlowReset(polls) = self.slip {
            self.lingers = polls;
        }
    }

    fn reset_done(&mut self) -> bool {
        let done = self.lingers == 0;
        self.lingers = self.lingers.saturating_sub(1);
        done
    }

    fn needs_reset(&mut self) -> bool {
        self.rings.iter().any(DeviceRing::is_broken)
    }
}
