//! Every format that was ever written stays readable: at least one file of each is kept unchanged.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use powerfail::devices::blk::Blk;
use powerfail::devices::faulty::{Wrong, WrongDevice, WrongDisk, WrongMemory};
use powerfail::dut::DeviceUnderTest;
use powerfail::run::{Replayed, judge};
use powerfail::trace::{Trace, VERSION};
use powerfail::world::World;

/// The kept files: name, the format it is in, and its text.
fn golden() -> Vec<(String, u32, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<(String, u32, String)> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).unwrap();
            let first = text.lines().next().unwrap_or_default();
            let version = first.strip_prefix("powerfail trace ").and_then(|v| v.parse().ok());
            let version = version.unwrap_or_else(|| panic!("{name} begins with `{first}`"));
            (name, version, text)
        })
        .collect();
    files.sort();
    files
}

fn read(name: &str, text: &str) -> Trace {
    text.parse().unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn replayed<D: DeviceUnderTest>(setup: D::Setup, trace: &Trace) -> Replayed {
    judge(&mut World::<D>::new(setup, trace.shape, trace.run), trace).replayed
}

fn on_the_wrong_thing(trace: &Trace) -> Replayed {
    let name = [&trace.device, &trace.disk].into_iter().find_map(|n| n.strip_prefix("wrong:"));
    match name.and_then(Wrong::from_name).expect("it names something wrong") {
        Wrong::Disk(fault) => replayed::<WrongDisk>(fault, trace),
        Wrong::Device(fault) => replayed::<WrongDevice>(fault, trace),
        Wrong::Memory(fault) => replayed::<WrongMemory>(fault, trace),
    }
}

#[test]
fn every_format_has_a_file() {
    let mut files: BTreeMap<u32, usize> = BTreeMap::new();
    for (name, version, _) in golden() {
        let digits = name.chars().take_while(char::is_ascii_digit).collect::<String>();
        assert_eq!(digits.parse(), Ok(version), "{name} is named after its format");
        *files.entry(version).or_default() += 1;
    }
    let versions: Vec<u32> = files.into_keys().collect();
    assert_eq!(versions, (1..=VERSION).collect::<Vec<u32>>());
}

#[test]
fn files_of_every_format_fail_where_they_were_found_and_pass_on_ours() {
    for (name, _, text) in golden() {
        let trace = read(&name, &text);
        assert_eq!(on_the_wrong_thing(&trace), Replayed::Fails, "{name}");
        assert_eq!(replayed::<Blk>((), &trace), Replayed::Passes, "{name} on ours");
    }
}

#[test]
fn what_is_read_in_any_format_is_written_in_the_newest_and_means_the_same() {
    for (name, version, text) in golden() {
        let trace = read(&name, &text);
        let written = trace.to_string();
        assert!(written.starts_with(&format!("powerfail trace {VERSION}\n")), "{name}");
        let again = read(&name, &written);
        assert_eq!(again, trace, "{name}");
        assert_eq!(again.to_string(), written, "{name}");
        assert_eq!(on_the_wrong_thing(&again), Replayed::Fails, "{name}");
        if version == VERSION {
            let without_tool = |text: &str| -> Vec<String> {
                text.lines().filter(|l| !l.starts_with("tool")).map(str::to_owned).collect()
            };
            assert_eq!(without_tool(&written), without_tool(&text), "{name}");
        }
    }
}
