//! Exports of a trace: images are possible results of a power loss, a log that is read according to
//! the kernel's documentation of the format replays to the same disk, and a folder of traces judges
//! any device.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use powerfail::base::sectors::SectorSet;
use powerfail::devices::blk::Blk;
use powerfail::devices::faulty::{DiskFault, FaultyDisk, WrongDisk};
use powerfail::devices::pmem::Pmem;
use powerfail::dut::Spec;
use powerfail::dut::{DeviceUnderTest, Host, Medium, Progress};
use powerfail::export::image::{Survivors, image};
use powerfail::export::log_writes::log_writes;
use powerfail::export::{first_power_loss, replay_before};
use powerfail::guest::RingPlan;
use powerfail::host::disk::SimDisk;
use powerfail::replay_dir;
use powerfail::run::Replayed;
use powerfail::run::{Plan, run_number, run_seed, world};
use powerfail::schedule::options::Preset;
use powerfail::trace::Trace;
use powerfail::world::World;

/// A flush that is answered without a sync, with eight sectors in the cache.
const TRACE: &str = "powerfail trace 2
device  blk
disk    wrong:early-flush
broke   stable-write-lost/lost/out
run     2995552337
options devices=1 queues=1 ring=32 sectors=64 request-sectors=8 offer=0x130007e46 writeback=1 segment-sectors=64 segments=3 granule=512 tear=1 transfer=1048576 discard-granularity=512 depth=32 read-only=no host-may-fail=no
witness w48=0 f61=any r65=any
events  0
start a accept=0x130007e46
send q0 w48 out 0+8
kick q0
crank q0
complete q0:write@0+8
await a 48
send q0 f61 flush
rest
crash power survivors=6
start a accept=0x130007e46
send q0 r65 in 0+8
await a 65
end
";
const SECTOR: usize = 512;

/// A reader of logs, written from `Documentation/admin-guide/device-mapper/log-writes.rst` and the
/// comment on the disk format in `drivers/md/dm-log-writes.c`.
mod reader {
    pub(super) struct Entry {
        pub(super) sector: usize,
        pub(super) sectors: usize,
        pub(super) flags: u64,
        pub(super) data: Vec<u8>,
    }

    impl Entry {
        pub(super) fn is_flush(&self) -> bool {
            self.flags == 1
        }

        pub(super) fn mark(&self) -> Option<&str> {
            (self.flags == 8).then(|| std::str::from_utf8(&self.data).expect("a mark is text"))
        }
    }

    pub(super) fn read(log: &[u8]) -> Vec<Entry> {
        let le64 = |at: usize| u64::from_le_bytes(log[at..at + 8].try_into().unwrap());
        assert_eq!(le64(0), 0x006a_7366_7773_6872, "magic");
        assert_eq!(le64(8), 1, "version");
        assert_eq!(log[24..28], 512u32.to_le_bytes(), "sector size");
        let mut at = 512;
        let mut entries = Vec::new();
        for _ in 0..le64(16) {
            let (sector, sectors) = (le64(at) as usize, le64(at + 8) as usize);
            let (flags, len) = (le64(at + 16), le64(at + 24) as usize);
            assert!([0, 1, 2, 4, 8].contains(&flags), "flags {flags}");
            let data = if flags == 8 {
                assert_eq!(sectors, 0, "a mark covers nothing");
                assert!(len <= 512 - 32, "a mark fits its sector");
                &log[at + 32..at + 32 + len]
            } else if flags == 4 {
                &[]
            } else {
                &log[at + 512..at + 512 + sectors * 512]
            };
            at += 512 + if flags == 8 { 0 } else { data.len() };
            entries.push(Entry { sector, sectors, flags, data: data.to_vec() });
        }
        assert_eq!(at, log.len(), "nothing follows the last entry");
        entries
    }

    /// Replays entries onto a disk.
    pub(super) fn replay(entries: &[Entry], disk: &mut [u8]) {
        for entry in entries.iter().filter(|entry| entry.flags != 8) {
            let place = &mut disk[entry.sector * 512..(entry.sector + entry.sectors) * 512];
            match entry.flags {
                4 => place.fill(0),
                _ => place.copy_from_slice(&entry.data),
            }
        }
    }
}

