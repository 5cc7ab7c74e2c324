//! Our persistent memory on a real file, mapped: the same seeds, the same oracle, the host's own
//! pages.
//!
//! A word lies at the start of a sector of the file, so the words are on several pages and tear
//! from each other. Each sync is done when it is submitted, so that a run can be repeated. With
//! power cuts the file is under a [file system that forgets](crate::host::power_cut_fs): what was
//! stored and not synced since is cut by the choices of the run. The kernel may write a page
//! earlier than that; what the cut takes, it takes all the same.

use powerfail_device::RegisterSurface;
use std::fs::File;
use std::sync::Arc;

use powerfail_device::host::MappedFile;
use powerfail_device::pmem::{Backing, PmemDevice, Synced, step};
use powerfail_device::vm_memory::{Bytes, VolatileMemory};
use powerfail_device::{Errno, Token};

use super::files::{Files, Lease};
use super::registers;
use crate::base::prng::{Prng, mix};
use crate::base::sectors::SectorSet;
use crate::devices::pmem;
use crate::dut::Spec;
use crate::dut::{DeviceUnderTest, End, Host, Mapping, Medium, OwnMedium, Profile, Progress};
use crate::guest::RingPlan;
use crate::guest::payload::SECTOR;
use crate::guest::{Kind, REGION};
use crate::host::disk::SimDisk;
use crate::host::power_cut_fs::Power;

/// One sync in so many fails, in runs whose host may.
const ONE_FAILS_IN: u32 = 6;

/// How a memory on a file is wrong on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MapFault {
    /// It is not.
    #[default]
    None,
    /// Nothing is synced.
    NoSync,
    /// Only the first page is synced.
    FirstPageOnly,
    /// Another file is synced.
    OtherFile,
}

/// The files of a campaign, and what is wrong with who maps them.
#[derive(Clone, Debug, Default)]
pub struct Maps {
    /// The files.
    pub files: Files,
    /// The fault of the mapping.
    pub fault: MapFault,
}

/// Our persistent memory on a mapped file, with power cuts or without.
#[derive(Debug)]
pub struct PmemFile<const CUTS: bool> {
    device: PmemDevice,
    maps: Maps,
    /// Nothing while another process takes over.
    map: Option<Mapped>,
    lease: Lease,
    host_faults: Prng,
    /// Stored sectors that are not known to be stable.
    stored: SectorSet,
}

/// A mapping whose syncs are done when they are asked for.
#[derive(Debug)]
struct Mapped {
    map: Arc<MappedFile>,
    fault: MapFault,
    done: Option<Synced>,
}

impl Mapped {
    fn open(lease: &Lease, fault: MapFault) -> Mapped {
        let map = MappedFile::open_as(&lease.path, REGION.1);
        let map = map.unwrap_or_else(|error| panic!("the file of this run: {error}"));
        Mapped { map: Arc::new(map), fault, done: None }
    }

    fn sync(&self) -> Result<(), Errno> {
        match self.fault {
            MapFault::None => self.map.sync(),
            MapFault::NoSync => Ok(()),
            MapFault::FirstPageOnly => first_page(&self.map),
            MapFault::OtherFile => {
                let other = File::open("/").and_then(|other| other.sync_all());
                other.map_err(|_| Errno::EIO)
            }
        }
    }
}

/// Syncs the first page of a mapping alone.
fn first_page(map: &MappedFile) -> Result<(), Errno> {
    let start = map.memory().ptr_guard_mut().as_ptr();
    // SAFETY: the mapping is there for as long as `map` is, and longer than a page.
    match unsafe { libc::msync(start.cast(), 4096, libc::MS_SYNC) } {
        0 => Ok(()),
        _ => Err(Errno::EIO),
    }
}

impl Backing for Mapped {
    fn room(&self) -> u32 {
        u32::from(self.done.is_none())
    }

    fn submit(&mut self, token: Token) {
        self.done = Some(Synced { token, result: self.sync() });
    }

    fn complete(&mut self) -> Option<Synced> {
        self.done.take()
    }
}

impl<const CUTS: bool> PmemFile<CUTS> {
    fn mapped(&self) -> &Mapped {
        self.map.as_ref().expect("only a restart takes it away, and puts another there")
    }

    /// Decides over the next sync.
    fn draw_fate(&mut self) {
        let Some(power) = &self.lease.power else { return };
        let fails = self.host_faults.below(ONE_FAILS_IN) == 0;
        let forgets = match self.host_faults.below(3) {
            0 => SectorSet::EMPTY,
            1 => SectorSet::range(0, SectorSet::CAPACITY),
            _ => SectorSet::from_words([(); 4].map(|()| self.host_faults.word())),
        };
        if fails {
            power.fail_next_sync(Errno::EIO, forgets);
        } else {
            power.fail_no_sync();
        }
    }
}

