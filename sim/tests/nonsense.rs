//! Invalid traces: any text is rejected with one clear line or replayed within bounds. No text
//! causes a panic or an endless replay.
//!
//! The bound is on work, not on time: a test checks the number of steps.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use powerfail::base::prng::Prng;
use powerfail::devices::blk::Blk;
use powerfail::dut::DeviceUnderTest;
use powerfail::run::MOST_STEPS;
use powerfail::run::{Judged, Replayed, judge};
use powerfail::trace::Trace;
use powerfail::world::World;
use powerfail_model::Rule;

mod spinning;

use spinning::Spinning;

const SHORT: &str = include_str!("golden/2.trace");

/// Every verb and every kind of word.
const RICH: &str = "powerfail trace 2
tool    powerfail 0.1.0  spec virtio-1.4  profile Strict atom=512
device  blk
disk    wrong:early-flush
broke   stable-write-lost/lost/out  BLK-D-31  5.2.6.2 (3)
seed    1 swarm uniform
run     7
options devices=2 queues=2 ring=8 sectors=16 request-sectors=2 \
offer=flush,config-wce,mq,discard,write-zeroes,indirect,event-idx,version-1 writeback=1 \
segment-sectors=8 segments=3 granule=1024 tear=1 transfer=1048576 discard-granularity=1024 depth=4 \
read-only=no host-may-fail=yes
witness w1=0 f9=any
fails   if and only if w1 is answered before f9 is sent
events  0000000000000001
# A remark.
start a accept=flush,config-wce,mq,discard,indirect,event-idx,version-1 base=65534
start b accept=version-1
send q0 w1 out 0+2 layout=h1d2g0i1e1
send b.q0 r2 in 1+1 layout=h0d0g1i0e0
send q1 d3 discard 2+2,8+1/1
send q1 z4 write-zeroes 2+2
send q0 i5 get-id
send q0 o6 type 77
again q0 5
kick q0
crank q0 steps=3
crank q0 until=q0:write@0+2
effect q0:write@0+2 sectors=0
complete q0:write@0+2 short=1024
crank q1
complete q1:discard@2+2 with=3
await a 1
reap q0 quiet
writeback a 0
write-back 0-3
evict 1
send q0 f9 flush
crank q0 until=9
complete q0:sync errno=5 forgot=0-1,4
complete b.q0:read@25+1 errno=5 landed=25
reset b
status b
crash backend b
send q0 w10 out 4+1 short-by=7
send q1 w11 out 4+1 spoiled=loop
jump q1
await a 9
rest
crash power survivors=0,2-5
start a accept=flush,version-1
send q0 r12 in 0+2
await a 12
rest
end
";

/// The most steps of one line beyond the bound of a replay.
const LAST_LINE: u64 = 2_000_000;

fn judged<D: DeviceUnderTest<Setup: Default>>(trace: &Trace) -> Judged {
    let mut world = World::<D>::new(D::Setup::default(), trace.shape, trace.run);
    let judged = judge(&mut world, trace);
    let steps = world.stats().steps;
    assert!(steps <= 2 * MOST_STEPS + LAST_LINE, "{steps} steps");
    let events = world.journal().map_or(0, |journal| journal.events().len());
    assert!(events as u64 <= MOST_STEPS / 2, "{events} events");
    judged
}

/// Reads a text and replays it, if it is a trace. Returns whether it is one.
fn survive(text: &str) -> bool {
    let done = catch_unwind(AssertUnwindSafe(|| match text.parse::<Trace>() {
        Err(error) => {
            let told = error.to_string();
            assert_eq!(told.lines().count(), 1, "{told}");
            assert!(!told.contains(char::is_control) && told.chars().count() < 300, "{told}");
            assert!(error.line <= text.lines().count().max(1), "{told}");
            false
        }
        Ok(trace) => {
            let judged = judged::<Blk>(&trace);
            let panicked = |rule| rule == Rule::DevicePanicked;
            let failure = judged.failure.as_ref().map(|failure| &failure.violation);
            assert!(!failure.is_some_and(|v| panicked(v.rule)), "{failure:?}");
            true
        }
    }));
    done.unwrap_or_else(|_| panic!("this hurts:\n{}", text.get(..6000).unwrap_or(text)))
}

/// The number of these texts that are traces, and of all.
fn survive_all(texts: impl Iterator<Item = String>) -> (usize, usize) {
    let (mut sensible, mut all) = (0, 0);
    for text in texts {
        sensible += usize::from(survive(&text));
        all += 1;
    }
    println!("{sensible} of {all} are traces");
    (sensible, all)
}

fn with_line(lines: &[&str], at: usize, line: &str) -> String {
    let mut lines = lines.to_vec();
    lines[at] = line;
    lines.join("\n")
}