/// The shipped device on its disk or on a mutant of it.
type MaybeWrong = Blk<Option<FaultyDisk>>;

/// The run of a seed as a trace.
fn trace_of(setup: Option<DiskFault>, plan: Plan, seed: u64) -> Trace {
    let mut world = world::<MaybeWrong>(&setup, plan, seed);
    let mut actions = Vec::new();
    run_seed(&mut world, plan, seed, |action| actions.push(*action));
    let other: Trace = TRACE.parse().unwrap();
    Trace { shape: *world.shape(), run: run_number(seed), actions, ..other }
}

#[derive(Default)]
struct Seen {
    flushes: u32,
    unanswered: u32,
    second_devices: u32,
    /// Sectors that the log has made stable and that a power loss took.
    broken: u32,
}

/// Compares the log of each device of a trace with the images of the same moment.
fn compare(setup: Option<DiskFault>, trace: &Trace, seen: &mut Seen) {
    let mut world = World::<MaybeWrong>::new(setup, trace.shape, trace.run);
    for device in 0..trace.shape.devices {
        let log = log_writes(&mut world, trace, device).unwrap();
        let at = first_power_loss(trace).unwrap_or(trace.actions.len() + 1);
        replay_before(&mut world, trace, 1).unwrap();
        let first = image(world.disk(), device, Survivors::All).unwrap();
        assert!(first.dirty.is_empty());
        replay_before(&mut world, trace, at).unwrap();
        let all = image(world.disk(), device, Survivors::All).unwrap();
        let none = image(world.disk(), device, Survivors::Only(SectorSet::EMPTY)).unwrap();
        assert_eq!((all.kept, none.kept), (all.dirty, SectorSet::EMPTY));
        assert_eq!(all.bytes.len(), world.disk().capacity(device) as usize * SECTOR);

        let entries = reader::read(&log.bytes);
        assert_eq!(entries.len() as u64, log.entries());
        // The disk may have grown: the log has the contents of the new sectors.
        let mut begun = first.bytes.clone();
        begun.resize(all.bytes.len(), 0);
        let mut disk = begun.clone();
        reader::replay(&entries, &mut disk);
        assert!(
            disk == all.bytes,
            "device {device}: the log does not replay to the contents of the disk"
        );

        // Sectors that no entry after a flush touches are stable.
        for (nth, entry) in entries.iter().enumerate() {
            if !entry.is_flush() {
                continue;
            }
            let mut disk = begun.clone();
            reader::replay(&entries[..=nth], &mut disk);
            for sector in 0..disk.len() / SECTOR {
                let touched = entries[nth + 1..].iter().any(|later| range(later).contains(&sector));
                let bytes = sector * SECTOR..(sector + 1) * SECTOR;
                if !touched && disk[bytes.clone()] != none.bytes[bytes] {
                    seen.broken += 1;
                }
            }
        }
        let last = entries.last().and_then(reader::Entry::mark);
        assert_eq!(last, Some(if log.power_lost { "power loss" } else { "end" }));
        let count =
            |is: fn(&reader::Entry) -> bool| entries.iter().filter(|e| is(e)).count() as u32;
        seen.flushes += count(reader::Entry::is_flush);
        seen.unanswered += count(|entry| entry.mark() == Some("unanswered"));
        seen.second_devices += u32::from(device);
    }
}

fn range(entry: &reader::Entry) -> std::ops::Range<usize> {
    entry.sector..entry.sector + entry.sectors
}

#[test]
fn a_log_comes_to_what_the_disk_holds_and_its_flushes_are_true() {
    let mut seen = Seen::default();
    for seed in 0..600 {
        compare(None, &trace_of(None, Plan::default(), seed), &mut seen);
    }
    assert_eq!(seen.broken, 0);
    assert!(seen.flushes > 100, "{}", seen.flushes);
    assert!(seen.unanswered > 20 && seen.second_devices > 20);
}