/// A clone has a file of its own, with the same content.
impl<const CUTS: bool> Clone for PmemFile<CUTS> {
    fn clone(&self) -> PmemFile<CUTS> {
        let lease = self.maps.files.lease();
        let mut bytes = vec![0; REGION.1 as usize];
        let memory = self.mapped().map.memory();
        memory.read_slice(&mut bytes, 0).expect("it is as long");
        lease.fill(&bytes).expect("the file is copied");
        let map = Mapped::open(&lease, self.maps.fault);
        if let (Some(mine), Some(theirs)) = (&lease.power, &self.lease.power) {
            mine.copy_from(theirs);
        }
        PmemFile {
            device: self.device.clone(),
            maps: self.maps.clone(),
            map: Some(Mapped { done: self.mapped().done, ..map }),
            lease,
            host_faults: self.host_faults.clone(),
            stored: self.stored,
        }
    }
}

impl<const CUTS: bool> DeviceUnderTest for PmemFile<CUTS> {
    type Setup = Maps;

    const MEDIUM: Medium = if CUTS { Medium::Own } else { Medium::FaultFree };
    const KINDS: [Kind; 2] = [Kind::Memory; 2];
    const PROFILE: Profile = Profile::Strict;
    const RING_BASE: bool = true;

    /// # Panics
    /// If the file cannot be written or mapped.
    fn open(maps: &Maps, spec: &Spec, disk: &SimDisk, device: u8) -> PmemFile<CUTS> {
        let lease = maps.files.lease();
        let mut image = disk.image(device).to_vec();
        image.resize(REGION.1 as usize, 0);
        if let Err(error) = lease.fill(&image) {
            panic!("{}: {error}", lease.path.display());
        }
        assert!(lease.power.is_some() == CUTS, "the files have a switch iff their power is cut");
        let seed = mix(disk.load(device, 0));
        PmemFile {
            device: pmem::device(spec),
            maps: maps.clone(),
            map: Some(Mapped::open(&lease, maps.fault)),
            lease,
            host_faults: Prng::new(seed),
            stored: SectorSet::EMPTY,
        }
    }

    fn restart(&mut self, _: &Maps, spec: &Spec, _: &mut Host<'_>, end: End) {
        self.device = pmem::device(spec);
        if let Some(power) = &self.lease.power {
            // Opening must not fail: a backend that cannot sync does not start.
            power.fail_no_sync();
        }
        // Unmapping hands the dirty pages to the file.
        self.map = None;
        match (&self.lease.power, end) {
            (Some(power), End::PowerLoss { survivors }) => power.cut(survivors),
            (Some(power), End::BackendKill) => power.remember(),
            (None, _) => {}
        }
        self.map = Some(Mapped::open(&self.lease, self.maps.fault));
        // Opening syncs first.
        self.stored = SectorSet::EMPTY;
    }

    fn offered(&self) -> u64 {
        self.device.offered()
    }

    fn negotiate(&mut self, accept: u64) -> bool {
        registers::negotiate(&mut self.device, accept)
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        self.device.config_read(offset, out);
    }

    fn start(&mut self, rings: &[RingPlan]) {
        pmem::start(&mut self.device, &rings[0]);
    }

    fn kick(&mut self, _queue: u16) {
        if let Some((queue, _)) = self.device.queue_mut() {
            queue.handle_kick();
        }
    }

    fn step(&mut self, _queue: u16, host: &mut Host<'_>) -> Progress {
        if host.may_fail {
            self.draw_fate();
        }
        let failures = |device: &PmemFile<CUTS>| device.lease.power.as_ref().map(Power::failures);
        let before = failures(self);
        let Some((queue, ring)) = self.device.queue_mut() else { return Progress::Idle };
        let map = self.map.as_mut().expect("only a restart takes it away");
        let done = registers::progress(step(queue, ring, map, &host.ram));
        if self.mapped().done.is_some_and(|synced| synced.result.is_ok()) {
            // Nothing was stored since it was submitted, for it was done in this step.
            if self.maps.fault == MapFault::None {
                self.stored = SectorSet::EMPTY;
            }
        }
        if failures(self) > before {
            host.failed_sync();
        }
        done
    }

    fn begin_reset(&mut self, _host: &mut Host<'_>) {
        self.device.set_status(0);
    }

    fn reset_done(&mut self) -> bool {
        self.device.status() == 0
    }

    fn needs_reset(&mut self) -> bool {
        registers::needs_reset(&mut self.device)
    }

    fn take_config_signal(&mut self) -> bool {
        self.device.take_config_signal()
    }

    fn own_medium(&self) -> Option<&impl OwnMedium> {
        CUTS.then_some(self)
    }

    fn mapping(&mut self) -> Option<&mut impl Mapping> {
        Some(self)
    }
}

impl<const CUTS: bool> OwnMedium for PmemFile<CUTS> {
    fn dirty(&self) -> SectorSet {
        self.stored
    }
}

impl<const CUTS: bool> Mapping for PmemFile<CUTS> {
    fn store(&mut self, word: u32, value: u64, _host: &mut Host<'_>) {
        let memory = self.mapped().map.memory();
        let stored = memory.get_array_ref(word as usize * SECTOR, 1);
        stored.expect("there is such a word").store(0, value.to_le());
        self.stored.insert(word);
    }

    fn load(&mut self, word: u32, _host: &mut Host<'_>) -> u64 {
        let memory = self.mapped().map.memory();
        let word = memory.get_array_ref::<u64>(word as usize * SECTOR, 1);
        u64::from_le(word.expect("there is such a word").load(0))
    }
}