#[test]
fn the_rich_trace_says_something() {
    let trace: Trace = RICH.parse().unwrap();
    assert_eq!(trace.to_string().parse::<Trace>().unwrap(), trace);
    assert!(survive(RICH) && survive(SHORT));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for text in [SHORT, RICH] {
        for end in 0..text.len() {
            let cut = &text[..end];
            let whole = cut.trim_end() == text.trim_end();
            assert_eq!(cut.parse::<Trace>().is_ok(), whole, "cut at byte {end}");
            survive(cut);
        }
    }
}

#[test]
fn noise_is_refused() {
    let mut prng = Prng::new(1);
    let header = &SHORT[..SHORT.find("start").unwrap()];
    let noise = (0..2000).map(|nth| {
        let len = prng.below(400);
        let bytes: Vec<u8> = (0..len).map(|_| prng.word() as u8 & [0xff, 0x7f][nth % 2]).collect();
        let noise = String::from_utf8_lossy(&bytes).into_owned();
        if nth % 3 == 0 { format!("{header}{noise}") } else { noise }
    });
    assert_eq!(survive_all(noise).0, 0);
}

#[test]
fn lines_and_words_of_other_lines_do_no_harm() {
    let lines: Vec<&str> = RICH.lines().collect();
    let all = |at: usize| {
        let lines = &lines;
        lines.iter().flat_map(move |other| {
            let mine: Vec<&str> = lines[at].split(' ').collect();
            let words = (0..mine.len()).filter_map({
                let mine = mine.clone();
                move |nth| {
                    let mut mine = mine.clone();
                    mine[nth] = other.split(' ').nth(nth)?;
                    Some(with_line(lines, at, &mine.join(" ")))
                }
            });
            words.chain([with_line(lines, at, other)])
        })
    };
    let (sensible, texts) = survive_all((0..lines.len()).flat_map(all));
    assert!(sensible > 100 && texts > 5000, "{sensible} of {texts}");
}

#[test]
fn lines_doubled_dropped_and_shuffled_do_no_harm() {
    let mut prng = Prng::new(2);
    for text in [SHORT, RICH] {
        let lines: Vec<&str> = text.lines().collect();
        let first = lines.iter().position(|line| line.starts_with("start")).unwrap();
        let single = (0..lines.len()).flat_map(|at| {
            let (mut doubled, mut dropped) = (lines.clone(), lines.clone());
            doubled.insert(at, lines[at]);
            dropped.remove(at);
            [doubled.join("\n"), dropped.join("\n")]
        });
        let shuffled = (0..1000).map(|_| {
            let mut lines = lines.clone();
            for at in (first + 1..lines.len() - 1).rev() {
                let with = first + prng.below((at + 1 - first) as u32) as usize;
                lines.swap(at, with);
            }
            lines.join("\n")
        });
        assert!(survive_all(single.chain(shuffled)).0 > 1000);
    }
}

#[test]
fn numbers_of_any_size_do_no_harm() {
    const NUMBERS: [&str; 22] = [
        "",
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "7",
        "8",
        "16",
        "64",
        "120",
        "121",
        "255",
        "256",
        "512",
        "65535",
        "4294967295",
        "4294967296",
        "18446744073709551615",
        "18446744073709551616",
        "-1",
    ];
    for text in [SHORT, RICH] {
        let mut places = Vec::new();
        let mut at = 0;
        while let Some(start) = text[at..].find(|c: char| c.is_ascii_digit()).map(|n| n + at) {
            let len = text[start..].chars().take_while(char::is_ascii_digit).count();
            places.push(start..start + len);
            at = start + len;
        }
        let texts = places.iter().flat_map(|place| {
            NUMBERS
                .iter()
                .map(|number| format!("{}{number}{}", &text[..place.start], &text[place.end..]))
        });
        assert!(survive_all(texts).0 > 200);
    }
}

#[test]
fn options_at_their_extremes_do_no_harm() {
    const VALUES: [&str; 11] =
        ["0", "1", "2", "4", "8", "32", "120", "512", "4096", "1048576", "4294967295"];
    let line = RICH.lines().find(|line| line.starts_with("options")).unwrap();
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    let mut prng = Prng::new(3);
    let texts = (0..8000).map(|_| {
        let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        for _ in 0..1 + prng.below(4) {
            let nth = prng.below(words.len() as u32) as usize;
            let value = VALUES[prng.below(VALUES.len() as u32) as usize];
            let (key, _) = words[nth].split_once('=').unwrap();
            words[nth] = format!("{key}={value}");
        }
        RICH.replacen(line, &format!("options {}", words.join(" ")), 1)
    });
    let (sensible, texts) = survive_all(texts);
    assert!(sensible > 500 && sensible < texts, "{sensible} of {texts}");
}

/// The short trace with additional lines, repeated `times` times.
fn long(times: usize, lines: &str) -> String {
    let (before, after) = SHORT.split_once("await a 1\n").unwrap();
    format!("{before}{}{after}", lines.repeat(times))
}