#[test]
fn a_disk_that_misses_a_sector_is_seen_in_its_log() {
    let plan = Plan { preset: Preset::Bench, ..Plan::default() };
    let fault = Some(DiskFault::SyncMissesSector);
    let mut seen = Seen::default();
    for seed in 0..40 {
        compare(fault, &trace_of(fault, plan, seed), &mut seen);
    }
    assert!(seen.flushes > 0 && seen.broken > 0, "{} flushes", seen.flushes);
}

#[test]
fn a_log_tells_a_lie_about_a_flush_apart() {
    let trace: Trace = TRACE.parse().unwrap();
    let marks = |setup| {
        let mut world = World::<MaybeWrong>::new(setup, trace.shape, trace.run);
        let log = log_writes(&mut world, &trace, 0).unwrap();
        let say = |entry: &reader::Entry| match (entry.mark(), entry.flags) {
            (Some(mark), _) => mark.to_owned(),
            (None, flags) => format!("{flags}:{}+{}", entry.sector, entry.sectors),
        };
        reader::read(&log.bytes).iter().map(say).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(marks(Some(DiskFault::EarlyFlush)), "0:0+8 w48=0 f61=0 power loss");
    assert_eq!(marks(None), "0:0+8 w48=0 1:0+0 f61=0 power loss");
}

fn powerfail(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_powerfail")).args(args).output().expect("the program starts")
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The only line of a rejected command.
fn refused(args: &[&str]) -> String {
    let output = powerfail(args);
    let line = said(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {line}");
    assert!(output.stdout.is_empty() && line.lines().count() == 1, "{args:?}: {line}");
    line
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn the_commands_write_what_the_library_gives() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| shown(&dir.path().join(name));
    let source = place("a.trace");
    fs::write(&source, TRACE).unwrap();
    let line = |args: &[&str]| {
        let output = powerfail(args);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output.stderr));
        said(&output.stdout)
    };
    let (disk, log) = (place("disk.img"), place("log"));
    let about = line(&["image", &source, "-o", &disk, "--survivors", "2,5-60"]);
    assert!(about.contains("64 sectors") && about.contains("8 dirty (0-7), 4 survived"), "{about}");
    assert!(about.contains("action 9 (crash power)"), "{about}");
    let about = line(&["export", &source, "--log-writes", &log]);
    assert!(about.contains("up to the first power loss: 4 entries"), "{about}");

    let trace: Trace = TRACE.parse().unwrap();
    let mut world = World::<WrongDisk>::new(DiskFault::EarlyFlush, trace.shape, trace.run);
    assert_eq!(fs::read(&log).unwrap(), log_writes(&mut world, &trace, 0).unwrap().bytes);
    replay_before(&mut world, &trace, 9).unwrap();
    let survivors = Survivors::Only("2,5-7".parse().unwrap());
    assert_eq!(fs::read(&disk).unwrap(), image(world.disk(), 0, survivors).unwrap().bytes);
}

#[test]
fn nonsense_is_one_line_and_nothing_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| shown(&dir.path().join(name));
    let (source, disk) = (place("a.trace"), place("disk.img"));
    fs::write(&source, TRACE).unwrap();
    let on_file = format!("file:{}", place("backing"));
    for (more, says) in [
        (["--at", "0"], "there is no action 0"),
        (["--at", "14"], "there is no action 14; there are 1 to 12, and 13 is the end"),
        (["--survivors", "0-200"], "there is no sector 72"),
        (["--of", "b"], "has one device"),
        (["--disk", &on_file], "does not use the simulated disk"),
        (["--device", "floppy"], "there is no device `floppy`"),
    ] {
        let line = refused(&["image", &source, "-o", &disk, more[0], more[1]]);
        assert!(line.contains(says), "{line}");
        assert!(!Path::new(&disk).exists(), "{more:?} wrote something");
    }
    fs::write(&disk, b"the user's data").unwrap();
    let line = refused(&["image", &source, "-o", &disk]);
    assert!(line.contains("exists"), "{line}");
    let line = refused(&["export", &source, "--log-writes", &disk]);
    assert!(line.contains("exists"), "{line}");
    assert_eq!(fs::read(&disk).unwrap(), b"the user's data");
    let line = refused(&["export", &place("none"), "--log-writes", &place("log")]);
    assert!(line.contains("cannot read"), "{line}");
    let left = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(left, 2, "a refused command leaves nothing behind");
}

