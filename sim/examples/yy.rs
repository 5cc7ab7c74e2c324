//! scratch
use powerfail::action::Action;
use powerfail::blk::Blk;
use powerfail::dut::DeviceUnderTest;
use powerfail::explore::*;
use powerfail::pmem::Pmem;
use powerfail::shrink::{Effort as Work, shrink};
use powerfail::trace::Signature;
use powerfail::wrong::*;
fn scope(text: &str) -> Scope {
    let mut s = Scope::default();
    let mut w = text.split_whitespace();
    while let (Some(k), Some(v)) = (w.next(), w.next()) {
        match k {
            "--requests" => s.requests = v.parse().unwrap(),
            "--sectors" => s.sectors = v.parse().unwrap(),
            "--in-flight" => s.in_flight = v.parse().unwrap(),
            "--crashes" => s.crashes = v.parse().unwrap(),
            "--faults" => s.faults = v.parse().unwrap(),
            "--resets" => s.resets = v.parse().unwrap(),
            "--kinds" => s.kinds = v.split(',').map(|k| k.parse().unwrap()).collect(),
            "--rows" => s.rows = v.split(',').map(|k| k.parse().unwrap()).collect(),
            "--features" => s.features = 1 << 29,
            _ => panic!("{k}"),
        }
    }
    s.reduction.mirror = false;
    s
}
fn hunt<D: DeviceUnderTest>(setup: D::Setup, scope: &Scope) -> Option<(Counterexample, usize)> {
    let c = shortest::<D>(&setup, scope, Effort::on(2), &Gauge::default())?;
    let s = shrink::<D>(
        &setup,
        c.options,
        c.run,
        &c.actions,
        &Signature::of(&c.failure.violation),
        &Work::plenty(2),
    );
    let n = s.map_or(999, |s| s.actions.len());
    Some((c, n))
}
fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let a: Vec<String> = std::env::args().collect();
    let best = a.len() > 1;
    let scopes = [
        "--requests 1 --sectors 1 --kinds out,in",
        "--requests 2 --crashes 0 --in-flight 3 --kinds out,write-zeroes,discard,in --rows A",
        "--requests 3 --sectors 1 --crashes 0 --in-flight 3 --kinds out,in,flush --rows A,C",
        "--requests 3 --crashes 0 --in-flight 3 --kinds out,in --rows A",
        "--requests 2 --sectors 1 --resets 1 --crashes 0 --in-flight 3 --kinds out,flush,in --rows C",
        "--requests 2 --sectors 1 --kinds out,flush,write-zeroes,discard,unmap,in,id",
        "--requests 2 --kinds out,flush,write-zeroes,discard,in",
        "--requests 3 --kinds out,flush,in --rows A,C,F",
        "--requests 3 --sectors 1 --faults 1 --kinds out,flush --rows C",
        "--requests 3 --sectors 1 --resets 1 --kinds out,flush,in --rows C,G",
        "--requests 3 --sectors 1 --resets 1 --faults 1 --kinds out,flush --rows C",
        "--requests 4 --sectors 1 --crashes 0 --kinds out,in --rows A --in-flight 3",
        "--requests 4 --sectors 1 --crashes 0 --kinds id --rows A --in-flight 3 --features event-idx",
    ];
    for wrong in Wrong::all() {
        if a.len() > 1 && !a[1..].iter().any(|n| n == wrong.name()) {
            continue;
        }
        let t = std::time::Instant::now();
        let mut any = false;
        for text in scopes {
            let scope = scope(text);
            let found = match wrong {
                Wrong::Disk(f) => hunt::<Blk>(Some(f), &scope),
                Wrong::Device(f) => hunt::<WrongDevice>(f, &scope),
                Wrong::Memory(f) => hunt::<Pmem>(Some(f), &scope),
            };
            if let Some((c, n)) = found {
                let sent = c.actions.iter().filter(|a| matches!(a, Action::Send { .. })).count();
                println!(
                    "| {} | `{text}` | {} | {:?} | {} | {} | {:?}",
                    wrong.name(),
                    c.row,
                    c.failure.violation.rule,
                    sent,
                    n,
                    t.elapsed()
                );
                any = true;
                if !best {
                    break;
                }
            }
        }
        if !any {
            println!("| {} | - | {:?}", wrong.name(), t.elapsed());
        }
    }
}