#[test]
fn lines_without_end_are_done_in_bounded_work() {
    // The short trace does not use these numbers.
    let sends = |count: u32, what: &str| -> String {
        (100..100 + count).map(|id| what.replace("ID", &id.to_string())).collect()
    };
    for lines in [
        long(99_000, "await a 7\n"),
        long(99_000, "await a 1\n"),
        long(99_000, "crank q0\n"),
        long(99_000, "complete q0:write@2+1\n"),
        long(33_000, "complete q0:write@2+1\nkick q0\ncrank q0 until=q0:sync\n"),
        long(99_000, "complete q255:sync errno=5\n"),
        long(99_000, "effect q0:write@0+1 sectors=0\n"),
        long(99_000, "crash power survivors=none\n"),
        long(99_000, "crash backend a\n"),
        long(24_000, "reset a\nawait a 1\nstatus a\nstart a accept=flush,version-1\n"),
        long(99_000, "write-back 0-3\n"),
        long(99_000, "rest\n"),
        long(1, &sends(99_000, "send q0 wID out 0+1\n")),
        long(1, &sends(49_000, "send q0 wID out 0+1\nawait a ID\n")),
        long(1, &sends(24_000, "send q0 wID out 0+1\nkick q0\ncrank q0\ncomplete q0:write@0+1\n")),
    ] {
        let trace: Trace = lines.parse().unwrap_or_else(|e| panic!("{e}"));
        let on = |replayed: Replayed| {
            let ends = matches!(replayed, Replayed::NotReached(_) | Replayed::Passes);
            assert!(ends, "{replayed:?}: {}", &lines[SHORT.find("start").unwrap()..][..160]);
        };
        on(judged::<Blk>(&trace).replayed);
        let spun = judged::<Spinning>(&trace).replayed;
        // At rest, a device that never answers has broken a promise, but not the recorded one.
        let ends = matches!(spun, Replayed::NotReached(_) | Replayed::FailsOtherwise(_));
        assert!(ends, "{spun:?}");
    }
}

#[test]
fn a_number_is_sent_once() {
    let twice = SHORT.replacen("await a 1\n", "send q0 r1 in 0+1\n", 1);
    let error = twice.parse::<Trace>().unwrap_err();
    assert!(error.to_string().ends_with("request 1 is sent twice"), "{error}");
    assert!(error.line > 10);
}

fn replayed(path: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_powerfail"));
    let output = command.arg("replay").arg(path).args(["--device", "blk"]).output();
    let output = output.expect("the program starts");
    let said = String::from_utf8(output.stderr).expect("text");
    (output.status.code(), said)
}

#[test]
fn the_command_refuses_nonsense_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.trace");
    let one_line = "x".repeat(64 << 20);
    let million = "kick q0\n".repeat(1_000_000);
    for (bytes, says) in [
        (&b""[..], "line 1: this is not a trace"),
        (b"\n\n\n", "line 1: this is not a trace"),
        (b"\x7fELF\x02\x01\x01\x00\xff\xfe\x00", "byte 8 is not text"),
        (one_line.as_bytes(), "line 1: this is not a trace"),
        (format!("powerfail trace {}", &one_line[16..]).as_bytes(), "format version `xxx"),
        (format!("{one_line}x").as_bytes(), "larger than"),
        (SHORT.replacen("send", &one_line[..5000], 1).as_bytes(), "longer than 4096 bytes"),
        (long(1, &million).as_bytes(), "a trace has at most 100000 actions"),
        (long(1, &"\n".repeat(1_000_000)).as_bytes(), "a trace has at most 1000000 lines"),
        (SHORT.replacen("trace 2", "trace 99", 1).as_bytes(), "format version `99` is unknown"),
        (SHORT.replacen("trace 2", "trace -2", 1).as_bytes(), "format version `-2` is unknown"),
        (SHORT.replacen("kick", "k\u{1b}[2J\rick", 1).as_bytes(), "there is no action `k\\u{1b}"),
        (SHORT.replacen("\nend", "", 1).as_bytes(), "cut short"),
        (SHORT.replacen("run ", "run 1\nrun ", 1).as_bytes(), "second `run` line"),
    ] {
        fs::write(&path, bytes).unwrap();
        let (code, said) = replayed(&path);
        assert_eq!(code, Some(2), "{says}: {said}");
        assert!(said.contains(says) && said.contains("a.trace"), "{says} expected, said: {said}");
        assert!(said.lines().count() == 1 && said.len() < 1000, "{said}");
    }
    let (code, said) = replayed(dir.path());
    assert_eq!((code, said.lines().count()), (Some(2), 1), "{said}");
}

#[test]
fn the_command_says_when_a_situation_is_not_reached() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.trace");
    let unsent = SHORT.replacen("send q0 r4 in 0+1\n", "", 1);
    for text in [unsent, long(90_000, "crash power survivors=none\n")] {
        fs::write(&path, text).unwrap();
        let (code, said) = replayed(&path);
        assert_eq!(code, Some(5), "{said}");
    }
}