/// A folder with the traces of these names.
fn folder(traces: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in traces {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

#[test]
fn our_device_passes_the_saved_traces() {
    let disks = replay_dir::<Blk>("../traces").unwrap();
    let memories = replay_dir::<Pmem>("../traces").unwrap();
    for replays in [&disks, &memories] {
        replays.assert_none_fails();
        assert!(replays.traces.is_sorted_by(|one, next| one.name < next.name));
    }
    // Each trace concerns one kind of device and says nothing about the other.
    for (disk, memory) in disks.traces.iter().zip(&memories.traces) {
        let passes = [disk, memory].map(|trace| trace.replayed == Replayed::Passes);
        assert!(passes[0] != passes[1], "{}: {passes:?}", disk.name);
    }
    assert_eq!(disks.not_reached(), memories.passed());
}

#[test]
fn a_folder_without_traces_is_no_pass() {
    let none = replay_dir::<Blk>(folder(&[("README.md", "none yet")]).path()).unwrap_err();
    assert!(none.contains("nothing was replayed"), "{none}");
    let missing = replay_dir::<Blk>("no/such/folder").unwrap_err();
    assert!(missing.contains("no/such/folder"), "{missing}");
    let spoiled = [("1.trace", TRACE), ("2.trace", &TRACE.replace("rest", "fly"))];
    let said = replay_dir::<Blk>(folder(&spoiled).path()).unwrap_err();
    assert!(said.contains("2.trace: line 16: there is no action `fly`"), "{said}");
}

/// The shipped device on a disk that answers a flush without a sync.
#[derive(Clone)]
struct Early(WrongDisk);

impl DeviceUnderTest for Early {
    type Setup = ();
    const MEDIUM: Medium = Medium::Simulated;

    fn open((): &(), spec: &Spec, disk: &SimDisk, device: u8) -> Early {
        Early(WrongDisk::open(&DiskFault::EarlyFlush, spec, disk, device))
    }
    fn offered(&self) -> u64 {
        self.0.offered()
    }
    fn negotiate(&mut self, accept: u64) -> bool {
        self.0.negotiate(accept)
    }
    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        self.0.config_read(offset, out);
    }
    fn start(&mut self, rings: &[RingPlan]) {
        self.0.start(rings);
    }
    fn kick(&mut self, queue: u16) {
        self.0.kick(queue);
    }
    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        self.0.step(queue, host)
    }
    fn begin_reset(&mut self, host: &mut Host<'_>) {
        self.0.begin_reset(host);
    }
}

#[test]
fn a_device_that_fails_is_told_of() {
    let unreached = TRACE.replace("send q0 f61 flush", "# no flush");
    let dir = folder(&[("b.trace", TRACE), ("a.trace", &unreached)]);
    let replays = replay_dir::<Early>(dir.path()).unwrap();
    assert_eq!((replays.passed(), replays.failed(), replays.not_reached()), (0, 1, 1));
    let panic = std::panic::catch_unwind(|| replays.assert_none_fails()).unwrap_err();
    let said = panic.downcast_ref::<String>().unwrap();
    assert!(said.contains("b.trace   VIOLATED   a stable write must survive"), "{said}");
    assert!(said.contains("a.trace did not reach its situation"), "{said}");

    let dir = folder(&[("a.trace", &unreached)]);
    let replays = replay_dir::<Early>(dir.path()).unwrap();
    let panic = std::panic::catch_unwind(|| replays.assert_none_fails()).unwrap_err();
    let said = panic.downcast_ref::<String>().unwrap();
    assert!(said.contains("nothing was tested"), "{said}");
}
