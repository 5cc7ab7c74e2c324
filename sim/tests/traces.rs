//! Every saved trace fails on its mutant, passes on the shipped device, and reaches its situation
//! in both. A trace that was found on the shipped device records a fixed bug.

use std::fs;
use std::path::PathBuf;

use powerfail::devices::blk::Blk;
use powerfail::devices::faulty::{Wrong, WrongDevice, WrongDisk, WrongMemory};
use powerfail::devices::pmem::Pmem;
use powerfail::dut::DeviceUnderTest;
use powerfail::guest::Kind;
use powerfail::run::{Replayed, judge};
use powerfail::trace::Trace;
use powerfail::world::World;

fn traces() -> Vec<(PathBuf, Trace)> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../traces");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "trace"));
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let trace = text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path, trace)
    };
    paths.into_iter().map(read).collect()
}

fn replayed<D: DeviceUnderTest>(setup: D::Setup, trace: &Trace) -> Replayed {
    judge(&mut World::<D>::new(setup, trace.shape, trace.run), trace).replayed
}

#[test]
fn saved_traces_fail_where_they_were_found_and_pass_on_ours() {
    let traces = traces();
    assert!(traces.len() >= 3, "only {} traces", traces.len());
    for (path, trace) in traces {
        let shown = path.display();
        let name = [&trace.device, &trace.disk].into_iter().find_map(|n| n.strip_prefix("wrong:"));
        if let Some(name) = name {
            let wrong = Wrong::from_name(name);
            let wrong = wrong.unwrap_or_else(|| panic!("{shown} names nothing wrong"));
            let there = match wrong {
                Wrong::Disk(fault) => replayed::<WrongDisk>(fault, &trace),
                Wrong::Device(fault) => replayed::<WrongDevice>(fault, &trace),
                Wrong::Memory(fault) => replayed::<WrongMemory>(fault, &trace),
            };
            assert_eq!(there, Replayed::Fails, "{shown} on {name}");
        }
        let here = match trace.shape.kind(0) {
            Kind::Disk => replayed::<Blk>((), &trace),
            Kind::Memory => replayed::<Pmem>((), &trace),
        };
        assert_eq!(here, Replayed::Passes, "{shown} on our device");
    }
}

#[test]
fn a_trace_reads_back_as_it_is_written() {
    for (path, trace) in traces() {
        let again: Trace = trace.to_string().parse().unwrap();
        assert_eq!(again, trace, "{}", path.display());
    }
}
